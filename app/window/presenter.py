"""Between the table of states and the parts of the window: events go in, the acts that come back are carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QWidget

from app.chat.advice import advised
from app.chat.events import Done, Event, Failed, Stands
from app.demo.start import Running, Start
from app.window import sentences
from app.window.foot import Foot
from app.window.header import Header
from app.window.shown_answer import ShownAnswer
from app.window.states import Act, Given, Situation, WindowEvent, WindowState, after
from app.window.transcript import Transcript
from app.window.worker import Job, Worker

__all__ = ["ACTS", "Presenter"]

_START_AGAIN = "\nIf trying again does not help, quit Trine and start it again."
_POLL_MS = 400
_LEAVE_MS = 10_000
"""After so long a window that was closed lets go of a worker that hangs."""
_NOT_RUNNING = "The nodes are not running: nothing can be sent"
_NODES = ("node1", "node2")


class Presenter(QObject):
    """Holds the situation, the worker, and the answer that grows. All of it lives in the window's thread."""

    closed = Signal()
    """Nothing is left of what was started."""

    _worker: Worker
    """The last one that was started. It runs in all states except BROKEN and GONE."""
    _running: Running
    """What the last worker that was ready runs."""
    _growing: ShownAnswer
    """The last answer that was asked for. It grows in the states that are `busy`."""

    def __init__(self, start: Start, header: Header, transcript: Transcript, foot: Foot, window: QWidget) -> None:
        super().__init__(window)
        self.now = Situation()
        self._start, self._window = start, window
        self._header, self._transcript, self._foot = header, transcript, foot
        self._waiting, self._composer, self._status = foot.waiting, foot.composer, foot.status
        self._poll = QTimer(self, interval=_POLL_MS)
        self._poll.timeout.connect(self._show_status)

    def begin(self) -> None:
        """Start the parties for the first time. Whatever happens from then on is an event."""
        self._begin(Given())

    def take(self, event: WindowEvent, given: Given = Given()) -> None:  # noqa: B008  it is frozen
        """An event happens: enter the next state and do what is to be done about it."""
        self.now, acts = after(self.now, event, given)
        for act in acts:
            ACTS[act](self, given)

    def _preparing(self, what: str, done: int, of: int) -> None:
        self.take(WindowEvent.PREPARING, Given(what, fraction=done / of if of else None))

    def _came(self, running: Running) -> None:
        self._running = running
        self.take(WindowEvent.CAME)

    def _happened(self, event: Event) -> None:
        if isinstance(event, Done | Failed):
            self.take(WindowEvent.ENDED, Given(end=event))
        else:
            self.take(WindowEvent.WORKED, Given(work=event))

    def _broke(self, why: str) -> None:
        messages = self._running.chat.messages if self.now.ready else ()
        stands = self._growing.stands if self.now.busy else Stands.NOTHING
        self.take(WindowEvent.BROKE, Given(why, messages=messages, stands=stands))

    def _finished(self) -> None:
        self.take(WindowEvent.FINISHED)

    def _overdue(self) -> None:
        self.take(WindowEvent.OVERDUE)

    def _begin(self, _: Given) -> None:
        self._foot.hide_trouble()
        self._status.set_states(dict.fromkeys(_NODES, "starting"))
        self._show_start(Given(self.now.preparing))
        self._waiting.show()
        self._composer.set_ready(True, "You can send already: a message waits until the nodes are ready")
        self._worker = worker = Worker(self._start, self)
        worker.preparing.connect(self._preparing)
        worker.ready.connect(self._came)
        worker.happened.connect(self._happened)
        worker.broken.connect(self._broke)
        worker.finished.connect(self._finished)
        worker.begin()

    def _show_start(self, given: Given) -> None:
        self._waiting.show_progress(f"{given.text[:1].upper()}{given.text[1:]}…", fraction=given.fraction)
        if self.now.busy:
            self._growing.hold(given.text, given.fraction)

    def _show_ready(self, _: Given) -> None:
        self._running.chat.messages = [*self.now.kept]
        self._waiting.hide()
        self._header.model.say(self._running.model)
        self._composer.set_ready(True)
        self._poll.start()
        self._show_status()
        self._say("Ready")
        if self.now.busy:
            self._growing.widget.set_author(self._running.model)

    def _show_question(self, given: Given) -> None:
        self._transcript.ask(given.text)

    def _leave_out(self, _: Given) -> None:
        self._transcript.leave_out()

    def _put_aside(self, _: Given) -> None:
        self._transcript.put_answer_aside()

    def _show_answer(self, _: Given) -> None:
        author = self._running.model if self.now.ready else "Trine"
        self._growing = ShownAnswer(author, self._transcript, self._status, self._say)
        self._transcript.follow()

    def _hold(self, _: Given) -> None:
        self._waiting.hide()
        self._growing.hold(self.now.preparing)
        self._composer.set_busy(True, "Sent when the nodes are ready · Esc takes it back")

    def _ask(self, _: Given) -> None:
        question = self.now.question
        self._transcript.settle()  # not before: one that waits can be taken back
        self._work(lambda chat, emit: chat.send(question, emit))

    def _ask_again(self, _: Given) -> None:
        self._work(lambda chat, emit: chat.regenerate(emit))

    def _work(self, job: Job) -> None:
        self._growing.sent()
        self._composer.set_busy(True)
        self._worker.do(job)

    def _refuse(self, _: Given) -> None:
        starting = self.now.state is WindowState.STARTING
        self._composer.warn("Not asked again: the nodes are being started" if starting else _NOT_RUNNING)

    def _take_back(self, given: Given) -> None:
        self._composer.put_back(self._transcript.take_back())
        self._waiting.show()
        self._rest(given)

    def _show_work(self, given: Given) -> None:
        if given.work is not None:
            self._growing.show(given.work)

    def _stop(self, _: Given) -> None:
        self._composer.set_stopping()
        self._say("Stopping")
        self._worker.stop()

    def _show_end(self, given: Given) -> None:
        match given.end:
            case Done():
                self._growing.finish(given.end)
            case Failed():
                advice = _START_AGAIN if self.now.lost > 1 else ""
                self._growing.fail(advised(given.end.error) + advice, given.end.stands)
            case None:  # Trine has to stop
                self._growing.fail(given.text, given.stands)

    def _rest(self, _: Given) -> None:
        self._composer.set_busy(False)
        self._show_status()

    def _give_back(self, _: Given) -> None:
        self._growing.widget.failure.again.hide()
        self._composer.put(self._transcript.question)

    def _forget(self, _: Given) -> None:
        self._worker.do(lambda chat, _: chat.new())

    def _clear(self, _: Given) -> None:
        self._transcript.clear()
        self._status.set_figure("context", "")
        self._status.set_figure("speed", "")
        self._composer.setFocus()

    def _tell(self, title: str, why: str) -> None:
        """Nothing runs any more: say why."""
        self._poll.stop()
        self._waiting.hide()
        self._composer.set_ready(False, _NOT_RUNNING)
        self._foot.show_trouble(title, why)
        self._status.set_states(dict.fromkeys(_NODES, "not running"))
        self._say(why)

    def _leave(self, _: Given) -> None:
        self._worker.leave()
        QTimer.singleShot(_LEAVE_MS, self, self._overdue)

    def _say_closed(self, _: Given) -> None:
        self._poll.stop()
        self.closed.emit()

    def _show_status(self) -> None:
        """What the conversation says of itself; reading it never waits."""
        chat = self._worker.chat
        conversation = chat.conversation if chat is not None else None
        if conversation is not None:
            status = conversation.status
            states = sentences.states(status.states, asking=self.now.busy)
            self._status.set_states(states)
            rows = status.prepared_rows if {*states.values()} == {"connected"} else 0
            self._status.set_figure("prepared", f"{rows:,} tokens prepared" if rows else "")
            self._status.set_notices(status.notices)

    def _say(self, text: str) -> None:
        """Have a screen reader say it."""
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self._window, text))


ACTS: Mapping[Act, Callable[[Presenter, Given], None]] = {
    Act.BEGIN: Presenter._begin,
    Act.SHOW_START: Presenter._show_start,
    Act.SHOW_READY: Presenter._show_ready,
    Act.SHOW_QUESTION: Presenter._show_question,
    Act.LEAVE_OUT: Presenter._leave_out,
    Act.PUT_ASIDE: Presenter._put_aside,
    Act.SHOW_ANSWER: Presenter._show_answer,
    Act.HOLD: Presenter._hold,
    Act.ASK: Presenter._ask,
    Act.ASK_AGAIN: Presenter._ask_again,
    Act.REFUSE: Presenter._refuse,
    Act.TAKE_BACK: Presenter._take_back,
    Act.SHOW_WORK: Presenter._show_work,
    Act.STOP: Presenter._stop,
    Act.SHOW_END: Presenter._show_end,
    Act.GIVE_BACK: Presenter._give_back,
    Act.REST: Presenter._rest,
    Act.FORGET: Presenter._forget,
    Act.CLEAR: Presenter._clear,
    Act.TELL_NO_START: lambda presenter, given: presenter._tell("Trine could not start.", given.text),
    Act.TELL_END: lambda presenter, given: presenter._tell("Trine had to stop.", given.text),
    Act.LEAVE: Presenter._leave,
    Act.SAY_CLOSED: Presenter._say_closed,
}
"""The method that carries out each act."""
