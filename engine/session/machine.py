"""The states of a session, and which message has its place in which: one table for both sides.

    START ─HELLO→ GREETED ─welcome→ JOINING ─ready→ IDLE ─STEP→ RUNNING ─answer→ IDLE
                                                                   └─STOP→ STOPPING ─stopped→ IDLE
                                                                           └─answer→ LATE ─stopped→ IDLE

Messages of the client in capitals, of the node in small letters. ERROR and BYE lead to CLOSED from
everywhere, and nothing leads out of it.

Rule 1. Every (message, state) pair that is not in the table is refused: ProtocolError out-of-place
        from the other side, ValueError where this side's program is wrong.
Rule 2. STOP may cross an ANSWER on the way. STOP is always answered by exactly one STOPPED; where the
        answer came first, the step counts and STOP only discards the queued rows. So a node takes a
        STOP in IDLE, too, and a client takes an ANSWER after its STOP.
Rule 3. After STOP the client sends nothing but BYE or ERROR until it is STOPPED.
Rule 4. After an error in what it received a machine refuses everything more; it can still say ERROR.
Rule 5. A machine may be used by several threads. The caller hands the bytes of `send_…` to the link in
        the order in which it got them: one lock of its own around both.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from threading import RLock
from typing import Generic, TypeVar

from engine.errors import ProtocolError
from engine.link.frames import SESSION_BYTES, Data, Frame, FrameReader, FrameType, FrameWriter
from engine.session.hello import PeerError
from engine.session.messages import Bye


class State(enum.Enum):
    """Where a session stands; see the head of this file."""

    START = "start"
    GREETED = "greeted"
    JOINING = "joining"
    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"
    LATE = "late"  # answered and stopped at once: STOPPED is due
    CLOSED = "closed"


Event = TypeVar("Event")
Table = Mapping[State, Mapping[FrameType, State]]
F, S = FrameType, State

_ENDS = {F.ERROR: S.CLOSED, F.BYE: S.CLOSED}


def _table(moves: dict[State, dict[FrameType, State]]) -> Table:
    return {state: {**moves.get(state, {}), **_ENDS} for state in S if state is not S.CLOSED} | {S.CLOSED: {}}


_CLIENT: dict[State, dict[FrameType, State]] = {
    S.START: {F.HELLO: S.GREETED},
    S.IDLE: {F.BLOCK: S.IDLE, F.MATERIAL: S.IDLE, F.STEP: S.RUNNING, F.REWIND: S.IDLE},
    S.RUNNING: {F.BLOCK: S.RUNNING, F.MATERIAL: S.RUNNING, F.STOP: S.STOPPING},
}
CLIENT_SENDS = _table(_CLIENT)
NODE_RECEIVES = _table(_CLIENT | {S.IDLE: {**_CLIENT[S.IDLE], F.STOP: S.LATE}})
NODE_SENDS = CLIENT_RECEIVES = _table(
    {
        S.GREETED: {F.WELCOME: S.JOINING},
        S.JOINING: {F.READY: S.IDLE},
        S.RUNNING: {F.PROGRESS: S.RUNNING, F.ANSWER: S.IDLE},
        S.STOPPING: {F.PROGRESS: S.STOPPING, F.ANSWER: S.LATE, F.STOPPED: S.IDLE},
        S.LATE: {F.STOPPED: S.IDLE},
    }
)


class Machine(ABC, Generic[Event]):
    """What both sides of a session share: state, numbered frames, ERROR and BYE."""

    def __init__(self, session: bytes | None, sends: Table, receives: Table) -> None:
        self.state = State.START
        self._sends, self._receives = sends, receives
        self._reader = FrameReader(session)
        self._writer: FrameWriter | None = None
        self._error: ProtocolError | None = None
        self._lock = RLock()

    @property
    def session(self) -> bytes | None:
        """The session's 16 bytes; None until a node has heard them."""
        return self._reader.session

    @property
    def received(self) -> int:
        """How many messages were heard: the number that the next one bears."""
        return self._reader.sequence

    def receive(self, data: Data) -> Event | PeerError | Bye:
        """What the next message says; views of `data` where it is big. Raises ProtocolError."""
        with self._lock:
            if self._error is not None:
                raise self._error.with_traceback(None)
            try:
                frame = self._reader.read(data)
                after = self._receives[self.state].get(frame.type)
                if after is None:
                    raise ProtocolError("out-of-place", f"{frame.type.name} while {self.state.value}")
                event = self._understand(frame)
            except ProtocolError as error:
                self._error = error
                raise
            self.state = after
            return event

    def send_error(self, error: ProtocolError) -> bytes:
        """ERROR: give the session up and say why; at most 1 kB."""
        return self._write(FrameType.ERROR, PeerError(error.code, error.text, error.retry_after).encode())

    def send_bye(self) -> bytes:
        """BYE: the session is over."""
        return self._write(FrameType.BYE)

    @abstractmethod
    def _event(self, frame: Frame) -> Event:
        """Read, check and book a message that has its place; the lock is held."""

    def _understand(self, frame: Frame) -> Event | PeerError | Bye:
        if frame.type is FrameType.ERROR:
            return PeerError.parse(frame.payload)
        if frame.type is FrameType.BYE:
            return Bye.parse(frame.payload)
        return self._event(frame)

    def _write(self, kind: FrameType, *parts: Data) -> bytes:
        """The next frame, with the state behind it entered."""
        with self._lock:
            after = self._place(kind)
            if self._writer is None:
                self._writer = FrameWriter(self.session or bytes(SESSION_BYTES))
            data = self._writer.write(kind, *parts)
            self.state = after
            return data

    def _place(self, kind: FrameType) -> State:
        """The state after sending this; ValueError if it has no place now."""
        after = self._sends[self.state].get(kind)
        if after is None:
            raise ValueError(f"{kind.name} cannot be sent while {self.state.value}")
        return after
