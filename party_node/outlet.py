"""Lines to stdout and stderr that nobody waits for: the reader may have gone or stall, the disk may be full.

Rule 1. `write` never waits and never fails. One thread writes; a line that finds the queue full, or cannot be written, is lost
        and counted, and the number is told once writing works again.
Rule 2. Nothing is buffered behind the descriptor: at its end the process has nothing left to flush.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import select
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

LINES = 1000  # that wait to be written, at most
_CUT = b"\n"  # ends what was left of a line that was written in part


class Outlet:
    """Lines to a descriptor; `losses` makes the line that tells how many were lost. Thread-safe.

    With `stays` the thread waits for the next line, so that there is one when the system gives no more of them.
    """

    def __init__(self, descriptor: int, losses: Callable[[int], str] | None = None, *, stays: bool = False) -> None:
        self.lost = 0  #: lines since the last one that told of them
        self.is_broken = False  #: whether the reader has gone
        self._descriptor, self._losses, self._stays = descriptor, losses, stays
        self._changed = Condition()
        self._lines: deque[str] = deque()
        self._thread: Thread | None = None
        self._cut = False

    def write(self, line: str) -> int:
        """Have a line written, its end included; returns its length, as files do."""
        with self._changed:
            if len(self._lines) >= LINES:
                self.lost += 1
            else:
                self._lines.append(line)
                self._changed.notify_all()
            if self._thread is None:
                self._start()
        return len(line)

    def flush(self) -> None:
        """Nothing: see `drain`."""

    def drain(self, seconds: float) -> bool:
        """Wait until all is written or lost, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines, seconds)

    def _start(self) -> None:
        thread = Thread(target=self._run, name="trine-outlet", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started now: the next line tries again
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._lines), None if self._stays else 0):
                    self._thread = None
                    return
                line, lost = self._lines[0], self.lost
            told = self._tell(lost) and self._put(line)
            with self._changed:
                self.lost += 0 if told else 1
                self._lines.popleft()
                self._changed.notify_all()

    def _tell(self, lost: int) -> bool:
        """Say how many lines were lost; whether that, too, was not lost."""
        if lost and self._losses is not None and not self._put(self._losses(lost)):
            return False
        with self._changed:
            self.lost -= lost
        return True

    def _put(self, line: str) -> bool:
        rest = (_CUT if self._cut else b"") + line.encode("utf-8", "replace")
        whole = len(rest)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # whoever gave us the descriptor shares it, and does not want to wait
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll()
        except OSError as error:
            self.is_broken = isinstance(error, BrokenPipeError)
            self._cut = self._cut or len(rest) < whole
            return False
        self.is_broken = self._cut = False
        return True


def _losses(count: int) -> str:
    """As an entry of the log."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return json.dumps({"event": "log lines lost", "count": count, "level": "warning", "timestamp": now}) + "\n"


STDOUT = Outlet(1)
STDERR = Outlet(2, _losses, stays=True)
