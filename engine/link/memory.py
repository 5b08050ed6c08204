"""Two ends of a link within one process, for tests: the same interface, no socket.

Rule 1. What was sent before `close` or `abort` is received first, then LinkError, as over a socket.
Rule 2. Messages are copied, so that neither end sees what the other does to its buffer.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Condition
from types import TracebackType
from typing import Self

from engine.errors import LinkError
from engine.link.frames import Data


def pair(
    path: str = "/session", fingerprints: tuple[str, str] = ("a" * 64, "b" * 64)
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two connected ends, whose certificates would have these fingerprints."""
    turn = Condition()
    first = MemoryConnection(path, fingerprints[1], turn)
    second = MemoryConnection(path, fingerprints[0], turn)
    first.peer, second.peer = second, first
    return first, second


class MemoryConnection:
    """One end of a `pair`, with the interface and the counters of `engine.link.Connection`."""

    peer: MemoryConnection

    def __init__(self, path: str, peer_fingerprint: str, turn: Condition) -> None:
        self.path = path
        self.peer_fingerprint = peer_fingerprint
        self.party = f"memory {path}"
        self.bytes_sent = self.bytes_received = 0
        self.messages_sent = self.messages_received = 0
        self._turn = turn  # guards both ends
        self._inbox: deque[bytes] = deque()
        self._error: LinkError | None = None

    def send(self, data: Data, timeout: float | None = 60.0) -> None:
        """Send a message; never waits, for the other end's inbox has no bound."""
        with self._turn:
            if self._error is not None:
                raise self._error.with_traceback(None)
            self.peer._inbox.append(bytes(data))
            self.messages_sent += 1
            self.bytes_sent += len(data)
            self._turn.notify_all()

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message; LinkError after `timeout` seconds or when either end is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._turn:
            while not self._inbox:
                if self._error is not None:
                    raise self._error.with_traceback(None)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    self._end(f"no answer within {timeout:g} s", "the other side hung up")
                else:
                    self._turn.wait(left)
            data = self._inbox.popleft()
            self.messages_received += 1
            self.bytes_received += len(data)
            return data

    def exchange(self, data: Data, timeout: float | None = 60.0) -> bytes:
        """Send a message and return the next one that comes; errors as `receive`."""
        try:
            self.send(data)
        except LinkError:
            if not self._inbox:  # else what the peer said before it left comes first
                raise
        return self.receive(timeout)

    def keep_watch(self, ping_interval: float, ping_timeout: float) -> None:
        """There is nothing between the two ends that could be silent."""

    def watch(self, late: float = 0.0) -> None:
        """LinkError if either end is closed."""
        with self._turn:
            if self._error is not None and not self._inbox:
                raise self._error.with_traceback(None)

    def close(self, linger: float = 1.0) -> None:
        """End the link; the other end still receives what was sent. Idempotent."""
        with self._turn:
            self._inbox.clear()
            self._end("the connection was closed", "the other side closed the connection")

    def abort(self) -> None:
        """End the link at once. Idempotent."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _end(self, here: str, there: str) -> None:
        for end, text in ((self, here), (self.peer, there)):
            end._error = end._error or LinkError(text, end.party)
        self._turn.notify_all()
