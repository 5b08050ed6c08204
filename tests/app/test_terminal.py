"""The terminal's own ways: keys that are pressed while an answer comes."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest

from app import terminal


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written to it is typed into the terminal that stdin is; what is read from it is shown there."""
    master, slave = os.openpty()
    with open(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


def echoes() -> bool:
    return bool(termios.tcgetattr(sys.stdin.fileno())[3] & termios.ECHO)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SystemExit])
def test_keys_pressed_during_an_answer_are_neither_shown_nor_kept(keyboard: int, error: type[BaseException] | None) -> None:
    with suppress(KeyboardInterrupt, SystemExit), terminal._deaf():
        assert not echoes()
        os.write(keyboard, b"typed meanwhile\n")
        assert select.select([sys.stdin], [], [], 10)[0]  # the kernel hands it over in its own time
        if error is not None:
            raise error
    assert echoes()
    shown = select.select([keyboard], [], [], 0)[0]
    assert not shown
    os.write(keyboard, b"typed later\n")
    assert sys.stdin.readline() == "typed later\n"


def test_what_is_no_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with terminal._deaf():
            assert not stdin.closed
