"""The node's log: one JSON object a line, on stderr.

Rule 1. An entry is an event's name and plain figures: counts, seconds, roles, addresses, error codes. Never a payload,
        a key, an exception's own text from outside our error classes, or a traceback with values.
"""

from __future__ import annotations

import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger

Log = FilteringBoundLogger


def make_log(role: int, file: TextIO | None = None) -> Log:
    """A logger that names the node's role in every line; `file` is stderr by default."""
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(file or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    ).bind(role=role)
    return log


def place(error: BaseException) -> str:
    """Kind and place of an unexpected error, without its text: "ValueError at matmul.py:31"."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
