"""The chat window."""

from __future__ import annotations

import time

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QCloseEvent,
    QGuiApplication,
    QKeySequence,
    QShortcut,
)
from PySide6.QtWidgets import QApplication, QFrame, QHBoxLayout, QLabel, QMainWindow, QPushButton, QVBoxLayout, QWidget

from app.chat import Done, Event, Failed, Progress, Reason, Started, StepProgress, Text
from app.start import Running, Start
from app.window.about import PrivacyDialog
from app.window.composer import Composer
from app.window.icons import icon, pixmap
from app.window.messages import Answer, Failure, Waiting
from app.window.status import StatusLine
from app.window.theme import COLUMN, Colors, colors_of_the_system, palette, style_sheet
from app.window.transcript import Transcript
from app.window.widgets import named
from app.window.worker import Job, Worker
from engine.errors import InputError

__all__ = ["MainWindow"]

_POLL_MS = 400
_LEAVE_MS = 10_000
"""After so long a window that was closed lets go of a worker that hangs."""
_ESTIMATE_AFTER = 2.0
"""Seconds before the time that is left can be told."""


class MainWindow(QMainWindow):
    """Header, transcript, composer, status line. `start` brings up the parties, in the worker's thread."""

    closed = Signal()
    """The window is gone and so is everything that it started."""

    def __init__(self, start: Start, colors: Colors | None = None) -> None:
        super().__init__()
        self._start = start
        self._worker: Worker | None = None
        self._running: Running | None = None
        self._answer: Answer | None = None
        self._asked = ""
        self._started: Started | None = None
        self._then_new = False
        self._leaving = False
        self._sent_at = 0.0
        self.colors = colors or colors_of_the_system()
        self.setWindowTitle("Trine")
        self.setWindowIcon(icon("trine", "", 64))
        self.setMinimumSize(440, 420)
        self.resize(980, 760)
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
        self.trouble.hide()
        self.waiting.show_progress("Starting…", None)
        self.waiting.show()
        self.composer.set_ready(False, "You can write already; sending waits for the nodes")
        self._worker = worker = Worker(self._start, self)
        worker.preparing.connect(self._preparing)
        worker.ready.connect(self._ready)
        worker.happened.connect(self._happened)
        worker.broken.connect(self._broken)
        worker.finished.connect(self._finished)
        worker.begin()

    def send(self, text: str) -> None:
        """Ask; what the user does with Enter."""
        if self._running is None or self._answer is not None:
            return
        self._asked = text
        self.transcript.settle()
        self.transcript.ask(text)
        self._run_job(lambda chat, emit: chat.send(text, emit))

    def regenerate(self) -> None:
        """Answer the last question again."""
        if self._running is None or self._answer is not None or not self.transcript.messages:
            return
        self.transcript.drop_answer()
        self._run_job(lambda chat, emit: chat.regenerate(emit))

    def stop(self) -> None:
        """End the running answer."""
        if self._answer is not None and self._worker is not None:
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
            self.transcript.clear()
            self.status.set_figure("context", "")
            self.status.set_figure("speed", "")
            self.composer.setFocus()

    def copy_last(self) -> None:
        """Put the last answer on the clipboard."""
        answers = [message for message in self.transcript.messages if isinstance(message, Answer) and message.text]
        if answers:
            answers[-1].copy()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self.colors = colors
        QApplication.setPalette(palette(colors))
        self.setStyleSheet(style_sheet(colors))
        self.new_button.setIcon(icon("new", colors.text))
        self.privacy_button.setIcon(icon("shield", colors.accent))
        for part in (self.transcript, self.composer, self.status, self.trouble):
            part.set_colors(colors)

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

    def _build(self) -> None:
        self.header = named(QFrame(), "header")
        mark = QLabel(self.header)
        mark.setPixmap(pixmap("trine", "", 26, 2))
        self.model = named(QLabel("", self.header), "model")
        self.new_button = QPushButton("New chat", self.header)
        self.new_button.setToolTip("New chat (Ctrl+N)")
        self.privacy_button = QPushButton("How private is this?", self.header)
        head = QHBoxLayout(self.header)
        head.setContentsMargins(18, 10, 18, 10)
        head.setSpacing(10)
        head.addWidget(mark)
        head.addWidget(named(QLabel("Trine", self.header), "title"))
        head.addWidget(self.model, 1)
        for button in (self.privacy_button, self.new_button):
            button.setIconSize(QSize(16, 16))
            head.addWidget(button)
        self.transcript = Transcript(self.colors)
        self.waiting = Waiting(self)
        self.trouble = Failure(self.colors, self)
        self.composer = Composer(self.colors)
        self.status = StatusLine(self.colors)
        foot = QWidget()
        foot.setMaximumWidth(COLUMN + 32)
        below = QVBoxLayout(foot)
        below.setContentsMargins(0, 0, 0, 10)
        below.setSpacing(8)
        for widget in (self.waiting, self.trouble, self.composer, self.status):
            below.addWidget(widget)
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
        self.transcript.suggested.connect(self._suggested)
        self.transcript.retry.connect(self.regenerate)
        self.trouble.retry.connect(self.begin)
        self.new_button.clicked.connect(self.new_chat)
        self.privacy_button.clicked.connect(self._show_privacy)
        shortcuts = {
            "Ctrl+N": self.new_chat,
            "Ctrl+L": self.composer.setFocus,
            "Ctrl+R": self.regenerate,
            "Ctrl+Shift+C": self.copy_last,
            "Ctrl+Q": self.close,
            "Esc": self.stop,
        }
        for keys, act in shortcuts.items():
            QShortcut(QKeySequence(keys), self).activated.connect(act)
        QGuiApplication.styleHints().colorSchemeChanged.connect(lambda _: self.set_colors(colors_of_the_system()))

    def _run_job(self, job: Job) -> None:
        if self._worker is None or self._running is None:
            return
        self._answer = self.transcript.answer(self._running.model)
        self.transcript.follow()
        self._sent_at = time.monotonic()
        self.composer.set_busy(True)
        self._worker.do(job)

    def _suggested(self, text: str) -> None:
        if self._running is None:
            self.composer.put(text)
        else:
            self.send(text)

    def _show_privacy(self) -> None:
        dialog = PrivacyDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _preparing(self, what: str, done: int, of: int) -> None:
        self.waiting.show_progress(f"{what[:1].upper()}{what[1:]}…", done / of if of else None)

    def _ready(self, running: Running) -> None:
        self._running = running
        self.waiting.hide()
        self.model.setText(running.model)
        self.composer.set_ready(True)
        self._poll.start()
        self._show_status()
        self._say("Ready")

    def _broken(self, text: str) -> None:
        self._running = None
        self.waiting.hide()
        self.composer.set_ready(False, "Not connected")
        self.trouble.show_error("Trine could not start.", text)
        self.status.set_states({"node1": "lost", "node2": "lost"})
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
            case Started():
                self._started = event
                self._show_context(0)
                answer.progress.show_progress(f"Sending {event.tokens:,} tokens…", None)
            case Progress():
                answer.progress.show_progress(self._progress_text(event.step), event.step.fraction)
            case Text():
                if not answer.text:
                    self._say("Answering")
                answer.append(event.text)
                self._show_context(event.token_count)
                if event.tokens_per_second:
                    self.status.set_figure("speed", f"{event.tokens_per_second:.1f} tokens/s")
            case Done():
                answer.finish(_note(event))
                self._say("Stopped" if event.reason is Reason.STOPPED else "The answer is complete")
                self._idle()
            case Failed():
                answer.fail(str(event.error))
                if isinstance(event.error, InputError):
                    answer.failure.again.hide()
                    self.composer.put(self._asked)
                self._say(str(event.error))
                self._idle()

    def _idle(self) -> None:
        self._answer = None
        self.composer.set_busy(False)
        self._show_status()
        if self._then_new:
            self.new_chat()

    def _progress_text(self, step: StepProgress) -> str:
        if step.preparing:
            return "Waiting for one-time material from this computer…"
        layers = max(step.sections - 2, 1)
        words = ["Computing your message among three parties", f"layer {min(max(step.section, 1), layers)} of {layers}"]
        if step.rows_done:
            words.append(f"{step.rows_done} of {step.rows} tokens")
        elapsed = time.monotonic() - self._sent_at
        if elapsed > _ESTIMATE_AFTER and 0 < step.fraction < 1:
            words.append(f"about {max(round(elapsed * (1 - step.fraction) / step.fraction), 1)} s left")
        return "  ·  ".join(words)

    def _show_context(self, answered: int) -> None:
        if self._started is not None:
            self.status.set_figure("context", f"{self._started.tokens + answered:,} of {self._started.context:,} tokens")

    def _show_status(self) -> None:
        """What the conversation says of itself; reading it never waits."""
        chat = self._worker.chat if self._worker is not None else None
        conversation = chat.conversation if chat is not None else None
        if conversation is not None:
            status = conversation.status
            self.status.set_states(status.states)
            rows = status.prepared_rows
            self.status.set_figure("prepared", f"{rows:,} tokens prepared" if rows else "")

    def _say(self, text: str) -> None:
        """Have a screen reader say it."""
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, text))


def _note(done: Done) -> str:
    speed = done.speed
    words = [f"{speed.answer_tokens:,} tokens" if speed.answer_tokens != 1 else "1 token"]
    if speed.tokens_per_second:
        words.append(f"{speed.tokens_per_second:.1f} tokens/s")
    ends = {
        Reason.STOPPED: "stopped",
        Reason.LENGTH: "cut at the most tokens that were asked for",
        Reason.CONTEXT: "cut: the model's context is full, start a new chat",
    }
    if not speed.answer_tokens and done.reason is Reason.END:
        return "The model answered nothing."
    return "  ·  ".join([*words, *filter(None, [ends.get(done.reason)])])
