"""The one thread that blocks: it starts the parties, runs the chat, and meets the window in queued signals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread

from PySide6.QtCore import QObject, Signal

from app.chat.chat import Chat
from app.chat.events import Emit, Event, Failed
from app.demo.start import Running, Start
from app.window.markdown import warm_up
from app.window.theme import LIGHT
from engine.errors import SessionStopped, TrineError

__all__ = ["Job", "Worker"]

_log = logging.getLogger(__name__)

Job = Callable[[Chat, Emit], None]

_PARTS = 1000


class Worker(QObject):
    """Runs jobs on a chat, one after another. The signals arrive in the window's thread.

    The last one is either `broken`, with the reason, or `finished`; then nothing is left of what was started.
    """

    preparing = Signal(str, int, int)
    ready = Signal(object)
    happened = Signal(object)
    broken = Signal(str)
    finished = Signal()

    def __init__(self, start: Start, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._start = start
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._leaving = Flag()
        self._stopping = Flag()
        self._chat: Chat | None = None
        # A daemon, so that a party that hangs cannot keep the process: nodes leave when their standard input closes.
        self._thread = Thread(target=self._run, name="trine-chat", daemon=True)

    @property
    def chat(self) -> Chat | None:
        """The chat while it runs, for what may be read from any thread."""
        return self._chat

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def do(self, job: Job) -> None:
        """Run a job after those before it."""
        self._stopping.clear()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the running answer. It may have to wait for a socket, so it has a thread of its own."""
        self._stopping.set()
        if self._chat is not None:
            Thread(target=self._chat.stop, name="trine-stop", daemon=True).start()

    def leave(self) -> None:
        """End everything; the last signal comes when nothing is left."""
        self._leaving.set()
        self._jobs.put(None)
        self.stop()

    def _run(self) -> None:
        trouble = self._trouble()
        if trouble is None and not self._leaving.is_set():  # a window that waits for its word must not wait for ever
            trouble = "Trine's work ended by itself."
        if trouble is None:
            self.finished.emit()
        else:
            self.broken.emit(trouble)

    def _trouble(self) -> str | None:
        """Run everything. Return why it broke, or None."""
        try:
            warm_up(LIGHT)
            with self._start(self._report) as running:
                self._chat = running.chat
                try:
                    self._serve(running)
                finally:
                    self._chat = None
                    running.chat.close()
        except SessionStopped:
            return None
        except TrineError as error:
            return str(error)
        except Exception as error:  # a fault of our own must not leave a window that waits for ever
            _log.exception("the chat thread failed")
            return f"Trine has a fault of its own ({type(error).__name__}). The terminal shows where."
        return None

    def _serve(self, running: Running) -> None:
        running.chat.open()
        if self._leaving.is_set():
            return
        self.ready.emit(running)

        def emit(event: Event) -> None:
            if self._stopping.is_set():
                running.chat.stop()  # again: an answer that begins forgets what was asked before
            self.happened.emit(event)

        while (job := self._jobs.get()) and not self._leaving.is_set():
            try:
                job(running.chat, emit)
            except TrineError as error:
                self.happened.emit(Failed(error))

    def _report(self, what: str, done: int, of: int) -> None:
        if self._leaving.is_set():
            raise SessionStopped
        # a signal's int has 32 bits, and bytes of a model are counted here
        self.preparing.emit(what, done * _PARTS // of if of else 0, _PARTS if of else 0)
