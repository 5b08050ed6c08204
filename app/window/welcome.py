"""The empty chat: what this is, and three questions to begin with."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from app.window.icons import pixmap
from app.window.theme import Colors
from app.window.widgets import named

__all__ = ["SUGGESTIONS", "WelcomePage"]

SUGGESTIONS = (
    "What is the capital of France?",
    "Explain photosynthesis to a ten-year-old.",
    "Write a short poem about the sea.",
)

_PROMISE = (
    "Three parties compute each answer together. None alone can read your question, the answer, or the model, "
    "if all follow the protocol and no two work together."
)
_DEMO = "In this demo all three run on this one computer: it shows how it works, and protects nothing from its owner."
_WIDTH = 600


class WelcomePage(QWidget):
    """Shown while there is no message."""

    suggested = Signal(str)

    def __init__(self, colors: Colors, parent: QWidget) -> None:
        super().__init__(parent)
        self._mark = QLabel(self, alignment=Qt.AlignmentFlag.AlignCenter)
        self._column = column = QVBoxLayout(self)
        column.setSpacing(9)
        column.addStretch(1)
        column.addWidget(self._mark)
        column.addSpacing(2)
        column.addWidget(self._words("What would you like to ask?", "welcomeTitle"))
        column.addWidget(self._words(_PROMISE, "muted"))
        column.addWidget(self._words(_DEMO, "muted"))
        column.addSpacing(12)
        self.buttons = [self._button(text) for text in SUGGESTIONS]
        for button in self.buttons:
            column.addWidget(button)
        column.addStretch(1)
        self.set_colors(colors)

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        del colors  # the mark has its own
        self._mark.setPixmap(pixmap("trine", "", 48, 2))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """A narrow column in the middle."""
        super().resizeEvent(event)
        side = max((self.width() - _WIDTH) // 2, 0)
        self._column.setContentsMargins(side, 0, side, 0)

    def _words(self, text: str, name: str) -> QLabel:
        return named(QLabel(text, self, alignment=Qt.AlignmentFlag.AlignCenter, wordWrap=True), name)

    def _button(self, text: str) -> QPushButton:
        button = named(QPushButton(text, self), "suggestion")
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.clicked.connect(lambda: self.suggested.emit(text))
        return button
