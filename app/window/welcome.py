"""The empty chat: what this is, and three questions to begin with."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from app.window.icons import pixmap
from app.window.theme import Colors
from app.window.widgets import named

__all__ = ["SUGGESTIONS", "Welcome"]

SUGGESTIONS = (
    "What is the capital of France?",
    "Explain photosynthesis to a ten-year-old.",
    "Write a short poem about the sea.",
)


class Welcome(QWidget):
    """Shown while there is no message."""

    suggested = Signal(str)

    def __init__(self, colors: Colors, parent: QWidget) -> None:
        super().__init__(parent)
        self._mark = QLabel(self, alignment=Qt.AlignmentFlag.AlignCenter)
        title = named(QLabel("What would you like to ask?", self, alignment=Qt.AlignmentFlag.AlignCenter), "welcomeTitle")
        words = QLabel(
            "Three parties compute each answer together. None of them alone can read\nyour question, the answer, or the model.",
            self,
            alignment=Qt.AlignmentFlag.AlignCenter,
        )
        words.setObjectName("muted")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        column.addStretch(1)
        column.addWidget(self._mark)
        column.addSpacing(6)
        column.addWidget(title)
        column.addWidget(words)
        column.addSpacing(18)
        self.buttons = [self._button(text) for text in SUGGESTIONS]
        for button in self.buttons:
            column.addWidget(button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)
        self.set_colors(colors)

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        del colors  # the mark has its own
        self._mark.setPixmap(pixmap("trine", "", 56, 2))

    def _button(self, text: str) -> QPushButton:
        button = named(QPushButton(text, self), "suggestion")
        button.setMinimumWidth(380)
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.clicked.connect(lambda: self.suggested.emit(text))
        return button
