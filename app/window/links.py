"""What happens to an address in an answer: nothing, until the user has read the whole of it and said yes."""

from __future__ import annotations

from typing import cast

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QMessageBox, QScrollArea, QWidget

from app.window.widgets import room

__all__ = ["confirm_and_open"]

_SCHEMES = ("http", "https")
_LONGEST = 1600
"""Characters that can be read in one dialog."""
_LINE = 80
_AROUND = QSize(114, 166)
"""What a dialog has beside and around the address, about."""


def confirm_and_open(parent: QWidget, address: QUrl) -> None:
    """Ask, without blocking, whether to open `address` in the browser. Only web addresses are ever opened."""
    whole = address.toString(QUrl.ComponentFormattingOption.FullyEncoded)
    box = QMessageBox(parent.window())
    letters = (room(box).width() - _AROUND.width()) // box.fontMetrics().horizontalAdvance("m")
    letters = max(1, min(_LINE, letters))
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setTextFormat(Qt.TextFormat.PlainText)
    why_not = _why_not(address, whole)
    if why_not:
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Not opened")
        box.setText(f"This link {why_not}, so it is not opened.")
        box.setInformativeText(_readable(whole[:_LONGEST], letters))
    else:
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Open this address?")
        box.setText(f"The answer links to {address.host()}. Opening it shows that site that you were here.")
        box.setInformativeText(_readable(whole, letters))
        yes = box.addButton("Open in browser", QMessageBox.ButtonRole.AcceptRole)
        no = box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(no)
        box.setEscapeButton(no)
        yes.clicked.connect(lambda: QDesktopServices.openUrl(address))
    _let_scroll(box)
    box.open()


def _why_not(address: QUrl, whole: str) -> str:
    if address.scheme().lower() not in _SCHEMES or not address.host():
        return "does not lead to a web page"
    return f"has {len(whole):,} characters, more than anyone reads" if len(whole) > _LONGEST else ""


def _readable(whole: str, letters: int) -> str:
    """The whole address, with places to break the line."""
    return "\n".join(whole[at : at + letters] for at in range(0, len(whole), letters))


def _let_scroll(box: QMessageBox) -> None:
    """Have the address scroll where the screen has no room for all of it: a box of messages is as high as its text."""
    label, grid = box.findChild(QLabel, "qt_msgbox_informativelabel"), box.layout()
    most = room(box).height() - _AROUND.height()
    if not isinstance(label, QLabel) or not isinstance(grid, QGridLayout) or label.sizeHint().height() <= most:
        return
    row, column, rows, columns = cast("tuple[int, int, int, int]", grid.getItemPosition(grid.indexOf(label)))
    area = QScrollArea(box)
    area.setAccessibleName("The address")
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidget(label)
    area.setFixedHeight(max(most, label.fontMetrics().lineSpacing()))
    area.setMinimumWidth(label.sizeHint().width() + area.verticalScrollBar().sizeHint().width())
    grid.addWidget(area, row, column, rows, columns)
