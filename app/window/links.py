"""What happens to an address in an answer: nothing, until the user has read the whole of it and said yes."""

from __future__ import annotations

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QMessageBox, QWidget

__all__ = ["confirm_and_open"]

_SCHEMES = ("http", "https")
_LONGEST = 1600
"""Characters that can be read in one dialog."""


def confirm_and_open(parent: QWidget, address: QUrl) -> None:
    """Ask, without blocking, whether to open `address` in the browser. Only web addresses are ever opened."""
    whole = address.toString(QUrl.ComponentFormattingOption.FullyEncoded)
    box = QMessageBox(parent.window())
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setTextFormat(Qt.TextFormat.PlainText)
    why_not = _why_not(address, whole)
    if why_not:
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Not opened")
        box.setText(f"This link {why_not}, so it is not opened.")
        box.setInformativeText(_readable(whole[:_LONGEST]))
    else:
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Open this address?")
        box.setText(f"The answer links to {address.host()}. Opening it shows that site that you were here.")
        box.setInformativeText(_readable(whole))
        yes = box.addButton("Open in browser", QMessageBox.ButtonRole.AcceptRole)
        no = box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(no)
        box.setEscapeButton(no)
        yes.clicked.connect(lambda: QDesktopServices.openUrl(address))
    box.open()


def _why_not(address: QUrl, whole: str) -> str:
    if address.scheme().lower() not in _SCHEMES or not address.host():
        return "does not lead to a web page"
    return f"has {len(whole):,} characters, more than anyone reads" if len(whole) > _LONGEST else ""


def _readable(whole: str) -> str:
    """The whole address, with places to break the line."""
    return "\n".join(whole[at : at + 80] for at in range(0, len(whole), 80))
