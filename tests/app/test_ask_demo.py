"""`trine ask` as a process, on the real demo with the small model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)


@contextmanager
def trine(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


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
    words = ("ask", "hello there", "--model", small_shared, "--max-tokens", "6", "--temperature", "0.7", "--seed", "5")
    out, err, code = run(*words, "--stats")
    assert (err, code) == ("", 0)
    lines = out.splitlines()
    for beginning in ("tokens/s ", "rounds ", "bytes a token ", "cold start "):
        assert sum(line.startswith(beginning) for line in lines) == 1, out
    out, err, code = run(*words, "--json")
    assert (err, code) == ("", 0)
    found = json.loads(out)
    assert lines[0] == found["answer"].splitlines()[0]  # the seed gives the same answer again
    assert found["reason"] == "length"
    assert found["answer_tokens"] == 6
    assert found["decode"]["rounds"] == 5 * found["prefill"]["rounds"] / found["prefill"]["steps"]
    assert set(found["bytes_per_token"]) == {"D-E1", "D-E2", "E1-E2"}
    assert min(found["bytes_per_token"].values()) > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"])
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


def test_a_directory_that_is_no_model_is_exit_code_2(tmp_path: Path) -> None:
    out, err, code = run("ask", "hello", "--model", tmp_path)
    assert (out, code) == ("", 2)
    assert err.startswith(f"trine: {tmp_path}")
    assert err.count("\n") == 1
