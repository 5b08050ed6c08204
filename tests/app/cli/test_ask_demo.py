"""`trine ask` as a process, on the real demo with the small model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from app.chat.chat import Settings
from app.chat.events import Done, Event, Failed, Waiting
from app.demo.start import start_demo
from engine.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.timeout(300)


@contextmanager
def trine(*arguments: str | Path, stdout: int | IO[str] = subprocess.PIPE, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | variables,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


BUSY = 2.5
"""Seconds beside what is promised, for a machine that runs other tests."""


def run(*arguments: str | Path) -> tuple[str, str, int]:
    with trine(*arguments) as process:
        out, err = process.communicate(timeout=200)
    return out, err, process.returncode


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_answer_and_its_figures(small_shared: Path) -> None:
    words = ("ask", "hello there", "--model", small_shared, "--max-tokens", "6", "--temperature", "0.7", "--seed", "6")
    out, err, code = run(*words, "--stats")
    assert (err, code) == ("The answer was cut after 6 tokens: --max-tokens.\n", 0)
    lines = out.splitlines()
    for beginning in ("tokens/s ", "rounds ", "bytes a token ", "cold start "):
        assert sum(line.startswith(beginning) for line in lines) == 1, out
    out, err, code = run(*words, "--json")
    assert (err, code) == ("", 0)
    found = json.loads(out)
    assert lines[0] == found["answer"].splitlines()[0]  # the seed gives the same answer again: no token of it is a close call
    assert found["reason"] == "length"
    assert found["answer_tokens"] == 6
    assert found["decode"]["rounds"] == 5 * found["prefill"]["rounds"] / found["prefill"]["steps"]
    assert set(found["bytes_per_token"]) == {"D-E1", "D-E2", "E1-E2"}
    assert min(found["bytes_per_token"].values()) > 0


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c", marks=pytest.mark.long),  # with a frozen node it is tested below
        pytest.param(signal.SIGTERM, 143, id="term"),
    ],
)
def test_a_signal_ends_the_answer_and_both_nodes(small_shared: Path, number: signal.Signals, code: int) -> None:
    with trine("ask", "hello", "--model", small_shared, "--max-tokens", "400") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        nodes = children(process.pid)
        assert len(nodes) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert (err.strip(), process.returncode) == ("", code)
    assert not any(alive(pid) for pid in nodes)


def test_a_node_that_dies_is_named_and_is_exit_code_3(small_shared: Path) -> None:
    with trine("ask", "hello", "--model", small_shared, "--max-tokens", "400") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        os.kill(max(children(process.pid)), signal.SIGKILL)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert err.startswith("trine: node ")
    assert err.count("\n") == 1


def test_what_is_no_shared_model_is_exit_code_2(small_shared: Path, tmp_path: Path) -> None:
    """Nor is one whose packs do not belong together: no node is started, which could only say that the other is wrong."""

    def refusal(model: Path) -> str:
        out, err, code = run("ask", "hello", "--model", model)
        assert (out, code) == ("", 2)
        assert err.count("\n") == 1
        return err

    for path in (tmp_path, tmp_path / "missing", small_shared / "node1"):
        assert refusal(path).startswith(f"trine: {path}: no shared model: name the directory that `trine-model share` wrote")
    for party in ("client", "node1", "node2"):
        (tmp_path / party).symlink_to(small_shared / party)
    (tmp_path / "node2").unlink()
    assert refusal(tmp_path).startswith(f"trine: {tmp_path}/node2: there is no node pack here")
    (tmp_path / "node2").symlink_to(small_shared / "node1")
    assert refusal(tmp_path).startswith(f"trine: {tmp_path}/node2: this is not node 2's pack of the sharing")


def test_a_frozen_node_is_told_and_gone_within_5_seconds(small_shared: Path) -> None:
    with trine("ask", "hello", "--model", small_shared, "--max-tokens", "400") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        nodes = children(process.pid)
        os.kill(max(nodes), signal.SIGSTOP)
        frozen = time.monotonic()
        _, err = process.communicate(timeout=60)
        took = time.monotonic() - frozen
    assert process.returncode == 3
    assert "no sign of life" in err
    assert took < 5 + BUSY
    assert not any(alive(pid) for pid in nodes)


def test_ctrl_c_with_a_frozen_node_ends_everything_within_5_seconds(small_shared: Path) -> None:
    with trine("ask", "hello", "--model", small_shared, "--max-tokens", "400") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        nodes = children(process.pid)
        os.kill(max(nodes), signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        process.communicate(timeout=60)
        took = time.monotonic() - asked
    assert took < 5 + BUSY
    assert process.returncode == 130
    assert not any(alive(pid) for pid in nodes)


def loading(process: subprocess.Popen[str]) -> set[int]:
    """Both nodes' process ids, soon after they have begun to load: stopped before, one would stop the app."""
    deadline = time.monotonic() + 60
    while len([pid for pid in children(process.pid) if b"party_node" in command_line(pid)]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    return children(process.pid)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until_gone(pids: set[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a node lives on"
        time.sleep(0.05)


def test_ctrl_c_while_nodes_load_ends_them_at_once(small_shared: Path) -> None:
    with trine("ask", "hello", "--model", small_shared) as process:
        nodes = loading(process)
        for pid in nodes:
            os.kill(pid, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - asked < 2 + BUSY
    assert process.returncode == 130
    wait_until_gone(nodes, 5)


def test_who_is_killed_while_nodes_load_leaves_no_file_and_no_process(small_shared: Path, tmp_path: Path) -> None:
    with trine("ask", "hello", "--model", small_shared, TMPDIR=str(tmp_path)) as process:
        nodes = loading(process)
        assert not list(tmp_path.iterdir())
        process.kill()
        process.wait()
        wait_until_gone(nodes, 20)
    assert not list(tmp_path.iterdir())


def test_a_question_that_is_too_long_is_refused_before_any_node_starts(small_shared: Path) -> None:
    said: list[str] = []
    start = start_demo(Settings(), small_shared, lambda what, done, of: said.append(what), "word " * 5000)
    with pytest.raises(InputError, match="tokens long and the model takes"), start:
        pass
    assert said == ["loading the model"]


def test_after_a_node_has_died_the_next_question_starts_it_again(small_shared: Path) -> None:
    with start_demo(Settings(max_tokens=5), small_shared, lambda what, done, of: None) as running:
        events: list[Event] = []
        running.chat.send("hello", events.append)
        assert isinstance(events[-1], Done)
        os.kill(max(children(os.getpid())), signal.SIGKILL)
        running.chat.send("and now?", events.append)
        if isinstance(events[-1], Failed):  # it was not known to be dead yet
            running.chat.send("and now?", events.append)
        assert isinstance(events[-1], Done), events[-1]
        assert any(isinstance(event, Waiting) for event in events)


def test_a_node_that_stays_frozen_is_replaced(small_shared: Path) -> None:
    """It is noticed in the answer, cannot be called for the next one, and is another one for the one after that."""
    with start_demo(Settings(max_tokens=5), small_shared, lambda what, done, of: None) as running:
        events: list[Event] = []
        os.kill(max(children(os.getpid())), signal.SIGSTOP)
        for _ in range(4):
            running.chat.send("hello", events.append)
            if isinstance(events[-1], Done):
                break
            assert isinstance(events[-1], Failed)
        assert isinstance(events[-1], Done), events[-1]
        assert any(isinstance(event, Waiting) for event in events)


@pytest.mark.parametrize("options", [pytest.param((), id="text"), pytest.param(("--json",), id="json", marks=pytest.mark.long)])
def test_a_full_disk_is_one_sentence(small_shared: Path, options: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full, trine("ask", "hi", "--model", small_shared, *options, stdout=full) as process:
        _, err = process.communicate(timeout=200)
    assert (err, process.returncode) == ("trine: No space left on device\n", 4)


def test_a_reader_that_leaves_ends_the_answer_quietly(small_shared: Path) -> None:
    with trine("ask", "hi", "--model", small_shared, "--max-tokens", "200") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(20) == 141
