"""What the user asked, in its bubble: the beginning of a long text, all of it on demand."""

from __future__ import annotations

from itertools import islice

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent, QTextDocument
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.window.textview import TextView
from app.window.widgets import FittingLabel, named

__all__ = ["LeftOut", "Question"]

FOLD_CHARACTERS = 4_000
FOLD_LINES = 60
"""A question that is longer shows its beginning: laying out fifty thousand characters holds the window up for a while."""
_BUBBLE_SHARE = 0.82
_NOT_HEARD = "Not answered: the model will not hear this question"


class _Bubble(QWidget):
    """A text of the user, as it was typed."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.text = text
        self._shown = beginning(text)
        self._bubble = named(QFrame(self), "question")
        self.view = TextView("Your message", self._bubble)
        self.view.change(lambda document: document.show_plain(self._shown))
        inside = QVBoxLayout(self._bubble)
        inside.setContentsMargins(16, 11, 16, 8)  # a line keeps its extra height below
        inside.addWidget(self.view)
        self.unfold = QPushButton(f"Show all {len(text):,} characters", self._bubble)
        self.unfold.clicked.connect(self._unfold)
        self.unfold.setVisible(self._shown != text)
        inside.addWidget(self.unfold, 0, Qt.AlignmentFlag.AlignLeft)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self._bubble)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(6)
        self._column.addLayout(row)
        self._ideal = self._ideal_width()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """A bubble is as wide as its text, up to most of the column."""
        super().resizeEvent(event)
        self.view.setFixedWidth(max(min(self._ideal, int(self.width() * _BUBBLE_SHARE) - 32), 24))

    def _ideal_width(self) -> int:
        probe = QTextDocument()
        probe.setDocumentMargin(0)
        probe.setDefaultFont(self.view.font())
        probe.setPlainText(self._shown)
        return int(probe.idealWidth()) + 5

    def _unfold(self) -> None:
        self._shown = self.text
        self.unfold.hide()
        self.view.change(lambda document: document.show_plain(self._shown))


class Question(_Bubble):
    """What the user asked."""


class LeftOut(_Bubble):
    """A question that another one followed before a word of an answer came: on the screen, and never heard by the model."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(text, parent)
        self.mark = FittingLabel(self, "meta")
        self.mark.say(_NOT_HEARD, "Not answered, not heard")
        self.mark.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._column.addWidget(self.mark)
        self.view.setAccessibleName(f"Your message. {_NOT_HEARD}")


def beginning(text: str) -> str:
    """As much of a long text as is shown at first, at whole lines if there are some; all of a short one."""
    lines = text.splitlines(keepends=True) if len(text) <= FOLD_CHARACTERS else text[:FOLD_CHARACTERS].splitlines(keepends=True)
    first = "".join(islice(lines, FOLD_LINES))
    return text if len(first) == len(text) else f"{first.rstrip()}…"
