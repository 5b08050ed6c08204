"""The states of the window, and what each event does in each of them: one table, without Qt, threads or clocks.

    STARTING ─came→ READY ─SEND→ ANSWERING ─ended→ READY
       │  ↑                          └─STOP→ STOPPING ─ended→ READY
     SEND STOP
       ↓  │
    QUEUED ─came→ ANSWERING           BROKEN ─TRY_AGAIN→ STARTING

Events of the user in capitals, of the worker in small letters. `broke` leads to BROKEN from everywhere, CLOSE to LEAVING,
and from there whatever is the worker's last word leads to GONE.

Rule 1. Every pair of a state and an event either stands in `NEXT`, or in `IGNORED`, or is refused with ValueError.
        ANSWER_AGAIN is ignored everywhere in a chat in which nothing was asked.
Rule 2. Nothing that the user does is ever refused. What the worker says in a wrong place is: then the program is at fault.
Rule 3. A worker's last word is either `broke` or `finished`, and never both, so that nothing comes from a worker of before.
Rule 4. A window that was closed listens to nothing but that last word, and to the clock that ends its patience.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from app.chat.events import Computing, Done, Failed, Message, Stands, Started, Text, Waiting
from engine.errors import InputError, LinkError

__all__ = ["IGNORED", "NEXT", "Act", "Given", "Situation", "WindowEvent", "WindowState", "after"]


class WindowState(Enum):
    """Where the window stands; see the head of this file."""

    STARTING = "starting"
    """The nodes are being started."""
    QUEUED = "queued"
    """They are being started, and a question waits for them."""
    READY = "ready"
    """There is someone to send to."""
    ANSWERING = "answering"
    """The worker computes an answer."""
    STOPPING = "stopping"
    """It was asked to stop, and has not ended yet."""
    BROKEN = "broken"
    """The nodes could not be started, or Trine had to stop. Nothing runs."""
    LEAVING = "leaving"
    """The window was closed, and what it started has not ended yet."""
    GONE = "gone"
    """The window was closed and nothing is left of what it started."""


class WindowEvent(Enum):
    """What happens to the window. Its comment names the fields of `Given` that come with it."""

    SEND = "send"  # text: the question
    ANSWER_AGAIN = "answer again"
    STOP = "stop"
    NEW_CHAT = "new chat"
    TRY_AGAIN = "try again"
    CLOSE = "close"

    PREPARING = "preparing"  # text: what is being done, fraction
    CAME = "came"
    WORKED = "worked"  # work
    ENDED = "ended"  # end
    BROKE = "broke"  # text: why, messages, stands
    FINISHED = "finished"

    OVERDUE = "overdue"  # the clock's: a worker that hangs has had its time to leave


class Act(Enum):
    """What the window does about an event."""

    BEGIN = "start a worker and show that the nodes are being started"
    SHOW_START = "show how far the start is"
    SHOW_READY = "show that the nodes are there, and hand the kept messages to their chat"

    SHOW_QUESTION = "add the question of the event to the transcript"
    LEAVE_OUT = "mark the question before it: the model will not hear that one"
    PUT_ASIDE = "take the last answer off the screen, for another in its place"
    SHOW_ANSWER = "add an answer that will grow"
    HOLD = "show that the answer waits for the nodes"
    ASK = "have the worker answer the question"
    ASK_AGAIN = "have the worker answer the last question again"
    REFUSE = "say why nothing can be asked now"
    TAKE_BACK = "give a question that was never sent back to where it was written; no answer grows any more"

    SHOW_WORK = "show what the worker says of the answer"
    STOP = "have the worker stop, and say so"
    SHOW_END = "show that the answer is there, or why there is none, or no more of it"
    REST = "no answer grows any more"
    GIVE_BACK = "give a question that was refused back to be changed; its answer is still the one that grows"

    FORGET = "have the worker forget the chat"
    CLEAR = "clear the transcript"

    TELL_NO_START = "say that Trine could not start"
    TELL_END = "say that Trine had to stop"
    LEAVE = "have the worker end everything, and wait no longer than is right"
    SAY_CLOSED = "say that the window is gone"


@dataclass(frozen=True, slots=True)
class Given:
    """What comes with an event; see there."""

    text: str = field(default="", repr=False)
    fraction: float | None = None
    work: Waiting | Started | Computing | Text | None = field(default=None, repr=False)
    end: Done | Failed | None = field(default=None, repr=False)
    stands: Stands = Stands.NOTHING
    """What the chat is left with when Trine has to stop in the middle of an answer."""
    messages: Sequence[Message] = field(default=(), repr=False)
    """Those of the chat that ended with the nodes."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A state and what belongs to it. What people have written is not in its repr."""

    state: WindowState = WindowState.STARTING
    preparing: str = "starting"
    """What is being done for the nodes to come, for people."""
    queued: str = field(default="", repr=False)
    """The question that waits for the nodes."""
    question: str = field(default="", repr=False)
    """The last question of this chat that was sent; "" if there is none."""
    unheard: bool = False
    """Whether that one stands on the screen and the model will not hear it unless it is asked again."""
    then_new: bool = False
    """Whether a new chat is to follow once the answer has ended."""
    kept: tuple[Message, ...] = field(default=(), repr=False)
    """What was said before nodes ended: the chat with the next ones begins with it, for it is still on the screen."""
    lost: int = 0
    """Answers in a row that failed because a node was lost."""

    @property
    def ready(self) -> bool:
        """Whether there is someone to send to."""
        return self.state in (_S.READY, _S.ANSWERING, _S.STOPPING)

    @property
    def busy(self) -> bool:
        """Whether an answer grows, or waits for the nodes."""
        return self.state in (_S.QUEUED, _S.ANSWERING, _S.STOPPING)

    @property
    def gone(self) -> bool:
        """Whether it was closed and nothing is left of what it started."""
        return self.state is _S.GONE


_S, _E, _A = WindowState, WindowEvent, Act
_Outcome = tuple[Situation, tuple[Act, ...]]

NEXT: Mapping[WindowState, Mapping[WindowEvent, WindowState]] = {
    _S.STARTING: {
        _E.SEND: _S.QUEUED,
        _E.ANSWER_AGAIN: _S.STARTING,  # refused with a word: there is a button for it after a break
        _E.NEW_CHAT: _S.STARTING,
        _E.CLOSE: _S.LEAVING,
        _E.PREPARING: _S.STARTING,
        _E.CAME: _S.READY,
        _E.BROKE: _S.BROKEN,
    },
    _S.QUEUED: {
        _E.STOP: _S.STARTING,
        _E.NEW_CHAT: _S.STARTING,
        _E.CLOSE: _S.LEAVING,
        _E.PREPARING: _S.QUEUED,
        _E.CAME: _S.ANSWERING,
        _E.BROKE: _S.BROKEN,
    },
    _S.READY: {
        _E.SEND: _S.ANSWERING,
        _E.ANSWER_AGAIN: _S.ANSWERING,
        _E.NEW_CHAT: _S.READY,
        _E.CLOSE: _S.LEAVING,
        _E.BROKE: _S.BROKEN,
    },
    _S.ANSWERING: {
        _E.STOP: _S.STOPPING,
        _E.NEW_CHAT: _S.STOPPING,
        _E.CLOSE: _S.LEAVING,
        _E.WORKED: _S.ANSWERING,
        _E.ENDED: _S.READY,
        _E.BROKE: _S.BROKEN,
    },
    _S.STOPPING: {
        _E.STOP: _S.STOPPING,  # again: an answer that connects forgets what was asked before it began
        _E.NEW_CHAT: _S.STOPPING,
        _E.CLOSE: _S.LEAVING,
        _E.WORKED: _S.STOPPING,
        _E.ENDED: _S.READY,
        _E.BROKE: _S.BROKEN,
    },
    _S.BROKEN: {
        _E.SEND: _S.BROKEN,  # refused with a word, as the next one
        _E.ANSWER_AGAIN: _S.BROKEN,
        _E.NEW_CHAT: _S.BROKEN,
        _E.TRY_AGAIN: _S.STARTING,
        _E.CLOSE: _S.GONE,
    },
    _S.LEAVING: {
        _E.BROKE: _S.GONE,
        _E.FINISHED: _S.GONE,
        _E.OVERDUE: _S.GONE,
    },
    _S.GONE: {
        _E.CLOSE: _S.GONE,  # says once more that it is gone
    },
}

IGNORED: Mapping[WindowState, frozenset[WindowEvent]] = {
    _S.STARTING: frozenset({_E.STOP, _E.TRY_AGAIN}),
    _S.QUEUED: frozenset({_E.SEND, _E.ANSWER_AGAIN, _E.TRY_AGAIN}),
    _S.READY: frozenset({_E.STOP, _E.TRY_AGAIN}),
    _S.ANSWERING: frozenset({_E.SEND, _E.ANSWER_AGAIN, _E.TRY_AGAIN}),
    _S.STOPPING: frozenset({_E.SEND, _E.ANSWER_AGAIN, _E.TRY_AGAIN}),
    _S.BROKEN: frozenset({_E.STOP}),
    _S.LEAVING: frozenset(_E) - {_E.BROKE, _E.FINISHED, _E.OVERDUE},
    _S.GONE: frozenset(_E) - {_E.CLOSE},
}


def after(now: Situation, event: WindowEvent, given: Given = Given()) -> _Outcome:  # noqa: B008  it is frozen
    """Return the situation after an event, and the acts that the window carries out, in their order.

    Raises:
        ValueError: the event has no place in this state.
    """
    if event in IGNORED[now.state] or (event is _E.ANSWER_AGAIN and not now.question):
        return now, ()
    state = NEXT[now.state].get(event)
    if state is None:
        raise ValueError(f"'{event.value}' has no place while {now.state.value}")
    changed, acts = _CHANGES[event](now, given)
    return replace(changed, state=state), acts


def _send(now: Situation, given: Given) -> _Outcome:
    if now.state is _S.READY:
        sent = replace(now, question=given.text, unheard=False)
        return sent, (_A.SHOW_QUESTION, *_leave_out(now), _A.SHOW_ANSWER, _A.ASK)
    if now.state is _S.BROKEN:
        return now, (_A.REFUSE,)
    return replace(now, queued=given.text), (_A.SHOW_QUESTION, _A.SHOW_ANSWER, _A.HOLD)


def _leave_out(now: Situation) -> tuple[Act, ...]:
    """Another question goes out; one that only waits can still be taken back, and nothing is left out until then."""
    return (_A.LEAVE_OUT,) if now.unheard else ()


def _answer_again(now: Situation, _: Given) -> _Outcome:
    if now.state is not _S.READY:
        return now, (_A.REFUSE,)
    return now, (_A.PUT_ASIDE, _A.SHOW_ANSWER, _A.ASK_AGAIN)


def _stop(now: Situation, _: Given) -> _Outcome:
    if now.state is _S.QUEUED:
        return replace(now, queued=""), (_A.TAKE_BACK,)
    return now, (_A.STOP,)


def _new_chat(now: Situation, _: Given) -> _Outcome:
    if now.state in (_S.ANSWERING, _S.STOPPING):
        return replace(now, then_new=True), (_A.STOP,)
    before = {_S.QUEUED: (_A.TAKE_BACK,), _S.READY: (_A.FORGET,)}.get(now.state, ())
    return _forgotten(now), (*before, _A.CLEAR)


def _forgotten(now: Situation) -> Situation:
    return replace(now, queued="", question="", unheard=False, then_new=False, kept=())


def _preparing(now: Situation, given: Given) -> _Outcome:
    return replace(now, preparing=given.text), (_A.SHOW_START,)


def _came(now: Situation, _: Given) -> _Outcome:
    if now.state is _S.QUEUED:
        sent = replace(now, queued="", question=now.queued, unheard=False)
        return sent, (_A.SHOW_READY, *_leave_out(now), _A.ASK)
    return now, (_A.SHOW_READY,)


def _worked(now: Situation, given: Given) -> _Outcome:
    if given.work is None:
        raise ValueError("nothing was said of the answer")
    return now, (_A.SHOW_WORK,)


def _ended(now: Situation, given: Given) -> _Outcome:
    end = given.end
    if end is None:
        raise ValueError("an answer has ended without an end")
    error = end.error if isinstance(end, Failed) else None
    lost = now.lost + 1 if isinstance(error, LinkError) else 0
    refused = isinstance(error, InputError) and end.stands is Stands.NOTHING
    shown = (_A.SHOW_END, _A.GIVE_BACK) if refused else (_A.SHOW_END,)
    if now.then_new:
        return replace(_forgotten(now), lost=lost), (*shown, _A.REST, _A.FORGET, _A.CLEAR)
    return replace(now, lost=lost, unheard=end.stands is Stands.NOTHING), (*shown, _A.REST)


def _broke(now: Situation, given: Given) -> _Outcome:
    now = replace(now, lost=0)
    if now.state is _S.LEAVING:
        return now, (_A.SAY_CLOSED,)
    if now.state is _S.STARTING:
        return now, (_A.TELL_NO_START,)
    if now.state is _S.QUEUED:
        return replace(now, queued=""), (_A.TAKE_BACK, _A.TELL_NO_START)
    now = replace(now, kept=tuple(given.messages))
    if now.state is _S.READY:
        return now, (_A.TELL_END,)
    if now.then_new:
        return _forgotten(now), (_A.SHOW_END, _A.REST, _A.CLEAR, _A.TELL_END)
    return replace(now, unheard=given.stands is Stands.NOTHING), (_A.SHOW_END, _A.REST, _A.TELL_END)


_CHANGES: Mapping[WindowEvent, Callable[[Situation, Given], _Outcome]] = {
    _E.SEND: _send,
    _E.ANSWER_AGAIN: _answer_again,
    _E.STOP: _stop,
    _E.NEW_CHAT: _new_chat,
    _E.TRY_AGAIN: lambda now, _: (replace(now, preparing="starting"), (_A.BEGIN,)),
    _E.CLOSE: lambda now, _: (now, (_A.SAY_CLOSED if now.state in (_S.BROKEN, _S.GONE) else _A.LEAVE,)),
    _E.PREPARING: _preparing,
    _E.CAME: _came,
    _E.WORKED: _worked,
    _E.ENDED: _ended,
    _E.BROKE: _broke,
    _E.FINISHED: lambda now, _: (now, (_A.SAY_CLOSED,)),
    _E.OVERDUE: lambda now, _: (now, (_A.SAY_CLOSED,)),
}
