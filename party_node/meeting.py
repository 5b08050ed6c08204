"""Where the two halves of a session's link between the nodes find each other.

The node with the smaller certificate fingerprint dials; at the other one the link and the client's
HELLO may come in either order, and whoever is first waits for the other by the session's id. A client calls the node first
that is dialled, so that its session waits already: links that come early are rare, and only so many wait.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition

from engine.link import Data
from engine.link.link import Link


class Meeting:
    """Thread-safe; `patience` is how many seconds either side waits, `early` how many links may, whose session is not there."""

    def __init__(self, patience: float, early: int = 8) -> None:
        self._patience, self._early = patience, early
        self._expected: set[bytes] = set()
        self._changed = Condition()
        self._waiting: dict[bytes, tuple[Link, Data]] = {}
        self._closed = False

    def bring(self, session: bytes, link: Link, hello: Data) -> bool:
        """Leave the other node's link and its first message for `session`; whether somebody took them."""
        arrival = (link, hello)
        with self._changed:
            if session in self._waiting or self._closed:
                return False
            if session not in self._expected and len(self._waiting) >= self._early:
                return False
            self._waiting[session] = arrival
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting.get(session) is not arrival or self._closed, self._patience)
            taken = self._waiting.get(session) is not arrival
            if not taken:
                del self._waiting[session]
            return taken

    def take(self, session: bytes, gone: Callable[[], bool]) -> tuple[Link, Data] | None:
        """The other node's link and first message; None if it does not come in time, or once `gone()` after a `wake`."""
        with self._changed:
            self._expected.add(session)
            self._changed.wait_for(lambda: session in self._waiting or gone() or self._closed, self._patience)
            self._expected.discard(session)
            arrival = self._waiting.pop(session, None)
            self._changed.notify_all()
            return arrival

    def wake(self) -> None:
        """Let everybody look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody is waited for any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
