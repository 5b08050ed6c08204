"""Signals that end a program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["leaving_at_once", "unwinding"]

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.02


def leaving_at_once() -> None:
    """From now on a signal that ends programs ends this one where it stands, with 128 and its number, until `unwinding`.

    For what comes before anything is begun: what libraries do at an exception in the middle of their import is their own
    affair. A signal that whoever started us has us ignore (`nohup`) stays ignored.
    """
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the program first, as Ctrl-C does: what was begun is taken away again. Ignored ones stay so.

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

    handlers: dict[int, Any] = dict.fromkeys(_ENDING, _end) | {signal.SIGINT: signal.default_int_handler}
    heard = [number for number in handlers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handlers[number]) for number in heard}
    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield
    finally:
        for timer in later:
            timer.cancel()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> NoReturn:
    os._exit(128 + number)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _signal_behind(error: BaseException | None) -> int | None:
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit):
        return next((number for number in _ENDING if error.code == 128 + number), None)
    return None
