"""What a program that computes rounds sets for its process."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.host import process
from engine.host.process import Pool, give_back, keep_apart, long_lived, sparse, trim

PROGRAM = """
import sys
from engine.host.process import DESKTOP_BYTES, SWITCH_SECONDS, tune_process
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
    held = long_lived(size)
    assert held.size == size
    held[:] = 255
    assert (held.view(np.int64) == -1).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_lasting_memory_goes_back_when_nobody_holds_it() -> None:
    """Whatever was asked for after it."""
    before = _private()
    held = long_lived(64 << 20)
    held[:] = 1
    later = np.ones(1000)
    assert _private() > before + (60 << 20)
    del held
    assert _private() < before + (10 << 20)
    del later


def _private() -> int:
    """This process's private pages, in bytes."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found
    return int(found[1]) << 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux is told")
def test_a_part_that_is_given_back_takes_no_memory_and_the_rest_keeps_its_words() -> None:
    array = long_lived(40 << 20).view(np.int64)
    array[:] = 7
    before, half = _private(), array.size // 2
    give_back(array[:half])
    trim(pages=True)
    assert _private() <= before - (16 << 20)
    assert (array[half:] == 7).all()


@pytest.fixture
def pool() -> Iterator[Pool]:
    """One of five pages of our own, on a kernel that can move them."""
    if not sys.platform.startswith("linux") or tuple(map(int, os.uname().release.split(".")[:2])) < (5, 7):
        pytest.skip("only Linux moves pages")
    own = Pool(5)
    yield own
    own.drain()


def test_what_is_given_back_is_the_next_arrays_memory(pool: Pool) -> None:
    """Of 12 MB only the ends are asked for anew; what held the rest reads zeros, and cannot touch it."""
    array = long_lived(24 << 20, pool)
    array[:] = 7
    given = array[: 12 << 20]
    give_back(given, pool=pool)
    before = _private()
    later = long_lived(12 << 20, pool)
    later[:] = 9
    assert _private() <= before + (5 << 20)
    left = given == 7
    assert left.sum() <= 4 << 20
    assert not given[~left].any()
    given[:] = 5
    assert (later == 9).all()
    assert (array[12 << 20 :] == 7).all()
    del given, array
    assert (later == 9).all()


def test_a_process_that_may_not_reserve_the_pool_goes_without(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given back is the kernel's at once."""
    array = long_lived(16 << 20, pool)
    array[:] = 7
    before = _private()

    def refused(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(process.mmap, "mmap", refused)
    give_back(array[: 6 << 20], pool=pool)
    give_back(array, 6 << 20, pool)
    assert _private() <= before - (10 << 20)
    assert not pool.take(0)


def test_the_pool_has_an_end_and_the_kernel_gets_the_rest(pool: Pool) -> None:
    array = long_lived(40 << 20, pool)
    array[:] = 7
    before = _private()
    give_back(array, pool=pool)
    assert before - (32 << 20) <= _private() <= before - (24 << 20)
    assert not pool.put(array.ctypes.data)
    pool.drain()
    assert _private() <= before - (36 << 20)
    assert not pool.take(array.ctypes.data)


def test_a_kernel_that_moves_no_pages_gets_them_back(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was to be there can be written to."""
    array = long_lived(24 << 20, pool)
    array[:] = 7
    give_back(array[: 6 << 20], pool=pool)
    monkeypatch.setattr(process, "MOVE_FLAGS", 1 << 30)
    later = long_lived(12 << 20, pool)
    later[:] = 9
    before = _private()
    give_back(array[12 << 20 :], pool=pool)
    assert _private() <= before - (6 << 20)
    assert (array[6 << 20 : 12 << 20] == 7).all()
    assert (later == 9).all()


def test_what_was_given_back_is_not_given_again(pool: Pool) -> None:
    """Rows are used one by one: each time all the used ones are named."""
    array = long_lived(8 << 20, pool)
    array[:] = 7
    for stop in range(1 << 20, 9 << 20, 1 << 20):
        give_back(array[:stop], stop - (1 << 20), pool)
    assert 3 <= len(pool.kept) <= 4
    assert len(set(pool.kept)) == len(pool.kept)


@pytest.mark.parametrize("size", [0, 8, 1 << 12, 1 << 21])
def test_nothing_is_given_back_beyond_the_part(size: int) -> None:
    """Whole huge pages only: of a small part none."""
    array = long_lived(8 << 20)
    array[:] = 7
    give_back(array[100 : 100 + size])
    assert (array[:100] == 7).all()
    assert (array[100 + size :] == 7).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_sparse_memory_is_there_where_it_is_written_to() -> None:
    """A word in each MB of 256 MB: a page each, not a huge page each."""
    before = _private()
    held = sparse(256, 1 << 17)
    held[:, 0] = 7
    assert _private() < before + (16 << 20)
    assert (held[:, 0] == 7).all()
    assert not held[:, 1].any()


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (1,), (2, 3, 5)])
def test_sparse_memory_has_its_shape_and_is_zero(shape: tuple[int, ...]) -> None:
    held = sparse(*shape)
    assert (held.shape, held.dtype) == (shape, np.int64)
    assert not held.any()
    held[...] = -1
    assert held.flags.c_contiguous


FREED = """
from engine.host.process import NODE_BYTES, trim, tune_process
tune_process(NODE_BYTES)
import re
import numpy as np
def private():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10
before = private()
kept = [(np.ones(1 << 17), np.ones(16)) for _ in range(200)]
kept = [small for large, small in kept]
held = private()
trim()
print(before, held, private())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps and gives back")
def test_what_was_freed_is_given_back_on_demand() -> None:
    """200 MiB of arrays, each with a small one behind it that stays."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    before, held, after = map(int, done.stdout.split())
    assert held > before + 150
    assert after < before + 50


def test_giving_back_twice_or_nothing_is_no_harm() -> None:
    trim()
    trim()
    array = long_lived(4 << 20)
    give_back(array)
    give_back(array)
    give_back(array[:0])


SLICES = """
import ctypes, os, threading
from engine.host.process import NODE_BYTES, _SchedAttr, tune_process, work_ahead
def asked():
    attributes = _SchedAttr()
    call = ctypes.CDLL(None).syscall
    number = {"x86_64": 315, "aarch64": 275}.get(os.uname().machine, -1)  # sched_getattr
    size = ctypes.sizeof(attributes)
    call(ctypes.c_long(number), 0, ctypes.byref(attributes), ctypes.c_uint(size), ctypes.c_uint(0))
    return attributes.runtime, attributes.nice, os.sched_getscheduler(0)
def ahead():
    found.append(asked())
    work_ahead()
    found.append(asked())
os.nice(3)
found = [asked()]
tune_process(NODE_BYTES)
thread = threading.Thread(target=ahead)
thread.start()
thread.join()
found.append(asked())
print(found)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux's scheduler")
def test_a_thread_that_works_ahead_asks_for_more_of_a_core_at_once() -> None:
    """And nothing else of anybody's priority changes; older kernels (before 6.12) keep one length for all."""
    done = subprocess.run([sys.executable, "-c", SLICES], capture_output=True, text=True, check=True)
    before, inherited, ahead, own = ast.literal_eval(done.stdout)
    assert inherited[1:] == ahead[1:] == own[1:] == before[1:]
    known = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 12) and os.uname().machine in ("x86_64", "aarch64")
    if known and before[2] == os.SCHED_OTHER:
        assert (inherited[0], ahead[0], own[0]) == (100_000, 3_000_000, 100_000)
