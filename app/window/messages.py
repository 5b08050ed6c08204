"""The messages of the transcript: a question in its bubble, an answer that grows, an error in an answer's place."""

from __future__ import annotations

import time

from PySide6.QtCore import QEvent, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.window.icons import icon, pixmap
from app.window.question import LeftOut, Question
from app.window.textview import TextView
from app.window.theme import Colors
from app.window.widgets import FittingLabel, named, tool_button

__all__ = ["AnswerWidget", "Failure", "LeftOut", "Question", "TextView", "WaitingSign"]

RENDER_INTERVAL_MS = 50
"""A growing answer is rendered at most this often, and never for more than a fifth of the time."""
_ICON = QSize(16, 16)


class AnswerWidget(QWidget):
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
        self.progress = WaitingSign(self)
        self.view = TextView("", self)
        self.view.hide()
        self._failure: Failure | None = None
        self.foot = _AnswerFoot(colors, self)
        self.foot.copy.clicked.connect(self.copy)
        self.foot.again.clicked.connect(self.retry)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(head)
        for widget in (self.progress, self.view, self.foot):
            column.addWidget(widget)
        self._column = column
        self._pale = False
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(lambda: self._render())  # without the signal's arguments
        self.set_author(author)

    @property
    def failure(self) -> Failure:
        """The place of an error, made when it is needed: it is half of an answer's widgets, and few answers fail."""
        if self._failure is None:
            self._failure = Failure(self.colors, self)
            self._failure.retry.connect(self.retry)
            self._column.insertWidget(self._column.indexOf(self.foot), self._failure)
        return self._failure

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
        self._render(last=True)
        self.progress.hide()
        self.foot.show_note(*note, copyable=bool(self.text))

    def fail(self, text: str) -> None:
        """Say what went wrong, behind what came of the answer."""
        self._render(last=True)
        self.progress.hide()
        self.failure.show_error("The answer broke off." if self.text else "There is no answer.", text)
        if self.text:
            self.foot.again.hide()  # the failure has a button for that
            self.foot.show_note("", copyable=True)

    def fail_again(self, text: str) -> None:
        """Say below the answer, which stands, why there is no other one."""
        self.failure.show_error("There is no other answer: this one stands.", text)
        self.foot.again.hide()

    def settle(self) -> None:
        """More follows: this one cannot be asked for again."""
        self.foot.again.hide()
        if self._failure is not None:
            self._failure.again.hide()

    def copy(self) -> None:
        """Put the answer on the clipboard as it was written, in Markdown."""
        QGuiApplication.clipboard().setText(self.text)
        self.foot.confirm_copy()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance, once it is `refreshed`: a hundred answers that nobody sees would hold the window up."""
        self.colors = colors
        self._pale = True

    def refresh(self) -> None:
        """Take the appearance that was set; called before it comes into view."""
        if self._pale:
            self._pale = False
            self._shown = ""
            self.foot.set_colors(self.colors)
            if self._failure is not None:
                self._failure.set_colors(self.colors)
            self._render(last=not self.foot.isHidden())

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  Qt's name
        """Another size of type needs the text laid out anew."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.view.answer_document.setDefaultFont(self.font())

    def _render(self, *, last: bool = False) -> None:
        self._timer.stop()
        if not self.text or (self.text == self._shown and not last):
            return
        start = time.monotonic()
        self.progress.hide()
        self.view.show()
        self.view.change(lambda document: document.show_markdown(self.text, self.colors, last=last))
        self._shown = self.text
        took = int((time.monotonic() - start) * 1000)
        self._timer.setInterval(max(RENDER_INTERVAL_MS, 4 * took))


class WaitingSign(QWidget):
    """The sign of life while the prompt is computed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.label = FittingLabel(self, "muted")
        self.label.say("Asking the nodes…")
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


class _AnswerFoot(QWidget):
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
