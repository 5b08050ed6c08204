"""An answer's Markdown as a document that can touch neither network nor disk.

Qt's own parser, without HTML. What it would load for an answer (it opens images, `file:` ones too) is answered here
with nothing, and every image is replaced by words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]  # has no types
from pygments.styles import get_style_by_name  # type: ignore[import-untyped]  # has no types
from PySide6.QtCore import QObject, Qt, QUrl
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFont,
    QFontDatabase,
    QImage,
    QTextBlock,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextFrameFormat,
    QTextTable,
)

from app.window.theme import Colors

__all__ = ["AnswerDocument", "warm_up"]

_FEATURES = QTextDocument.MarkdownFeature.MarkdownDialectGitHub | QTextDocument.MarkdownFeature.MarkdownNoHTML
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_MATHS = re.compile(r"\\([()\[\]])")
_LINE_HEIGHT = 140.0
"""Per cent."""
_PLAIN_LINE_HEIGHT = 125.0
_HEADINGS = {1: 1.45, 2: 1.25, 3: 1.1}
"""Size of a heading in ems; smaller ones are bold text."""
_LONGEST_HIGHLIGHT = 20_000
"""Characters of a block of code beyond which it stays uncoloured."""


class AnswerDocument(QTextDocument):
    """A document that shows Markdown and loads nothing."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setUndoRedoEnabled(False)
        self.setDocumentMargin(0)
        self._nothing = QImage(1, 1, QImage.Format.Format_ARGB32)
        self._nothing.fill(Qt.GlobalColor.transparent)

    def loadResource(self, kind: int, name: QUrl | str) -> object:  # noqa: N802  Qt's name
        """One empty pixel, whatever an answer names."""
        return self._nothing

    def show_plain(self, text: str) -> None:
        """Replace the contents with text as it is."""
        self.setPlainText(text)
        form = QTextBlockFormat()
        form.setLineHeight(_PLAIN_LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        cursor = QTextCursor(self)
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.mergeBlockFormat(form)

    def show_markdown(self, text: str, colors: Colors) -> None:
        """Replace the contents. Time grows with the text: about 1 ms for a page."""
        self.setMarkdown(_protect_maths(text), _FEATURES)
        cursor = QTextCursor(self)
        cursor.beginEditBlock()
        _replace_images(self, colors)
        _space_blocks(self, colors)
        _style_fragments(self, colors)
        _style_tables(self, colors)
        for first, last in reversed(list(_code_blocks(self))):
            _frame_code(self, first, last, colors)
        cursor.endEditBlock()


def warm_up(colors: Colors) -> None:
    """Load what the commonest language needs, 50 ms of work: for another thread than the window's."""
    _colored("python", "pass", colors.code_style)


def _protect_maths(text: str) -> str:
    r"""Markdown takes the backslash from `\(` and `\[`, which is how models write formulas."""
    pieces = _CODE.split(text)
    pieces[::2] = [_MATHS.sub(r"\\\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _blocks(document: QTextDocument) -> Iterator[QTextBlock]:
    block = document.begin()
    while block.isValid():
        yield block
        block = block.next()


def _fragments(document: QTextDocument) -> list[tuple[int, int, QTextCharFormat]]:
    """(position, length, format) of every run of text of one format."""
    found = []
    for block in _blocks(document):
        iterator = block.begin()
        while not iterator.atEnd():
            fragment = iterator.fragment()
            found.append((fragment.position(), fragment.length(), fragment.charFormat()))
            iterator += 1
    return found


def _select(document: QTextDocument, position: int, length: int) -> QTextCursor:
    cursor = QTextCursor(document)
    cursor.setPosition(position)
    cursor.setPosition(position + length, QTextCursor.MoveMode.KeepAnchor)
    return cursor


def _replace_images(document: QTextDocument, colors: Colors) -> None:
    for position, length, form in reversed(_fragments(document)):
        if form.isImageFormat():
            words = QTextCharFormat()
            words.setForeground(QColor(colors.muted))
            words.setFontItalic(True)
            alt = str(form.property(QTextFormat.Property.ImageAltText) or "").strip()
            _select(document, position, length).insertText(f"[image not loaded{': ' if alt else ''}{alt}]" * length, words)


def _space_blocks(document: QTextDocument, colors: Colors) -> None:
    em = document.defaultFont().pointSizeF()
    for block in _blocks(document):
        form = block.blockFormat()
        level = form.headingLevel()
        form.setLineHeight(_LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        listed = block.textList() is not None and block.next().textList() is not None
        inside = listed or QTextCursor(block).currentTable() is not None
        form.setTopMargin(0 if block.blockNumber() == 0 else 14 if level else 0)
        form.setBottomMargin(3 if inside else 6 if level else 10)
        if form.hasProperty(QTextFormat.Property.BlockTrailingHorizontalRulerWidth):
            form.setBackground(QColor(colors.border))
        cursor = QTextCursor(block)
        cursor.setBlockFormat(form)
        cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
        change = QTextCharFormat()
        if level:
            change.setFontPointSize(em * _HEADINGS.get(level, 1.0))
            change.setFontWeight(QFont.Weight.DemiBold)
        if form.hasProperty(QTextFormat.Property.BlockQuoteLevel):
            change.setForeground(QColor(colors.muted))
        cursor.mergeCharFormat(change)


def _style_fragments(document: QTextDocument, colors: Colors) -> None:
    for position, length, form in _fragments(document):
        change = QTextCharFormat()
        if form.fontFixedPitch():
            change = _code_format(document)
            if not document.findBlock(position).blockFormat().nonBreakableLines():
                change.setBackground(QColor(colors.code))
        if form.isAnchor():
            change.setForeground(QColor(colors.accent))
        if change.propertyCount():
            _select(document, position, length).mergeCharFormat(change)


def _code_format(document: QTextDocument) -> QTextCharFormat:
    form = QTextCharFormat()
    form.setFontFamilies([QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).family(), "DejaVu Sans Mono"])
    form.setFontPointSize(document.defaultFont().pointSizeF() * 0.92)
    return form


def _style_tables(document: QTextDocument, colors: Colors) -> None:
    for frame in document.rootFrame().childFrames():
        if isinstance(frame, QTextTable):
            form = frame.format().toTableFormat()
            form.setBorder(1)
            form.setBorderCollapse(True)
            form.setBorderBrush(QBrush(QColor(colors.border)))
            form.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
            form.setCellPadding(6)
            form.setTopMargin(8)
            form.setBottomMargin(12)
            frame.setFormat(form)


def _code_blocks(document: QTextDocument) -> Iterator[tuple[int, int]]:
    """(first, last) block number of every run of lines of code."""
    first = None
    number = -1
    for number, block in enumerate(_blocks(document)):
        if block.blockFormat().nonBreakableLines():
            first = number if first is None else first
        elif first is not None:
            yield first, number - 1
            first = None
    if first is not None:
        yield first, number


def _frame_code(document: QTextDocument, first: int, last: int, colors: Colors) -> None:
    """Put lines of code into a frame of their own ground, wrapped rather than cut, and colour them."""
    lines = [document.findBlockByNumber(number) for number in range(first, last + 1)]
    language = str(lines[0].blockFormat().property(QTextFormat.Property.BlockCodeLanguage) or "")
    _highlight(document, lines, language, colors)
    around = QTextFrameFormat()
    around.setBackground(QColor(colors.code))
    around.setPadding(10)
    around.setTopMargin(4)
    around.setBottomMargin(12)
    start, end = lines[0].position(), lines[-1].position() + lines[-1].length() - 1
    frame = _select(document, start, end - start).insertFrame(around)
    line = QTextBlockFormat()
    line.setLineHeight(_PLAIN_LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
    _select(document, frame.firstPosition(), frame.lastPosition() - frame.firstPosition()).setBlockFormat(line)
    for position in (frame.firstPosition() - 1, frame.lastPosition() + 1):
        _flatten_if_empty(document.findBlock(position))


def _flatten_if_empty(block: QTextBlock) -> None:
    """Qt leaves an empty line before and behind a frame."""
    if block.isValid() and not block.text():
        flat = QTextBlockFormat()
        flat.setLineHeight(0.1, QTextBlockFormat.LineHeightTypes.FixedHeight.value)
        QTextCursor(block).setBlockFormat(flat)


def _highlight(document: QTextDocument, lines: list[QTextBlock], language: str, colors: Colors) -> None:
    text = "\n".join(line.text() for line in lines)
    start = lines[0].position()
    for at, length, color in _colored(language, text, colors.code_style):
        form = QTextCharFormat()
        form.setForeground(QColor(color))
        _select(document, start + at, length).mergeCharFormat(form)


@lru_cache(maxsize=256)  # a growing answer shows its earlier code again and again
def _colored(language: str, text: str, style: str) -> tuple[tuple[int, int, str], ...]:
    """(place, length, colour) of each word of code that has one."""
    lexer = _lexer(language)
    if lexer is None or len(text) > _LONGEST_HIGHLIGHT:
        return ()
    found = []
    at = 0
    for kind, piece in lexer.get_tokens(text):
        color = _token_color(kind, style)
        if color and piece.strip():
            found.append((at, len(piece), color))
        at += len(piece)
    return tuple(found)


@cache
def _lexer(language: str) -> Any:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ValueError:  # no lexer of that name
        return None


@cache
def _token_color(kind: object, style: str) -> str:
    """`#rrggbb`, or "" for the colour of text."""
    color = get_style_by_name(style).style_for_token(kind)["color"]
    return f"#{color}" if color else ""
