"""What holds for every test: no screen, no network hub, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.alone import TESTS, runs_alone

# Before any import of Qt or transformers, here and in every process that a test starts.
os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["HF_HUB_OFFLINE"] = "1"

# Who starts the tests in the background may have Ctrl-C ignored, or a hang-up, which every process would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The first example may compile kernels and the machine may be busy: time is pytest-timeout's.
settings.register_profile("trine", deadline=None)
settings.load_profile("trine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those of the table."""
    for item in items:
        if runs_alone(item.path):
            item.add_marker(pytest.mark.alone)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Before the workers start: compile the kernels, so that no two of them do it at once."""
    subprocess.run([sys.executable, "-m", "tests.kernels"], cwd=TESTS.parent, check=True)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A TMPDIR of this run alone, so that what a test leaves there is seen."""
    directory = tmp_path_factory.mktemp("TMPDIR")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(directory))
        patch.setattr(tempfile, "tempdir", None)  # read TMPDIR again
        yield directory


@pytest.fixture(autouse=True)
def leaves_nothing_behind(own_temporary_directory: Path) -> Iterator[None]:
    """Fail a test that leaves a child process, a listening port or a temporary file.

    Fixtures of a module or the session are set up before this one and may keep theirs.
    """
    before = belongings(own_temporary_directory)
    yield
    left = sorted(belongings(own_temporary_directory) - before)
    assert not left, f"the test left behind: {', '.join(left)}"


def belongings(directory: Path) -> set[str]:
    """The children (zombies too), listening ports and temporary files of this process."""
    files = {f"file {entry}" for entry in directory.iterdir()}
    if not sys.platform.startswith("linux"):
        return files
    return files | children() | listening_ports()


def children() -> set[str]:
    """Every child of any of this process's threads."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update((task / "children").read_text().split())
        except FileNotFoundError:  # the thread has just ended
            continue
    return {f"process {pid}" for pid in found}


def listening_ports() -> set[str]:
    """The TCP ports on which a socket of this process listens."""
    sockets = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except FileNotFoundError:  # closed since, such as the one that lists this directory
            continue
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        if (path := Path("/proc/self/net", table)).exists()
        for row in path.read_text().splitlines()[1:]
    ]
    listening = "0A"
    return {
        f"port {int(row[1].rpartition(':')[2], 16)}" for row in rows if row[3] == listening and f"socket:[{row[9]}]" in sockets
    }
