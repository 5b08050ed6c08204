"""Lines whose reader stalls, has gone, or has no room: whoever says them goes on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from party_node.log import Sparing, make_log
from party_node.outlet import LINES, Outlet

SOON = 5.0
LINE = "x" * 99 + "\n"
F_SETPIPE_SZ = 1031


def losses(count: int) -> str:
    return json.dumps({"lost": count}) + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A short one: (to read, to write)."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("stays", [True, False])
def test_lines_are_written_in_order(pipe: tuple[int, int], stays: bool) -> None:
    outlet = Outlet(pipe[1], losses, stays=stays)
    for number in range(5):
        assert outlet.write(f"{number}\n") == 2
    assert outlet.drain(SOON)
    assert os.read(pipe[0], 100) == b"0\n1\n2\n3\n4\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_stalled_reader_holds_nobody_up_and_learns_how_many_lines_were_lost(pipe: tuple[int, int], blocking: bool) -> None:
    os.set_blocking(pipe[1], blocking)
    outlet, lines = Outlet(pipe[1], losses), LINES + 500
    began = time.monotonic()
    for _ in range(lines):
        outlet.write(LINE)
    assert time.monotonic() - began < SOON
    assert not outlet.drain(0.01)
    with os.fdopen(pipe[0], closefd=False) as reader:
        heard = lost = 0
        while heard + lost < lines:  # what was lost may be said more than once: the pipe takes some lines meanwhile
            line = reader.readline()
            if line.startswith("{"):
                lost += json.loads(line)["lost"]
            else:
                assert line == LINE
                heard += 1
        assert 0 < lost <= 500
    assert outlet.drain(SOON)
    assert outlet.lost == 0


def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], losses)
    os.close(pipe[0])
    for number in range(3):
        outlet.write(LINE)
        assert outlet.drain(SOON)
        assert outlet.lost == number + 1
    assert outlet.is_broken


def test_a_full_disk_with_room_again(pipe: tuple[int, int]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(full, losses)
    for _ in range(3):
        outlet.write(LINE)
    assert outlet.drain(SOON)
    assert outlet.lost == 3
    assert not outlet.is_broken
    os.dup2(pipe[1], full)
    outlet.write(LINE)
    assert outlet.drain(SOON)
    assert os.read(pipe[0], 4096).decode() == losses(3) + LINE
    assert outlet.lost == 0
    os.close(full)


def test_a_line_that_was_cut_ends_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, asked = os.write, []

    def cutting(descriptor: int, data: bytes) -> int:
        """To a disk that has room for a part of the first line, and for all of the others later."""
        asked.append(data)
        if len(asked) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:10] if len(asked) == 1 else data)

    with (tmp_path / "log").open("wb") as file:
        outlet = Outlet(file.fileno(), losses)
        monkeypatch.setattr("party_node.outlet.os.write", cutting)
        outlet.write(LINE)
        outlet.write("next\n")
        assert outlet.drain(SOON)
    assert (tmp_path / "log").read_text().splitlines() == [LINE[:10], '{"lost": 1}', "next"]


def test_where_no_thread_can_be_started_the_next_line_tries_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    outlet = Outlet(pipe[1], losses)
    with monkeypatch.context() as patch:
        patch.setattr("party_node.outlet.Thread.start", start)
        outlet.write("first\n")
    outlet.write("second\n")
    assert outlet.drain(SOON)
    assert os.read(pipe[0], 100) == b"first\nsecond\n"


# What is said at all


class Memory:
    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []

    def write(self, line: str) -> int:
        self.entries.append(json.loads(line))
        return len(line)

    def flush(self) -> None:
        """Nothing."""


def test_what_callers_cause_is_said_once_a_second_and_counted() -> None:
    memory = Memory()
    log = make_log(1, memory)  # type: ignore[arg-type]
    for number in range(1000):
        log.warning("caller refused", why="the handshake took too long", party=f"192.0.2.1:{number}")
        log.warning("caller refused", why="another reason")
    whys = [entry["why"] for entry in memory.entries]
    assert whys[:2] == ["the handshake took too long", "another reason"]
    assert len(whys) < 2 * 10
    said = sum(1 + int(str(entry.get("unsaid", 0))) for entry in memory.entries)
    assert 2 <= said <= 2000


def test_the_next_that_is_said_tells_of_the_others() -> None:
    sparing = Sparing()
    entry = {"event": "caller refused", "why": "x"}
    for _ in range(2):
        unsaid, until = 0, time.monotonic() + SOON
        while (said := heard(sparing, entry)) is None and time.monotonic() < until:
            unsaid += 1
            time.sleep(0.02)
        assert said == ({**entry, "unsaid": unsaid} if unsaid else entry)
    assert unsaid > 1  # the first of them was said at once


def heard(sparing: Sparing, entry: dict[str, object]) -> dict[str, object] | None:
    """What is said of an entry; None if it is dropped."""
    try:
        return dict(sparing(None, "warning", dict(entry)))
    except structlog.DropEvent:
        return None


def test_reasons_without_end_are_one() -> None:
    memory = Memory()
    log = make_log(1, memory)  # type: ignore[arg-type]
    for number in range(1000):
        log.warning("caller refused", why=f"reason {number}")
    assert len(memory.entries) < 100


def test_a_nodes_own_doings_are_all_said() -> None:
    memory = Memory()
    log = make_log(2, memory)  # type: ignore[arg-type]
    for _ in range(100):
        log.info("session opened", context=1, prefix=1)
    assert len(memory.entries) == 100
    assert {entry["role"] for entry in memory.entries} == {2}
