"""The messages of the transcript: a question in its bubble, an answer that grows, an error in an answer's place."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import QEvent, QSize, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QFocusEvent,
    QGuiApplication,
    QKeyEvent,
    QResizeEvent,
    QTextCursor,
    QTextDocument,
    QTextOption,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from app.window.icons import icon, pixmap
from app.window.links import confirm_and_open
from app.window.markdown import AnswerDocument
from app.window.theme import Colors
from app.window.widgets import FittingLabel, named, set_state, tool_button

__all__ = ["Answer", "Failure", "Question", "TextView", "Waiting"]

RENDER_INTERVAL_MS = 50
"""A growing answer is rendered at most this often, and never for more than a fifth of the time."""
_BUBBLE_SHARE = 0.82
_ICON = QSize(16, 16)
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
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
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


class Question(QWidget):
    """What the user asked, as it was typed."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.text = text
        self._bubble = named(QFrame(self), "question")
        self.view = TextView("Your message", self._bubble)
        self.view.change(lambda document: document.show_plain(text))
        inside = QVBoxLayout(self._bubble)
        inside.setContentsMargins(16, 11, 16, 8)  # a line keeps its extra height below
        inside.addWidget(self.view)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addStretch(1)
        row.addWidget(self._bubble)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """A bubble is as wide as its text, up to most of the column."""
        super().resizeEvent(event)
        probe = QTextDocument()
        probe.setDocumentMargin(0)
        probe.setDefaultFont(self.view.font())
        probe.setPlainText(self.text)
        wide = min(int(probe.idealWidth()) + 5, int(self.width() * _BUBBLE_SHARE) - 32)
        self.view.setFixedWidth(max(wide, 24))


class Answer(QWidget):
    """An answer: progress first, then text that grows, then its figures; or what went wrong."""

    retry = Signal()

    def __init__(self, author: str, colors: Colors, parent: QWidget) -> None:
        super().__init__(parent)
        self.text = ""
        self.colors = colors
        self._shown = ""
        self._began = time.monotonic()
        self._mark = QLabel(self)
        self._mark.setPixmap(pixmap("trine", "", 20, 2))
        self._author = named(QLabel(self), "author")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._mark)
        head.addWidget(self._author, 1)
        self.progress = Waiting(self)
        self.view = TextView("", self)
        self.view.hide()
        self.failure = Failure(colors, self)
        self.failure.retry.connect(self.retry)
        self.foot = _Foot(colors, self)
        self.foot.copy.clicked.connect(self.copy)
        self.foot.again.clicked.connect(self.retry)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(head)
        for widget in (self.progress, self.view, self.failure, self.foot):
            column.addWidget(widget)
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._render)
        self.set_author(author)

    def set_author(self, author: str) -> None:
        """Who answers, once that is known."""
        self._author.setText(author)
        self.view.setAccessibleName(f"Answer of {author}")

    def append(self, piece: str) -> None:
        """More text; it is seen within `RENDER_INTERVAL_MS` or soon after."""
        self.text += piece
        if not self._timer.isActive():
            self._timer.start(RENDER_INTERVAL_MS)

    def finish(self, *note: str) -> None:
        """The answer is whole, or stopped; `note` says its figures, at length and shorter."""
        self._render()
        self.progress.hide()
        self.foot.show_note(*note, copyable=bool(self.text))

    def fail(self, text: str) -> None:
        """Say what went wrong, behind what came of the answer."""
        self._render()
        self.progress.hide()
        self.failure.show_error("The answer broke off." if self.text else "There is no answer.", text)
        if self.text:
            self.foot.again.hide()  # the failure has a button for that
            self.foot.show_note("", copyable=True)

    def copy(self) -> None:
        """Put the answer on the clipboard as it was written, in Markdown."""
        QGuiApplication.clipboard().setText(self.text)
        self.foot.confirm_copy()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self.colors = colors
        self._shown = ""
        self.failure.set_colors(colors)
        self.foot.set_colors(colors)
        self._render()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  Qt's name
        """Another size of type needs the text laid out anew."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.view.answer_document.setDefaultFont(self.font())

    def _render(self) -> None:
        self._timer.stop()
        if not self.text or self.text == self._shown:
            return
        start = time.monotonic()
        self.progress.hide()
        self.view.show()
        self.view.change(lambda document: document.show_markdown(self.text, self.colors))
        self._shown = self.text
        took = int((time.monotonic() - start) * 1000)
        self._timer.setInterval(max(RENDER_INTERVAL_MS, 4 * took))


class Waiting(QWidget):
    """The sign of life while the prompt is computed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.label = FittingLabel(self, "muted")
        self.label.say("Connecting…")
        self.bar = QProgressBar(self, textVisible=False)
        self.bar.setRange(0, 0)
        self.bar.setAccessibleName("Progress of your message through the model")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 4)
        column.setSpacing(8)
        column.addWidget(self.label)
        column.addWidget(self.bar)

    def show_progress(self, *wordings: str, fraction: float | None = None) -> None:
        """A line of text, at length and shorter, and a part of the whole, None if that is not known."""
        self.label.say(*wordings)
        self.bar.setRange(0, 0 if fraction is None else 1000)
        if fraction is not None:
            self.bar.setValue(int(1000 * fraction))


class Failure(QFrame):
    """An error in the place of an answer, with one way on."""

    retry = Signal()

    def __init__(self, colors: Colors, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("failure")
        self._sign = QLabel(self)
        self._sign.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._title = named(QLabel(self), "failureTitle")
        self.label = QLabel(self, wordWrap=True)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.again = QPushButton("Try again", self)
        self.again.clicked.connect(self.retry)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self._title)
        words.addWidget(self.label)
        words.addSpacing(6)
        words.addWidget(self.again, 0, Qt.AlignmentFlag.AlignLeft)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 14, 16, 14)
        row.setSpacing(12)
        row.addWidget(self._sign)
        row.addLayout(words, 1)
        self.set_colors(colors)
        self.hide()

    def show_error(self, title: str, text: str) -> None:
        """`text` says what, where and what to do."""
        self._title.setText(title)
        self.label.setText(text)
        self.setAccessibleName(f"{title} {text}")
        self.show()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self._sign.setPixmap(pixmap("warning", colors.error_text, 20, 2))


class _Foot(QWidget):
    """What can be done with an answer, and its figures."""

    def __init__(self, colors: Colors, parent: QWidget) -> None:
        super().__init__(parent)
        self.copy = tool_button(self, "Copy this answer")
        self.again = tool_button(self, "Answer again")
        self.note = FittingLabel(self, "meta")  # one that wraps would have all messages laid out thrice at each token
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for button in (self.copy, self.again):
            button.setIconSize(_ICON)
            row.addWidget(button)
        row.addSpacing(6)
        row.addWidget(self.note, 1)
        self._colors = colors
        self._copied = QTimer(self, singleShot=True, interval=1500)
        self._copied.timeout.connect(lambda: self.set_colors(self._colors))
        self.set_colors(colors)
        self.hide()

    def show_note(self, *note: str, copyable: bool) -> None:
        """The answer has ended."""
        self.note.say(*note)
        self.copy.setVisible(copyable)
        self.show()

    def confirm_copy(self) -> None:
        """A tick for a moment."""
        self.copy.setIcon(icon("done", self._colors.good))
        self._copied.start()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self._colors = colors
        self.copy.setIcon(icon("copy", colors.muted))
        self.again.setIcon(icon("retry", colors.muted))
