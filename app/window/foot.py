"""What stands below the conversation: how the start goes or why it failed, the text field, the status line."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.window.composer import Composer
from app.window.messages import Failure, WaitingSign
from app.window.status import StatusLine
from app.window.theme import COLUMN, Colors
from app.window.widgets import Bounded, named

__all__ = ["Foot"]

_LOW = 190
"""Pixels below the header: a window that is lower leaves out the status line, so that there is room to write."""
_MARGINS = 20
"""Around the parts, about."""
_LEAST = 36


class Foot(QWidget):
    """On a low window it takes less: the text field grows less, and a long error scrolls."""

    def __init__(self, colors: Colors) -> None:
        super().__init__()
        self.setMaximumWidth(COLUMN + 32)
        self.waiting = WaitingSign(self)
        self.trouble = Failure(colors, self)
        self._trouble = named(Bounded(self.trouble, self), "scrolled")
        self.composer = Composer(colors)
        self.status = StatusLine(colors)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 10)
        column.setSpacing(8)
        for widget in (self.waiting, self._trouble, self.composer, self.status):
            column.addWidget(widget)

    def show_trouble(self, title: str, text: str) -> None:
        """Why there is nobody to send to."""
        self.trouble.show_error(title, text)
        self._trouble.show()
        self._trouble.fit()

    def hide_trouble(self) -> None:
        """Another try is made."""
        self.trouble.hide()
        self._trouble.hide()

    def set_room(self, height: int) -> None:
        """So many pixels has the window below its header."""
        self.composer.set_room(height)
        self.status.setVisible(height >= _LOW)
        others = (self.composer, self.status) if height >= _LOW else (self.composer,)
        taken = sum(widget.minimumSizeHint().height() + _MARGINS for widget in others)
        self._trouble.set_room(max(height - taken, _LEAST))
