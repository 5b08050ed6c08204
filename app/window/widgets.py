"""Widgets with a name: one for the style sheet, one for who cannot see them. And what fits into the room there is."""

from __future__ import annotations

from typing import TypeVar

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QLabel, QScrollArea, QSizePolicy, QToolButton, QWidget

__all__ = ["Bounded", "FittingLabel", "fit_to_screen", "named", "room", "set_state", "tool_button"]

W = TypeVar("W", bound=QWidget)

_FRAME = QSize(16, 44)
"""What a desktop's frame and title bar add to a window, about; Qt knows it only once the window is shown."""


def named(widget: W, name: str) -> W:
    """The widget, known to the style sheet as `#name`."""
    widget.setObjectName(name)
    return widget


def set_state(widget: QWidget, name: str, on: bool) -> None:
    """A state that the style sheet tells as `[name="true"]`."""
    widget.setProperty(name, on)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def tool_button(parent: QWidget, says: str, name: str = "") -> QToolButton:
    """A button that is an icon only: what it does is its tool tip and its accessible name."""
    button = named(QToolButton(parent), name)
    button.setToolTip(says)
    button.setAccessibleName(says)
    return button


def fit_to_screen(window: QWidget, wanted: QSize) -> None:
    """Give a window that is not shown yet the size it wants, or what its screen has room for; the desktop then places it.

    Its least size is bounded likewise: a screen of 1280 by 720 at a scale of 2 has 640 by 360 in all.
    """
    most = room(window)
    window.setMinimumSize(window.minimumSize().boundedTo(most))
    window.resize(wanted.boundedTo(most))


def room(window: QWidget) -> QSize:
    """The largest size of a window on its screen, inside the desktop's frame."""
    return (window.screen().availableSize() - _FRAME).expandedTo(QSize(1, 1))


class FittingLabel(QLabel):
    """One line of text that takes the room it is given: the first of its wordings that fits, else the last one, cut."""

    def __init__(self, parent: QWidget, name: str) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._wordings: tuple[str, ...] = ("",)

    def say(self, *wordings: str) -> None:
        """The same thing said at length, and more shortly."""
        self._wordings = wordings
        self._fit()
        self.updateGeometry()

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """The room of the longest wording."""
        return QSize(self._width(self._wordings[0]), super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """It can do with none."""
        return QSize(0, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """Another width, another wording."""
        super().resizeEvent(event)
        self._fit()

    def _width(self, text: str) -> int:
        return self.fontMetrics().horizontalAdvance(text) + 2

    def _fit(self) -> None:
        fitting = (text for text in self._wordings if self._width(text) <= self.width())
        last = self._wordings[-1]
        text = next(fitting, None)
        self.setText(self.fontMetrics().elidedText(last, Qt.TextElideMode.ElideRight, self.width()) if text is None else text)
        self.setToolTip("" if text == self._wordings[0] else self._wordings[0])
        self.setAccessibleName(self._wordings[0])


class Bounded(QScrollArea):
    """A widget as high as it has to be for its width, up to a bound; beyond that it scrolls."""

    def __init__(self, content: QWidget, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(content)
        self._content = content
        self._most = 1000
        self.hide()

    def set_room(self, most: int) -> None:
        """The height that it may take."""
        self._most = most
        self.fit()

    def fit(self) -> None:
        """Take the height of the content, which is another one or has another width."""
        high = self._content.heightForWidth(self.viewport().width())
        self.setFixedHeight(max(min(high, self._most), 1))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """Another width, another height."""
        super().resizeEvent(event)
        self.fit()
