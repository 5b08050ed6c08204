"""An answer's Markdown as a document that can touch neither network nor disk.

`app.window.markdown_parts` takes the text apart, without HTML, and `app.window.typeset` writes it as paragraphs, lists, tables
and frames. Nothing is ever loaded for an answer: an image is replaced by words, and whatever Qt might still ask for is answered
with nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from PySide6.QtCore import QObject, Qt, QUrl
from PySide6.QtGui import QImage, QTextBlockFormat, QTextCursor, QTextDocument, QTextOption

from app.window.code_colors import colored
from app.window.markdown_parts import Definition, OuterBlock, blocks, clean
from app.window.theme import Colors
from app.window.typeset import LIST_INDENT, PLAIN_LINE_HEIGHT, Typesetter

__all__ = ["AnswerDocument", "warm_up", "wrap_mode"]

MAX_LINES = 2_000
MAX_TYPESET_CHARACTERS = 60_000
"""Of an answer as Markdown, some thirty pages: what is behind them is plain text, so that no answer holds the window up."""
_LONG_WORD = re.compile(r"\S{1500}")
"""Qt looks for the end of each line from the beginning of the word, so that the time grows with the square of its length."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What a document shows, so that a text which only grew is not written again from its beginning."""

    text: str
    colors: Colors
    size: float
    definitions: dict[str, Definition]
    line: int = 0
    """The line of the text in which the last block begins, of those with a whole line: more text can change that one only."""
    position: int = 0
    """Where that block begins in the document."""
    fresh: bool = True
    """Whether it fills the block that stands there, or begins another one."""


class AnswerDocument(QTextDocument):
    """A document that shows Markdown and loads nothing."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setUndoRedoEnabled(False)
        self.setDocumentMargin(0)
        self.setIndentWidth(LIST_INDENT)
        self._written: _Written | None = None
        self._nothing = QImage(1, 1, QImage.Format.Format_ARGB32)
        self._nothing.fill(Qt.GlobalColor.transparent)

    def loadResource(self, kind: int, name: QUrl | str) -> object:  # noqa: N802  Qt's name
        """One empty pixel, whatever an answer names."""
        return self._nothing

    def show_plain(self, text: str) -> None:
        """Replace the contents with text as it is."""
        self._written = None
        self._wrap(text)
        self.setPlainText(text)
        form = QTextBlockFormat()
        form.setLineHeight(PLAIN_LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        cursor = QTextCursor(self)
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.mergeBlockFormat(form)

    def show_markdown(self, text: str, colors: Colors, *, last: bool = False) -> None:
        """Replace the contents; of a text that has only grown, the last block and what is new. About 10 ms a page.

        The `last` time links are found whose addresses stand behind them.
        """
        text = clean(text)
        before, size = self._written, self.defaultFont().pointSizeF()
        if before is None or not text.startswith(before.text) or (before.colors, before.size) != (colors, size):
            before = _Written("", colors, size, {})
        defines = self._write(text, before)
        if last and defines and before.line:
            self._write(text, _Written("", colors, size, {}))

    def _write(self, text: str, before: _Written) -> bool:
        """The text from the last block on that was written before; whether addresses are defined anywhere."""
        self._wrap(text)
        cursor = QTextCursor(self)
        cursor.beginEditBlock()
        cursor.setPosition(before.position)
        cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()
        typesetter = Typesetter(self, before.colors, fresh=before.fresh)
        lines = text.split("\n")
        readable = max(_readable(lines) - before.line, 0)
        del lines[: before.line]
        line, position, fresh = 0, before.position, before.fresh
        definitions = dict(before.definitions)
        found = blocks("\n".join(lines[:readable]), definitions)
        if readable < len(lines):
            found.append(OuterBlock(readable, len(lines), None))
        for block in found:
            if block.is_sure(len(lines) - 1) and typesetter.can_come_back:
                line, position, fresh = block.first, typesetter.cursor.position(), typesetter.fresh
            typesetter.write(block, lines)
        cursor.endEditBlock()
        closed = {name: known for name, known in definitions.items() if name in before.definitions or known.line < line}
        self._written = _Written(text, before.colors, before.size, closed, before.line + line, position, fresh)
        return bool(definitions)

    def _wrap(self, text: str) -> None:
        """Lines end between words; in a text with a word of a thousand letters anywhere."""
        option = self.defaultTextOption()
        mode = wrap_mode(text)
        if option.wrapMode() is not mode:
            option.setWrapMode(mode)
            self.setDefaultTextOption(option)


def wrap_mode(text: str) -> QTextOption.WrapMode:
    """Where lines of `text` may end: between words, or anywhere in a text with a word of more than a thousand letters."""
    modes = QTextOption.WrapMode
    return modes.WrapAnywhere if _LONG_WORD.search(text) else modes.WrapAtWordBoundaryOrAnywhere


def _readable(lines: Sequence[str]) -> int:
    """How many of the lines are taken for Markdown; those behind them are shown as they are written."""
    lengths = accumulate(map(len, lines))
    return sum(length <= MAX_TYPESET_CHARACTERS for length in islice(lengths, MAX_LINES))


def warm_up(colors: Colors) -> None:
    """Load what the commonest language needs, 50 ms of work: for another thread than the window's."""
    colored("python", "pass", colors.code_style)
