"""Who has the node's places: so many sessions at a time, and so many of one certificate.

Rule 1. Nobody is sent away while nobody waits. When somebody does, a place gives way that is not used: whose two halves have
        not met for `unmet_seconds`, or that has computed nothing for `idle_seconds`, the longest unused first.
Rule 2. Of a certificate that has all its places only its own give way.
Rule 3. Who finds no place is told when to ask again, each a little later than the one before, so that they do not all come
        at the same moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Condition, Thread

from engine.errors import ProtocolError
from party_node.limits import Limits

_LEAVING_SECONDS = 1.0  # until a place that gives way is free; who waits longer comes again
_FIRST_SECONDS, _APART_SECONDS, _MOST_SECONDS = 0.5, 0.1, 5.0  # of "ask again in"


@dataclass(eq=False, slots=True)
class Place:
    """One session's; `client` is the fingerprint of its certificate."""

    client: str
    _leave: Callable[[], None]
    _used: float = field(default_factory=lambda: time.monotonic())
    _met: bool = False
    _leaving: bool = False

    def meet(self) -> None:
        """The two nodes' halves of the session have met."""
        self._met = True
        self.use()

    def use(self) -> None:
        """Something is computed."""
        self._used = time.monotonic()

    def overdue(self, limits: Limits, now: float) -> bool:
        """Whether it is to give way."""
        return now - self._used >= (limits.idle_seconds if self._met else limits.unmet_seconds)

    def give_way(self) -> None:
        """End the session, whose client may not even read, in a thread of its own."""
        if not self._leaving:
            with suppress(RuntimeError):  # no thread can be started now: whoever asks next tries again
                Thread(target=self._leave, name="trine-leaving", daemon=True).start()
                self._leaving = True


class Places:
    """Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = Condition()
        self._held: dict[bytes, Place] = {}
        self._told = 0.0  # until when those who were refused last wait

    @contextmanager
    def take(self, session: bytes, client: str, leave: Callable[[], None]) -> Iterator[Place]:
        """A place as long as the context lasts; `leave` ends the session if it has to give way.

        Raises:
            ProtocolError: busy, with the time to ask again; out-of-place for a session that runs.
        """
        place = Place(client, leave)
        with self._changed:
            if session in self._held:
                raise ProtocolError("out-of-place", "this session runs already")
            if self._in_the_way(client) and not self._cleared(client):
                raise self._busy(client)
            self._held[session] = place
        try:
            yield place
        finally:
            with self._changed:
                del self._held[session]
                self._changed.notify_all()

    def _in_the_way(self, client: str) -> Collection[Place]:
        """The places of which one must become free first; none if there is room."""
        own = [place for place in self._held.values() if place.client == client]
        if len(own) >= self._limits.client_sessions:
            return own
        return self._held.values() if len(self._held) >= self._limits.sessions else ()

    def _cleared(self, client: str) -> bool:
        """Whether one gave way soon enough."""
        now = time.monotonic()
        overdue = [place for place in self._in_the_way(client) if place.overdue(self._limits, now)]
        if not overdue:
            return False
        min(overdue, key=lambda place: place._used).give_way()
        return self._changed.wait_for(lambda: not self._in_the_way(client), _LEAVING_SECONDS)

    def _busy(self, client: str) -> ProtocolError:
        now, limits = time.monotonic(), self._limits
        self._told = min(max(now + _FIRST_SECONDS, self._told + _APART_SECONDS), now + _MOST_SECONDS)
        own = sum(place.client == client for place in self._held.values())
        text = f"{limits.sessions} sessions" if own < limits.client_sessions else f"{own} sessions of one client"
        return ProtocolError("busy", text, round(self._told - now, 1))
