"""What the readers of both links hear, for the one thread that waits for it.

Rule 1. A failure of either link reaches whoever waits, at once; only if it says no more than that the nodes have lost
        each other, the other link gets a moment to say why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition

from engine.errors import LinkError, ProtocolError
from engine.session import ClientEvent

_MOMENT = 1.5  # a frozen node falls silent for all at once, but each has heard it last at another moment, a second apart
_VAGUE = 2


class Inbox:
    """Thread-safe; one thread takes, any may put."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._events: deque[tuple[int, ClientEvent]] = deque()
        self._failures: dict[int, Exception] = {}

    @property
    def failed(self) -> bool:
        """Whether anything failed."""
        return bool(self._failures)

    def put(self, role: int, event: ClientEvent) -> None:
        """A node said something."""
        with self._changed:
            self._events.append((role, event))
            self._changed.notify_all()

    def fail(self, role: int, error: Exception) -> None:
        """The link to a node is over (role 0: the dealing thread is); the first failure of each counts."""
        with self._changed:
            self._failures.setdefault(role, error)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `ready()`; False if the time is over first. Raises what failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failures or ready(), seconds)
            self._raise()
            return ready()

    def take(self, until: Callable[[], bool], seconds: float | None = None) -> tuple[int, ClientEvent] | None:
        """The next (role, event); None if `until()` holds or the time is over. Raises what failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._failures or until(), seconds)
            if self._events:  # what a node said before it failed is heard first
                return self._events.popleft()
            self._raise()
            return None

    def failure(self, seconds: float) -> Exception | None:
        """What failed, once it is known; None if nothing does within `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._failures), seconds)
            try:
                self._raise()
            except Exception as error:
                return error
            return None

    def _raise(self) -> None:
        if self._failures:
            self._changed.wait_for(lambda: len(self._failures) > 1 or _clarity(self._clearest()) < _VAGUE, _MOMENT)
            raise self._clearest().with_traceback(None)

    def _clearest(self) -> Exception:
        return min(self._failures.values(), key=_clarity)


def _clarity(error: Exception) -> int:
    """0 says what happened, 1 which link broke, `_VAGUE` only that something did elsewhere."""
    if isinstance(error, ProtocolError):
        return _VAGUE if error.code == "no-peer" else 0
    return 1 if isinstance(error, LinkError) else 0
