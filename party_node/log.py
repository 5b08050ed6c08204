"""The node's log: one JSON object a line, on stderr.

Rule 1. An entry is an event's name and plain figures: counts, seconds, roles, addresses, error codes. Never a payload,
        a key, an exception's own text from outside our error classes, or a traceback with values.
Rule 2. Who logs never waits and never fails: a line that cannot be written is lost and counted (party_node/outlet.py).
Rule 3. What callers can cause without a session is said once a second and kind at most; the next entry of that kind has the
        number of those that were not said (`unsaid`).
"""

from __future__ import annotations

import time
import traceback
from threading import Lock
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from engine.link.allowance import Allowance
from party_node.outlet import STDERR

Log = FilteringBoundLogger

_ALWAYS = {"loaded", "session opened", "session ended", "stopping", "stopped"}  # few, each for a reason of the node's own
_AT_ONCE = {"caller refused": 1}  # who has no certificate causes these
_OTHERS_AT_ONCE, _A_SECOND = 10, 1.0
_KINDS = 64  # what callers say finds its way into reasons


def make_log(role: int, file: TextIO | None = None) -> Log:
    """A logger that names the node's role in every line; `file` is stderr by default."""
    log: Log = structlog.wrap_logger(
        structlog.WriteLogger(file or cast(TextIO, STDERR)),  # of which it uses `write` and `flush`
        processors=[
            Sparing(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    ).bind(role=role)
    return log


class Sparing:
    """A processor that drops entries of a kind (their event and code, or reason) beyond its allowance, and counts them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kinds: dict[tuple[str, str], _LineKind] = {}

    def __call__(self, logger: object, method: str, entry: EventDict) -> EventDict:
        """The entry, with `unsaid` if others were dropped before it; DropEvent if it is dropped itself."""
        event = str(entry["event"])
        if event in _ALWAYS:
            return entry
        with self._lock:
            kind = self._kind(event, str(entry.get("code") or entry.get("why")))
            if not kind.allowance.spend(time.monotonic()):
                kind.unsaid += 1
                raise structlog.DropEvent
            if kind.unsaid:
                entry["unsaid"], kind.unsaid = kind.unsaid, 0
        return entry

    def _kind(self, event: str, reason: str) -> _LineKind:
        if (event, reason) not in self._kinds and len(self._kinds) >= _KINDS:
            reason = ""  # all further reasons are one
        return self._kinds.setdefault((event, reason), _LineKind(event))


class _LineKind:
    def __init__(self, event: str) -> None:
        self.allowance = Allowance(_AT_ONCE.get(event, _OTHERS_AT_ONCE), _A_SECOND, time.monotonic())
        self.unsaid = 0


def place(error: BaseException) -> str:
    """Kind and place of an unexpected error, without its text: "ValueError at matmul.py:31"."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
