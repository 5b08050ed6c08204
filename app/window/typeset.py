"""Markdown's blocks as paragraphs, lists, tables and frames of a QTextDocument."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it.token import Token
from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFont,
    QFontDatabase,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextFrame,
    QTextFrameFormat,
    QTextLength,
    QTextList,
    QTextListFormat,
    QTextTableFormat,
)

from app.window.code_colors import colored
from app.window.markdown_parts import OuterBlock, restored
from app.window.theme import Colors

__all__ = ["LIST_INDENT", "PLAIN_LINE_HEIGHT", "Typesetter"]

PLAIN_LINE_HEIGHT = 125.0
"""Per cent."""
LIST_INDENT = 30
_LINE_HEIGHT = 140.0
_HEADINGS = {1: 1.45, 2: 1.25, 3: 1.1}
"""Size of a heading in ems; smaller ones are bold text."""
_QUOTE_INDENT = 24
_CODE_SIZE = 0.92
_BREAK = "\u2028"
"""What Qt calls a new line in the same paragraph."""
_MANY_LINES = 400
_ADDRESS = re.compile(r"https?://[^\s<>\"`|\\^{}\u2028]+", re.IGNORECASE)
_BEHIND_ADDRESS = re.compile(r"[.,:;!?'*_~)\]]+$")
_TASK = re.compile(r"\[([ xX])\](?: +|$)")
_ALIGNED = {"text-align:center": Qt.AlignmentFlag.AlignHCenter, "text-align:right": Qt.AlignmentFlag.AlignRight}
_BULLETS = (QTextListFormat.Style.ListDisc, QTextListFormat.Style.ListCircle, QTextListFormat.Style.ListSquare)
_PROPORTIONAL = QTextBlockFormat.LineHeightTypes.ProportionalHeight.value
_FIXED = QTextBlockFormat.LineHeightTypes.FixedHeight.value


@dataclass(slots=True)
class _Open:
    """A list that is being written."""

    form: QTextListFormat
    made: QTextList | None = None
    item_begins: bool = False
    """Whether the next block is the first one of an item, which has the bullet or the number."""


class Typesetter:
    """Writes at the end of a document.

    `fresh` tells whether the last block of the document is still to be filled: the one of an empty document, and the one
    that stands behind each frame and table.
    """

    def __init__(self, document: QTextDocument, colors: Colors, *, fresh: bool) -> None:
        self.fresh = fresh
        self.cursor = QTextCursor(document)
        self.cursor.movePosition(QTextCursor.MoveOperation.End)
        self._colors = colors
        self._em = document.defaultFont().pointSizeF()
        self._lists: list[_Open] = []
        self._quotes = 0
        self._level = 0
        self._fixed = [QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).family(), "DejaVu Sans Mono"]

    @property
    def can_come_back(self) -> bool:
        """Whether what is written from here on can be taken away again, and nothing else.

        Behind an empty paragraph, such as a rule, it cannot: Qt gives that one the form of what is taken away.
        """
        return self.fresh or self.cursor.block().length() > 1

    def write(self, block: OuterBlock, lines: Sequence[str]) -> None:
        """One block of the outermost level; `lines` are those of the whole text."""
        if block.tokens is None:
            form = QTextBlockFormat()
            form.setLineHeight(PLAIN_LINE_HEIGHT, _PROPORTIONAL)
            self._begin(form, QTextCharFormat())
            self._lines("\n".join(lines[block.first : block.end]), QTextCharFormat(), block.end - block.first)
        else:
            self._write(block.tokens)

    def _write(self, tokens: Sequence[Token]) -> None:
        at = 0
        while at < len(tokens):
            token = tokens[at]
            match token.type:
                case "inline":
                    self._paragraph(token)
                case "formula":
                    self._begin(self._form(), self._characters())
                    self.cursor.insertText(restored(token.content.strip("\n")).replace("\n", _BREAK), self._characters())
                case "fence" | "code_block":
                    language, _, more = restored(token.info).strip().partition(" ")
                    self._code(restored(token.content).removesuffix("\n"), language.lower(), more)
                case "table_open":
                    end = next(i for i in range(at, len(tokens)) if tokens[i].type == "table_close")
                    self._table(tokens[at:end])
                    at = end
                case "hr":
                    self._rule()
                case _:
                    self._enter_or_leave(token)
            at += 1

    def _enter_or_leave(self, token: Token) -> None:
        match token.type:
            case "heading_open":
                self._level = int(token.tag[1:])
            case "heading_close":
                self._level = 0
            case "blockquote_open":
                self._hold_item()
                self._quotes += 1
            case "blockquote_close":
                self._quotes -= 1
            case "bullet_list_open" | "ordered_list_open":
                self._hold_item()
                self._lists.append(_Open(self._list_format(token)))
            case "list_item_open":
                self._lists[-1].item_begins = True
            case "list_item_close":
                self._hold_item()  # an empty one
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                if not self._lists and not self.fresh:
                    form = self.cursor.blockFormat()
                    form.setBottomMargin(10)
                    self.cursor.setBlockFormat(form)

    def _list_format(self, token: Token) -> QTextListFormat:
        form = QTextListFormat()
        form.setIndent(len(self._lists) + 1)
        if token.type == "bullet_list_open":
            form.setStyle(_BULLETS[min(len(self._lists), len(_BULLETS) - 1)])
        else:
            form.setStyle(QTextListFormat.Style.ListDecimal)
            form.setStart(min(int(token.attrs.get("start", 1)), 2**31 - 1))
            form.setNumberSuffix(token.markup or ".")
        return form

    def _hold_item(self) -> None:
        """What an item begins with has no bullet of its own: an empty line gets it."""
        if self._lists and self._lists[-1].item_begins:
            self._begin(self._form(), self._characters())

    def _paragraph(self, token: Token) -> None:
        children = token.children or []
        form = self._form()
        task = _TASK.match(children[0].content) if children and children[0].type == "text" else None
        if task is not None and self._lists and self._lists[-1].item_begins:
            done = task.group(1) != " "
            form.setMarker(QTextBlockFormat.MarkerType.Checked if done else QTextBlockFormat.MarkerType.Unchecked)
            children[0].content = children[0].content[task.end() :]
        self._begin(form, self._characters())
        self._inline(children, self._characters())

    def _form(self) -> QTextBlockFormat:
        form = QTextBlockFormat()
        form.setLineHeight(_LINE_HEIGHT, _PROPORTIONAL)
        form.setTopMargin(14 if self._level and self.cursor.position() else 0)
        form.setBottomMargin(6 if self._level else 4 if self._lists else 10)
        if self._level:
            form.setHeadingLevel(self._level)
        if self._quotes:
            form.setProperty(QTextFormat.Property.BlockQuoteLevel, self._quotes)
            form.setLeftMargin(self._quotes * _QUOTE_INDENT)
        if self._lists and not self._lists[-1].item_begins:
            form.setIndent(len(self._lists))
        return form

    def _characters(self) -> QTextCharFormat:
        form = QTextCharFormat()
        if self._level:
            form.setFontPointSize(self._em * _HEADINGS.get(self._level, 1.0))
            form.setFontWeight(QFont.Weight.DemiBold)
        if self._quotes:
            form.setForeground(QColor(self._colors.muted))
        return form

    def _begin(self, form: QTextBlockFormat, characters: QTextCharFormat) -> None:
        """A new block, in the list whose item begins with it."""
        if self.fresh:
            self.cursor.setBlockFormat(form)
            self.cursor.setBlockCharFormat(characters)
            self.cursor.setCharFormat(characters)
        else:
            self.cursor.insertBlock(form, characters)
        self.fresh = False
        if self._lists and self._lists[-1].item_begins:
            inner = self._lists[-1]
            inner.item_begins = False
            if inner.made is None:
                inner.made = self.cursor.createList(inner.form)
            else:
                inner.made.add(self.cursor.block())

    def _inline(self, tokens: Sequence[Token], base: QTextCharFormat) -> None:
        formats = [base]
        for token in tokens:
            match token.type:
                case "softbreak" | "hardbreak":  # a model means the lines that it writes
                    self.cursor.insertText(_BREAK, formats[-1])
                case "code_inline":
                    self.cursor.insertText(restored(token.content), self._code_format(formats[-1], ground=True))
                case "image":
                    alt = restored(token.content).strip()
                    words = self._with(formats[-1], italic=True, color=self._colors.muted)
                    self.cursor.insertText(f"[image not loaded{': ' if alt else ''}{alt}]", words)
                case "text":
                    self._text(restored(token.content), formats[-1])
                case _ if token.nesting > 0:
                    formats.append(self._entered(token, formats[-1]))
                case _ if token.nesting < 0:
                    formats.pop()
                case _:
                    self.cursor.insertText(restored(token.content).replace("\n", _BREAK), formats[-1])

    def _entered(self, token: Token, around: QTextCharFormat) -> QTextCharFormat:
        match token.type:
            case "em_open":
                return self._with(around, italic=True)
            case "strong_open":
                return self._with(around, bold=True)
            case "s_open":
                return self._with(around, struck=True)
            case "link_open":
                return self._with(around, address=restored(str(token.attrs.get("href", ""))))
        return around

    def _with(
        self,
        around: QTextCharFormat,
        *,
        bold: bool = False,
        italic: bool = False,
        struck: bool = False,
        color: str = "",
        address: str = "",
    ) -> QTextCharFormat:
        form = QTextCharFormat(around)
        if bold:
            form.setFontWeight(QFont.Weight.Bold)
        if italic:
            form.setFontItalic(True)
        if struck:
            form.setFontStrikeOut(True)
        if color or address:
            form.setForeground(QColor(color or self._colors.accent))
        if address:
            form.setAnchor(True)
            form.setAnchorHref(address)
            form.setFontUnderline(True)
        return form

    def _text(self, text: str, form: QTextCharFormat) -> None:
        """Text, and the addresses in it as links."""
        at = 0
        if "://" in text and not form.isAnchor():
            for found in _ADDRESS.finditer(text):
                address = found.group()
                if address.count("(") < address.count(")") or not address.endswith(")"):
                    address = _BEHIND_ADDRESS.sub("", address)
                self.cursor.insertText(text[at : found.start()], form)
                self.cursor.insertText(address, self._with(form, address=address))
                at = found.start() + len(address)
        self.cursor.insertText(text[at:], form)

    def _code_format(self, around: QTextCharFormat, *, ground: bool = False) -> QTextCharFormat:
        form = QTextCharFormat(around)
        form.setFontFamilies(self._fixed)
        form.setFontFixedPitch(True)
        form.setFontPointSize((around.fontPointSize() or self._em) * _CODE_SIZE)
        if ground:
            form.setBackground(QColor(self._colors.code))
        return form

    def _code(self, text: str, language: str, more: str) -> None:
        """Lines of code in a frame of their own ground, wrapped rather than cut, coloured; `more` stood behind the language."""
        self._hold_item()
        frame = QTextFrameFormat()
        frame.setBackground(QColor(self._colors.code))
        frame.setPadding(10)
        frame.setTopMargin(4)
        frame.setBottomMargin(12)
        frame.setLeftMargin(self._indentation())
        inside = self._open_frame(frame)
        line = QTextBlockFormat()
        line.setLineHeight(PLAIN_LINE_HEIGHT, _PROPORTIONAL)
        characters = self._code_format(QTextCharFormat())
        self.cursor.setBlockFormat(line)
        self.cursor.setBlockCharFormat(characters)
        if more:
            self.cursor.insertText(f"{more}\n", self._with(characters, color=self._colors.muted, italic=True))
        for piece, color in colored(language, text, self._colors.code_style):
            self._lines(piece, self._with(characters, color=color), text.count("\n"))
        self._close_frame(inside)

    def _table(self, tokens: Sequence[Token]) -> None:
        rows: list[list[tuple[Token, Token]]] = []
        for at, token in enumerate(tokens):
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                rows[-1].append((token, tokens[at + 1]))
        self._hold_item()
        form = QTextTableFormat()
        form.setBorder(1)
        form.setBorderCollapse(True)
        form.setBorderBrush(QBrush(QColor(self._colors.border)))
        form.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
        form.setCellPadding(6)
        form.setCellSpacing(0)
        form.setTopMargin(8)
        form.setBottomMargin(12)
        form.setLeftMargin(self._indentation())
        form.setHeaderRowCount(1)
        self._flatten_if_fresh()
        table = self.cursor.insertTable(len(rows), len(rows[0]), form)
        for number, row in enumerate(rows):
            for column, (opening, content) in enumerate(row):
                self.cursor = table.cellAt(number, column).firstCursorPosition()
                self._cell(opening, content)
        self._close_frame(table)

    def _cell(self, opening: Token, content: Token) -> None:
        form = QTextBlockFormat()
        form.setLineHeight(_LINE_HEIGHT, _PROPORTIONAL)
        form.setBottomMargin(3)
        form.setAlignment(_ALIGNED.get(str(opening.attrs.get("style", "")), Qt.AlignmentFlag.AlignLeft))
        characters = self._with(self._characters(), bold=opening.type == "th_open")
        self.cursor.setBlockFormat(form)
        self.cursor.setBlockCharFormat(characters)
        self._inline(content.children or [], characters)

    def _rule(self) -> None:
        self._hold_item()
        form = self._form()
        form.setProperty(
            QTextFormat.Property.BlockTrailingHorizontalRulerWidth, QTextLength(QTextLength.Type.PercentageLength, 100)
        )
        form.setBackground(QColor(self._colors.border))
        self._begin(form, QTextCharFormat())

    def _lines(self, text: str, form: QTextCharFormat, count: int) -> None:
        """Lines of which there are `count` in all; Qt takes long for very many blocks."""
        self.cursor.insertText(text if count < _MANY_LINES else text.replace("\n", _BREAK), form)

    def _indentation(self) -> int:
        return self._quotes * _QUOTE_INDENT + len(self._lists) * LIST_INDENT

    def _open_frame(self, form: QTextFrameFormat) -> QTextFrame:
        self._flatten_if_fresh()
        return self.cursor.insertFrame(form)

    def _close_frame(self, frame: QTextFrame) -> None:
        """Go on behind a frame or table, where Qt keeps a block."""
        self.cursor.setPosition(frame.lastPosition() + 1)
        self.fresh = True
        self._flatten_if_fresh()

    def _flatten_if_fresh(self) -> None:
        """Qt keeps an empty line before the first frame and behind each one; it is to have no height."""
        if self.fresh:
            flat = QTextBlockFormat()
            flat.setLineHeight(0.1, _FIXED)
            self.cursor.setBlockFormat(flat)
            self.cursor.setBlockCharFormat(QTextCharFormat())
