"""Signals while a program is still being imported, or compiles: its exit code, no traceback, nothing left, soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.app.cli.test_ask_demo import children, wait_until_gone

SECONDS = 2.0
BUSY = 2.5  # beside it, for a machine that runs other tests

ENDINGS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["ctrl-c", "term", "hang-up"]
)

# Sends itself a signal when a module is looked for; what is called then swallows whatever is raised.
INTERRUPTED = """
import os, signal, sys
module, number, *words = sys.argv[1:]
class Interrupting:
    def find_spec(self, name, *_):
        if name == module:
            try:
                os.kill(os.getpid(), int(number))
                for _ in range(1000):
                    pass
            except BaseException:
                if SWALLOWS:
                    return
                raise
sys.meta_path.insert(0, Interrupting())
import app.cli.main
entry = {"trine": app.cli.main.main, "trine-model": app.cli.main.model}[words[0]]
sys.argv = words
entry()
"""


def ended(module: str, number: int, *words: str, swallows: bool = True) -> tuple[int, str]:
    """(exit code, stderr) of a program that gets a signal while it imports a module."""
    program = f"SWALLOWS = {swallows}\n{INTERRUPTED}"
    command = [sys.executable, "-c", program, module, str(int(number)), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


ASK = ("trine", "ask", "hello", "--model", "none")
CHECK = ("trine-model", "check", "none", "none")


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGTERM, 143, ASK), (signal.SIGINT, 130, CHECK), (signal.SIGHUP, 129, CHECK)]
)
def test_a_signal_during_an_import_ends_a_program_at_once(number: int, code: int, words: tuple[str, ...]) -> None:
    """Whatever the library that is imported does with exceptions."""
    assert ended("typer", number, *words) == (code, "")


@pytest.mark.long
@ENDINGS
@pytest.mark.parametrize("words", [ASK, CHECK], ids=["trine", "trine-model"])
def test_a_signal_while_a_command_imports_unwinds_it(number: int, code: int, words: tuple[str, ...]) -> None:
    found, said = ended("numba", number, *words, swallows=False)
    assert (found, said.strip()) == (code, "")


def test_signals_that_whoever_started_it_ignores_stay_ignored(tmp_path: Path) -> None:
    """`nohup`, and what a shell starts in the background."""
    program = f'trap \'\' HUP INT; exec {sys.executable} -c "$0" "$@"'
    command = [
        "sh",
        "-c",
        program,
        f"SWALLOWS = False\n{INTERRUPTED}",
        "numba",
        str(int(signal.SIGHUP)),
        *ASK[:-1],
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no shared model" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("number", "code", "program"), [(signal.SIGINT, 130, "ask"), (signal.SIGHUP, 129, "chat"), (signal.SIGTERM, 143, "share")]
)
def test_a_signal_in_the_middle_of_loading_ends_all_within_2_seconds(
    number: int, code: int, program: str, small_shared: Path, tmp_path: Path
) -> None:
    """With an empty cache, as at the very first start."""
    out = tmp_path / "out"
    words = {
        "ask": ["app.cli.main", "ask", "hello", "--model", small_shared],
        "chat": ["app.cli.main", "demo", "--terminal", "--model", small_shared],
        "share": ["app.cli.model", "share", small_shared.parent / "checkpoint", "--out", out],
    }[program]
    cache = tmp_path / "cache"
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            deadline = time.monotonic() + 100
            while not (out.exists() if program == "share" else list(cache.rglob("*.nbi"))):  # it is begun; a kernel is compiled
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            started = children(process.pid)
            process.send_signal(number)
            sent = time.monotonic()
            said = process.stderr.read()
            assert process.wait(60) == code, said
            assert time.monotonic() - sent < SECONDS + BUSY
        finally:
            process.kill()
    assert said.strip() == ""
    wait_until_gone(started, 5)
    assert not out.exists()
