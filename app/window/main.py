"""The chat window."""

from __future__ import annotations

import time

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QCloseEvent,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QResizeEvent,
    QShortcut,
)
from PySide6.QtWidgets import QAbstractButton, QAbstractSlider, QApplication, QHBoxLayout, QMainWindow, QVBoxLayout, QWidget

from app.chat.advice import advised
from app.chat.events import Computing, Done, Event, Failed, Message, Reason, Stands, Started, Text, Waiting
from app.demo.start import Running, Start
from app.window import sentences
from app.window.about import PrivacyDialog
from app.window.foot import Foot
from app.window.header import Header
from app.window.icons import icon
from app.window.messages import AnswerWidget
from app.window.theme import Colors, colors_of_the_system, palette, style_sheet
from app.window.transcript import Transcript
from app.window.widgets import fit_to_screen
from app.window.worker import Job, Worker
from engine.errors import InputError, LinkError

__all__ = ["MainWindow"]

_SIZE = QSize(980, 760)
_START_AGAIN = "\nIf trying again does not help, quit Trine and start it again."
_COMMANDS = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.MetaModifier
_POLL_MS = 400
_LEAVE_MS = 10_000
"""After so long a window that was closed lets go of a worker that hangs."""


class MainWindow(QMainWindow):
    """Header, transcript, composer, status line. `start` brings up the parties, in the worker's thread."""

    closed = Signal()
    """The window is gone and so is everything that it started."""

    def __init__(self, start: Start, colors: Colors | None = None) -> None:
        super().__init__()
        self._start = start
        self._worker: Worker | None = None
        self._running: Running | None = None
        self._answer: AnswerWidget | None = None
        self._asked = ""
        self._queued: Job | None = None
        self._started: Started | None = None
        self._then_new = False
        self._leaving = False
        self._preparing_what = "starting"
        self._sent_at = 0.0
        self._said: list[Message] = []
        """The chat's messages while no nodes run."""
        self._unheard = False
        """Whether the last question stands on the screen, and the model will not hear it unless it is asked again."""
        self._lost = 0
        """Answers in a row that failed because a node was lost."""
        self.colors = colors or colors_of_the_system()
        self.setWindowTitle("Trine")
        self.setWindowIcon(icon("trine", "", 64))
        self.setMinimumSize(440, 420)
        fit_to_screen(self, _SIZE)
        self._build()
        self._connect()
        self.set_colors(self.colors)
        self._poll = QTimer(self, interval=_POLL_MS)
        self._poll.timeout.connect(self._show_status)
        self.begin()

    @property
    def ready(self) -> bool:
        """Whether there is someone to send to."""
        return self._running is not None

    @property
    def busy(self) -> bool:
        """Whether an answer is growing."""
        return self._answer is not None

    @property
    def gone(self) -> bool:
        """Whether it was closed and nothing is left of what it started."""
        return self._leaving and self._worker is None

    def begin(self) -> None:
        """Start the parties; again after a start that failed."""
        self.foot.hide_trouble()
        self.status.set_states(dict.fromkeys(("node1", "node2"), "starting"))
        self._preparing("starting", 0, 0)
        self.waiting.show()
        self.composer.set_ready(True, "You can send already: a message waits until the nodes are ready")
        self._worker = worker = Worker(self._start, self)
        worker.preparing.connect(self._preparing)
        worker.ready.connect(self._ready)
        worker.happened.connect(self._happened)
        worker.broken.connect(self._broken)
        worker.finished.connect(self._finished)
        worker.begin()

    def send(self, text: str) -> None:
        """Ask; what the user does with Enter."""
        if self._worker is None or self._answer is not None:
            return
        self._asked = text
        if self._unheard:
            self._unheard = False
            self.transcript.leave_out()
        self.transcript.settle()
        self.transcript.ask(text)
        self._run_job(lambda chat, emit: chat.send(text, emit))

    def regenerate(self) -> None:
        """Answer the last question again."""
        if self._running is None or self._answer is not None or not self.transcript.messages:
            return
        self.transcript.put_answer_aside()
        self._run_job(lambda chat, emit: chat.regenerate(emit))

    def stop(self) -> None:
        """End the running answer, or take back a question that waits for the nodes."""
        if self._queued is not None:
            self._take_back()
        elif self._answer is not None and self._worker is not None:
            self.composer.set_stopping()
            self._say("Stopping")
            self._worker.stop()

    def new_chat(self) -> None:
        """Forget this chat and begin another."""
        if self._answer is not None:
            self._then_new = True
            self.stop()
        elif self._worker is not None:
            self._then_new = False
            self._worker.do(lambda chat, _: chat.new())
            self._said, self._unheard = [], False
            self.transcript.clear()
            self.status.set_figure("context", "")
            self.status.set_figure("speed", "")
            self.composer.setFocus()

    def copy_last(self) -> None:
        """Put the last answer on the clipboard."""
        answers = [message for message in self.transcript.messages if isinstance(message, AnswerWidget) and message.text]
        if answers:
            answers[-1].copy()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self.colors = colors
        QApplication.setPalette(palette(colors))
        self.setStyleSheet(style_sheet(colors))
        for part in (self.header, self.transcript, self.composer, self.status, self.trouble):
            part.set_colors(colors)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """A low window has less room to write, and to say what went wrong."""
        super().resizeEvent(event)
        self.foot.set_room(self.height() - self.header.sizeHint().height())

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802  Qt's name
        """Hide at once; go when nothing is left running."""
        again, self._leaving = self._leaving, True
        self.hide()
        if self._worker is None:
            event.accept()
            self.closed.emit()
            return
        event.ignore()
        if not again:
            self._worker.leave()
            QTimer.singleShot(_LEAVE_MS, self, self._finished)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        """Enter presses the focused button, page keys turn the conversation's pages, typed text goes where one writes."""
        focus = self.focusWidget()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and isinstance(focus, QAbstractButton):
            if not event.isAutoRepeat():
                focus.click()
        elif event.key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
            up = event.key() == Qt.Key.Key_PageUp
            step = QAbstractSlider.SliderAction.SliderPageStepSub if up else QAbstractSlider.SliderAction.SliderPageStepAdd
            self.transcript.verticalScrollBar().triggerAction(step)
        elif focus is not self.composer.field and _is_text(event):
            self.composer.setFocus()
            QApplication.sendEvent(self.composer.field, event)
        else:
            super().keyPressEvent(event)

    def _build(self) -> None:
        self.header = Header()
        self.transcript = Transcript(self.colors)
        self.foot = foot = Foot(self.colors)
        self.waiting, self.trouble, self.composer, self.status = foot.waiting, foot.trouble, foot.composer, foot.status
        centred = QHBoxLayout()
        centred.setContentsMargins(16, 0, 16, 0)
        centred.addStretch(1)
        centred.addWidget(foot, 1000)
        centred.addStretch(1)
        middle = QWidget()
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.header)
        column.addWidget(self.transcript, 1)
        column.addLayout(centred)
        self.setCentralWidget(middle)
        self.composer.setFocus()

    def _connect(self) -> None:
        self.composer.sent.connect(self.send)
        self.composer.stopped.connect(self.stop)
        self.transcript.suggested.connect(self.send)
        self.transcript.retry.connect(self.regenerate)
        self.trouble.retry.connect(self.begin)
        self.header.new.clicked.connect(self.new_chat)
        self.header.privacy.clicked.connect(self._show_privacy)
        shortcuts = {
            "Ctrl+N": self.new_chat,
            "Ctrl+L": self.composer.setFocus,
            "Ctrl+R": self.regenerate,
            "Ctrl+Shift+C": self.copy_last,
            "Ctrl+Q": self.close,
            "Esc": self.stop,
        }
        for keys, act in shortcuts.items():
            shortcut = QShortcut(QKeySequence(keys), self, autoRepeat=False)  # a key that is held down is pressed once
            shortcut.activated.connect(act)
        QGuiApplication.styleHints().colorSchemeChanged.connect(lambda _: self.set_colors(colors_of_the_system()))

    def _run_job(self, job: Job) -> None:
        """Now, or as soon as the nodes are ready."""
        self._answer = self.transcript.answer(self._running.model if self._running is not None else "Trine")
        self.transcript.follow()
        if self._running is None:
            self._queued = job
            self.waiting.hide()
            self._answer.progress.show_progress(f"Waiting for the nodes: {self._preparing_what}…")
            self.composer.set_busy(True, "Sent when the nodes are ready · Esc takes it back")
        else:
            self._do(job)

    def _do(self, job: Job) -> None:
        if self._worker is not None:
            self._queued = None
            self._sent_at = time.monotonic()
            self.composer.set_busy(True)
            self._worker.do(job)

    def _take_back(self) -> None:
        """Nothing was sent yet: the question goes back to where it was written."""
        self._queued = None
        self.transcript.take_back()
        self.composer.put_back(self._asked)
        self.waiting.setVisible(self._running is None)
        self._idle()

    def _show_privacy(self) -> None:
        dialog = PrivacyDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _preparing(self, what: str, done: int, of: int) -> None:
        self._preparing_what = what
        fraction = done / of if of else None
        self.waiting.show_progress(f"{what[:1].upper()}{what[1:]}…", fraction=fraction)
        if self._queued is not None and self._answer is not None:
            self._answer.progress.show_progress(f"Waiting for the nodes: {what}…", fraction=fraction)

    def _ready(self, running: Running) -> None:
        self._running = running
        running.chat.messages = self._said  # those before a stop that Trine had to make are still on the screen
        self.waiting.hide()
        self.header.model.say(running.model)
        self.composer.set_ready(True)
        self._poll.start()
        self._show_status()
        self._say("Ready")
        if self._queued is not None and self._answer is not None:
            self._answer.set_author(running.model)
            self._do(self._queued)

    def _broken(self, text: str) -> None:
        if self._queued is not None:
            self._take_back()
        elif self._answer is not None:
            words = Stands.ANSWER if self._answer.text.strip() else Stands.NOTHING
            self._fail(text, Stands.FORMER if self.transcript.former_stands else words)
        if self._running is not None:
            self._said = self._running.chat.messages
        title = "Trine could not start." if self._running is None else "Trine had to stop."
        self._running = None
        self.waiting.hide()
        self.composer.set_ready(False, "The nodes are not running: nothing can be sent")
        self.foot.show_trouble(title, text)
        self.status.set_states(dict.fromkeys(("node1", "node2"), "not running"))
        self._say(text)

    def _finished(self) -> None:
        self._poll.stop()
        self._worker = None
        if self._leaving:
            self.closed.emit()

    def _happened(self, event: Event) -> None:
        answer = self._answer
        if answer is None:
            return
        match event:
            case Waiting():
                answer.progress.show_progress(f"{event.what[:1].upper()}{event.what[1:]}…")
            case Started():
                self._started = event
                self._show_context(0)
                answer.progress.show_progress(f"Sending {event.tokens:,} tokens…")
            case Computing():
                answer.progress.show_progress(
                    *sentences.progress(event.step, time.monotonic() - self._sent_at), fraction=event.step.fraction
                )
            case Text():
                if not answer.text:
                    self._say("Answering")
                answer.append(event.text)
                self._show_context(event.token_count)
                if event.tokens_per_second:
                    self.status.set_figure("speed", f"{event.tokens_per_second:.1f} tokens/s")
            case Done():
                self._lost = 0
                answer.finish(*sentences.note(event))
                self._settle(event.stands)
                self._say("Stopped" if event.reason is Reason.STOPPED else "The answer is complete")
                self._idle()
            case Failed():
                self._lost = self._lost + 1 if isinstance(event.error, LinkError) else 0
                self._fail(advised(event.error) + (_START_AGAIN if self._lost > 1 else ""), event.stands)
                if isinstance(event.error, InputError) and event.stands is Stands.NOTHING:
                    answer.failure.again.hide()
                    self.composer.put(self._asked)

    def _fail(self, text: str, stands: Stands) -> None:
        if self._answer is not None:
            self._answer.fail(text)
            self._settle(stands)
            last = self.transcript.messages[-1]
            if stands is Stands.FORMER and isinstance(last, AnswerWidget):
                last.fail_again(text)
        self._say(text)
        self._idle()

    def _settle(self, stands: Stands) -> None:
        """Show what the model will hear."""
        self._unheard = stands is Stands.NOTHING
        self.transcript.settle_former(stands=stands is Stands.FORMER)

    def _idle(self) -> None:
        self._answer = None
        self.composer.set_busy(False)
        self._show_status()
        if self._then_new:
            self.new_chat()

    def _show_context(self, answered: int) -> None:
        if self._started is not None:
            self.status.set_figure("context", f"{self._started.tokens + answered:,} of {self._started.context:,} tokens")

    def _show_status(self) -> None:
        """What the conversation says of itself; reading it never waits."""
        chat = self._worker.chat if self._worker is not None else None
        conversation = chat.conversation if chat is not None else None
        if conversation is not None:
            status = conversation.status
            states = sentences.states(status.states, asking=self._answer is not None)
            self.status.set_states(states)
            rows = status.prepared_rows if {*states.values()} == {"connected"} else 0
            self.status.set_figure("prepared", f"{rows:,} tokens prepared" if rows else "")
            self.status.set_notices(status.notices)

    def _say(self, text: str) -> None:
        """Have a screen reader say it."""
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, text))


def _is_text(event: QKeyEvent) -> bool:
    return bool(event.text()) and event.text().isprintable() and not event.modifiers() & _COMMANDS
