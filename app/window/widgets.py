"""Widgets with a name: one for the style sheet, one for who cannot see them."""

from __future__ import annotations

from typing import TypeVar

from PySide6.QtWidgets import QToolButton, QWidget

__all__ = ["named", "set_state", "tool_button"]

W = TypeVar("W", bound=QWidget)


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
