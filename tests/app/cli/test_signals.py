from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from app.cli.signals import unwinding

ENDINGS = pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
    ids=["ctrl-c", "term", "hang-up"],
)


def send_to_itself(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.001)  # the handler has run, and raised, by now


def in_a_callback_from_c(act: Callable[[], None]) -> None:
    ctypes.CFUNCTYPE(None)(act)()


def in_a_weak_reference_callback(act: Callable[[], None]) -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: act())
    del thing
    assert reference() is None


@ENDINGS
def test_a_signal_unwinds_what_was_begun(number: int, raised: type[BaseException]) -> None:
    undone = []

    def work() -> None:
        with unwinding():
            try:
                send_to_itself(number)
            finally:
                undone.append(True)

    with pytest.raises(raised):
        work()
    assert undone


@ENDINGS
@pytest.mark.parametrize("where", [in_a_callback_from_c, in_a_weak_reference_callback])
def test_a_signal_that_c_swallows_arrives_all_the_same(
    where: Callable[[Callable[[], None]], None], number: int, raised: type[BaseException]
) -> None:
    swallowed = []

    def work() -> None:
        with unwinding():
            where(lambda: send_to_itself(number))
            swallowed.append(True)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                time.sleep(0.005)

    with pytest.raises(raised) as caught:
        work()
    assert swallowed
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + number


def test_other_errors_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_value))

    def fail() -> None:
        raise ValueError

    with unwinding():
        in_a_callback_from_c(fail)
    assert [type(error) for error in told] == [ValueError]


def test_afterwards_all_is_as_before() -> None:
    def state() -> list[object]:
        return [sys.unraisablehook, *map(signal.getsignal, (signal.SIGTERM, signal.SIGHUP))]

    before = state()
    with unwinding():
        assert state() != before
    assert state() == before


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwinding():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            send_to_itself(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
