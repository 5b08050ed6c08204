"""The line at the top: name, model, and what can be done with the whole chat."""

from __future__ import annotations

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QWidget

from app.window.icons import icon, pixmap
from app.window.theme import Colors
from app.window.widgets import FittingLabel, named

__all__ = ["Header"]

_WORDINGS = (("How private is this?", "New chat"), ("Privacy", "New chat"), ("", ""))
"""Of the two buttons, the narrower the window the shorter; their icons stay."""


class Header(QFrame):
    """Name and model on the left, two buttons on the right."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("header")
        mark = QLabel(self)
        mark.setPixmap(pixmap("trine", "", 26, 2))
        self.model = FittingLabel(self, "model")
        self.privacy = QPushButton(self)
        self.privacy.setToolTip("How private is this?")
        self.new = QPushButton(self)
        self.new.setToolTip("New chat (Ctrl+N)")
        self._row = row = QHBoxLayout(self)
        row.setContentsMargins(18, 10, 18, 10)
        row.setSpacing(10)
        row.addWidget(mark)
        row.addWidget(named(QLabel("Trine", self), "title"))
        row.addWidget(self.model, 1)
        for button, name in zip((self.privacy, self.new), _WORDINGS[0], strict=True):
            button.setText(name)
            button.setAccessibleName(name)
            button.setIconSize(QSize(16, 16))
            row.addWidget(button)

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self.new.setIcon(icon("new", colors.text))
        self.privacy.setIcon(icon("shield", colors.accent))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """The longest wording for which there is room."""
        super().resizeEvent(event)
        for wordings in _WORDINGS:
            for button, text in zip((self.privacy, self.new), wordings, strict=True):
                button.setText(text)
            if self._row.minimumSize().width() <= self.width():
                break
