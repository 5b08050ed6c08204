"""The transcript: messages in one column, and a view that does not fight the reader."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QScrollBar, QVBoxLayout, QWidget

from app.window.icons import icon
from app.window.messages import AnswerWidget, LeftOut, Question
from app.window.theme import COLUMN, Colors
from app.window.welcome import WelcomePage
from app.window.widgets import named, tool_button

__all__ = ["Transcript"]

_MARGIN = 24
_NEAR = 4
"""Pixels from the end that still count as being there."""


class Transcript(QScrollArea):
    """Questions and answers. It follows the growing answer only while its end is in view.

    Any upward gesture leaves the end at once; reaching the end again, sending, or the "latest" button follows again.
    """

    retry = Signal()
    suggested = Signal(str)

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("transcript")
        self._colors = colors
        self._following = True
        self._value = 0
        self.setWidgetResizable(True)
        self.setMinimumHeight(1)  # on a very low window an error and the text field come first
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Conversation")
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.messages: list[Question | LeftOut | AnswerWidget] = []
        self._former: AnswerWidget | None = None
        scrolled = named(QWidget(), "scrolled")
        self._column = named(QWidget(scrolled), "column")
        self._column.setMaximumWidth(COLUMN)
        self._around = around = QHBoxLayout(scrolled)
        around.setContentsMargins(_MARGIN, 0, _MARGIN, 0)
        around.addStretch(1)
        around.addWidget(self._column, 1000)
        around.addStretch(1)
        self._rows = QVBoxLayout(self._column)
        self._rows.setContentsMargins(0, 24, 0, 28)
        self._rows.setSpacing(26)
        self.welcome = WelcomePage(colors, self._column)
        self.welcome.suggested.connect(self.suggested)
        self._rows.addWidget(self.welcome, 1)
        self._rows.addStretch(0)
        self.setWidget(scrolled)
        self.latest = tool_button(self, "Go to the latest message", "latest")
        self.latest.setFixedSize(34, 34)
        self.latest.setIconSize(QSize(18, 18))
        self.latest.clicked.connect(self.follow)
        self.latest.hide()
        bar = self.verticalScrollBar()
        bar.rangeChanged.connect(self._range_changed)
        bar.valueChanged.connect(self._moved)
        bar.installEventFilter(self)
        self.set_colors(colors)

    @property
    def following(self) -> bool:
        """Whether the view stays at the end while an answer grows."""
        return self._following

    @property
    def question(self) -> str:
        """The text of the last question."""
        return next(message.text for message in reversed(self.messages) if isinstance(message, Question))

    @property
    def former_stands(self) -> bool:
        """Whether the answer that was put aside has a word and the one in its place none."""
        last = self.messages[-1] if self.messages else None
        blank = isinstance(last, AnswerWidget) and not last.text.strip()
        return blank and self._former is not None and bool(self._former.text.strip())

    def ask(self, text: str) -> None:
        """Add a question, and go to the end."""
        self.welcome.hide()
        self._add(Question(text, self._column))
        self.follow()

    def answer(self, author: str) -> AnswerWidget:
        """Add an answer that will grow."""
        answer = AnswerWidget(author, self._colors, self._column)
        answer.retry.connect(self.retry)
        self._add(answer)
        return answer

    def take_back(self) -> str:
        """Take away the last question, which was never sent, and its answer. Return its text."""
        text = self.question
        for message in self.messages[-2:]:
            self._remove(message)
        del self.messages[-2:]
        if not self.messages:
            self.clear()
        return text

    def put_answer_aside(self) -> None:
        """Take the last answer off the screen, for another in its place; `keep_former` brings it back."""
        if self.messages and isinstance(last := self.messages[-1], AnswerWidget):
            self.messages.pop()
            self._former = last
            last.hide()

    def settle_former(self, *, stands: bool) -> None:
        """Whether the answer that was put aside stands, in place of the one after it, or that one in its place."""
        former, self._former = self._former, None
        if former is None:
            return
        if not stands:
            self._remove(former)
            return
        self._remove(self.messages.pop())
        self.messages.append(former)
        former.show()

    def leave_out(self) -> None:
        """Mark the question before the last: it stays on the screen, and the model will not hear it."""
        at = [at for at, message in enumerate(self.messages) if isinstance(message, Question)][-2]
        asked = self.messages[at]
        self.messages[at] = marked = LeftOut(asked.text, self._column)
        self._rows.replaceWidget(asked, marked)
        asked.hide()
        asked.deleteLater()

    def settle(self) -> None:
        """The last question goes out: only the answer below it can be asked for again."""
        for message in self.messages[:-1]:
            if isinstance(message, AnswerWidget):
                message.settle()

    def clear(self) -> None:
        """A new chat."""
        for message in (*self.messages, *filter(None, [self._former])):
            self._remove(message)
        self.messages, self._former = [], None
        self._rows.setStretch(self._rows.count() - 1, 0)  # what is below messages; the welcome is in the middle
        self.welcome.show()
        self.follow()

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._set_following(True)
        bar = self.verticalScrollBar()
        bar.setValue(bar.maximum() if self.messages else 0)

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self._colors = colors
        self.welcome.set_colors(colors)
        self.latest.setIcon(icon("latest", colors.text))
        for message in self.messages:
            if isinstance(message, AnswerWidget):
                message.set_colors(colors)
        self._refresh()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802  Qt's name
        """An upward turn leaves the end before anything has moved."""
        if event.angleDelta().y() > 0:
            self._leave_end()
        super().wheelEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802  Qt's name
        """The same for a turn of the wheel over the scroll bar, and for taking hold of it."""
        if isinstance(watched, QScrollBar):
            turned_up = isinstance(event, QWheelEvent) and event.angleDelta().y() > 0
            if turned_up or event.type() == QEvent.Type.MouseButtonPress:
                self._leave_end()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """The button floats above the end of the column."""
        super().resizeEvent(event)
        self._refresh()
        size = self.viewport().size()
        self.latest.move(QPoint((size.width() - self.latest.width()) // 2, size.height() - self.latest.height() - 14))

    def _refresh(self) -> None:
        """Give the answers in view, and those a page away, the appearance that was set."""
        height = self.viewport().height()
        top = self.verticalScrollBar().value() - height
        for message in self.messages:
            if isinstance(message, AnswerWidget) and message.y() + message.height() >= top and message.y() <= top + 3 * height:
                message.refresh()

    def _add(self, message: Question | AnswerWidget) -> None:
        self._rows.insertWidget(self._rows.count() - 1, message)
        self.messages.append(message)
        message.show()
        self._rows.setStretch(self._rows.count() - 1, 1)

    def _remove(self, message: QWidget) -> None:
        self._rows.removeWidget(message)
        message.hide()
        message.deleteLater()

    def _leave_end(self) -> None:
        if self.verticalScrollBar().maximum() > 0:
            self._set_following(False)

    def _set_following(self, following: bool) -> None:
        self._following = following
        self.latest.setVisible(not following and bool(self.messages))

    def _range_changed(self, _: int, maximum: int) -> None:
        bar = self.verticalScrollBar().sizeHint().width() if maximum > 0 else 0
        self._around.setContentsMargins(_MARGIN, 0, _MARGIN - bar, 0)  # nothing moves when the bar comes
        if self._following and self.messages:
            self.verticalScrollBar().setValue(maximum)
        elif maximum <= 0:
            self._set_following(True)

    def _moved(self, value: int) -> None:
        """Coming down to the end follows again; going up leaves it. Growth moves nothing."""
        self._refresh()
        before, self._value = self._value, value
        at_end = value >= self.verticalScrollBar().maximum() - _NEAR
        if value > before and at_end:
            self._set_following(True)
        elif value < before and not at_end:
            self._set_following(False)
