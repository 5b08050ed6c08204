"""What a program that computes rounds sets for its process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.ring.process import keep_apart, lasting

PROGRAM = """
import sys
from engine.ring.process import DESKTOP_BYTES, SWITCH_SECONDS, tune_process
tune_process(DESKTOP_BYTES)
if abs(sys.getswitchinterval() - SWITCH_SECONDS) > 1e-6: sys.exit(1)
import resource
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 17)
before = faults()
for _ in range(100):
    np.ones(1 << 17)  # 1 MiB each: 256 pages
print(faults() - before)
"""


def test_a_gates_arrays_are_not_fetched_from_the_kernel_each_time() -> None:
    """Given back and fetched anew, a hundred arrays of 1 MiB would cost 25,600 page faults."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    if sys.platform.startswith("linux"):
        assert int(done.stdout) < 2600


@contextmanager
def _two_sleepers() -> Iterator[list[int]]:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as one, subprocess.Popen(command, stdin=subprocess.PIPE) as two:
        yield [one.pid, two.pid]
        one.communicate(b"\n")
        two.communicate(b"\n")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinities")
def test_processes_that_answer_each_other_have_no_core_in_common() -> None:
    """Where there are two cores; with one they share it."""
    ours = os.sched_getaffinity(0)
    with _two_sleepers() as pids:
        keep_apart(pids)
        one, two = (os.sched_getaffinity(pid) for pid in pids)
    assert one | two <= ours
    assert one.isdisjoint(two) if len(ours) > 1 else one == two == ours


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinities")
def test_processes_share_a_core_where_there_is_only_one() -> None:
    """And one that has ended already is passed over."""
    ours = os.sched_getaffinity(0)
    one_core = {min(ours)}
    os.sched_setaffinity(0, one_core)
    try:
        with _two_sleepers() as pids:
            keep_apart(pids)
            assert [os.sched_getaffinity(pid) for pid in pids] == [one_core, one_core]
    finally:
        os.sched_setaffinity(0, ours)
    keep_apart(pids)


@pytest.mark.parametrize("size", [0, 1000, 3 << 20])
def test_lasting_memory_can_be_written_and_read_as_words(size: int) -> None:
    held = lasting(size)
    assert held.size == size
    held[:] = 255
    assert (held.view(np.int64) == -1).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_lasting_memory_goes_back_when_nobody_holds_it() -> None:
    """Whatever was asked for after it."""

    def private() -> int:
        found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1]) << 10 if found else 0

    before = private()
    held = lasting(64 << 20)
    held[:] = 1
    later = np.ones(1000)
    assert private() > before + (60 << 20)
    del held
    assert private() < before + (10 << 20)
    del later
