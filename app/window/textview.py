"""Text as high as it is, for a scroll area around it."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QFocusEvent, QKeyEvent, QResizeEvent, QTextCursor, QWheelEvent
from PySide6.QtWidgets import QFrame, QSizePolicy, QTextBrowser, QWidget

from app.window.links import confirm_and_open
from app.window.markdown import AnswerDocument
from app.window.widgets import set_state

__all__ = ["TextView"]

_SCROLLING = (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown, Qt.Key.Key_Up, Qt.Key.Key_Down)


class TextView(QTextBrowser):
    """Text as high as it is, for a scroll area around it: selectable, with links that are asked about first."""

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        document = AnswerDocument(self)
        document.setDefaultFont(self.font())
        self.setDocument(document)
        self.answer_document = document
        self.setOpenLinks(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(name)
        self.anchorClicked.connect(self._open)
        self._changing = False
        document.documentLayout().documentSizeChanged.connect(lambda _: self.fit())
        self.fit()

    def change(self, fill: Callable[[AnswerDocument], None]) -> None:
        """Replace the contents; the selection stays, and the height changes once."""
        cursor = self.textCursor()
        anchor, position = cursor.anchor(), cursor.position()
        self._changing = True
        fill(self.answer_document)
        if anchor != position:
            last = self.answer_document.characterCount() - 1
            cursor = QTextCursor(self.answer_document)
            cursor.setPosition(min(anchor, last))
            cursor.setPosition(min(position, last), QTextCursor.MoveMode.KeepAnchor)
            self.setTextCursor(cursor)
        self._changing = False
        self.fit()

    def fit(self) -> None:
        """Take the height of the text."""
        if not self._changing:
            frame = self.height() - self.viewport().height()
            height = int(self.document().size().height() + 0.999) + frame
            if height != self.height():
                self.setFixedHeight(height)

    def loadResource(self, kind: int, name: QUrl | str) -> object:  # noqa: N802  Qt's name
        """The document answers; this is for whoever asks the view."""
        return self.answer_document.loadResource(kind, name)

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802  Qt's name
        """Whoever came by keyboard sees where they are; a click needs no frame."""
        super().focusInEvent(event)
        by_key = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason)
        set_state(self, "reached", event.reason() in by_key)

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802  Qt's name
        """No frame any more."""
        super().focusOutEvent(event)
        set_state(self, "reached", False)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        """Keys that scroll are the transcript's too."""
        if event.key() in _SCROLLING:
            event.ignore()
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802  Qt's name
        """The transcript scrolls, not a message."""
        event.ignore()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """Another width wraps the text anew."""
        super().resizeEvent(event)
        self.fit()

    def _open(self, address: QUrl) -> None:
        confirm_and_open(self, address)
