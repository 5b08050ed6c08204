"""Signals that end a program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["unwinding"]

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.02


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the program first, as Ctrl-C does: what was begun is taken away again.

    What a handler raises is lost where C called the Python code that it interrupts (LLVM does, while a kernel is compiled; a
    weak reference's callback): such a signal is sent again, until it arrives.
    """
    later: list[Timer] = []

    def send_again(lost: UnraisableHookArgs) -> None:
        if (number := _signal_behind(lost.exc_value)) is None:
            hook(lost)
        else:
            later.append(Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number)))
            later[-1].start()

    before = {number: signal.signal(number, _end) for number in _ENDING}
    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield
    finally:
        for timer in later:
            timer.cancel()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _signal_behind(error: BaseException | None) -> int | None:
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit):
        return next((number for number in _ENDING if error.code == 128 + number), None)
    return None
