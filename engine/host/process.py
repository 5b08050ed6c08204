"""Settings of processes that compute rounds: their cores, how long a thread keeps the interpreter and a core, freed memory."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

SWITCH_SECONDS = 2e-4
"""How long a thread keeps the interpreter from another: a round waits for the preparing thread no longer (docs/threads.md)."""

SLICE_SECONDS, AHEAD_SLICE_SECONDS = 1e-4, 3e-3
"""Of a core's time that a thread asks for at once, and that one asks for which works ahead of time. Linux (since 6.12) lets a
thread that wakes up interrupt one that asked for more; else it waits for the end of that one's time, hundreds of times a token.
Both keep their share of the core. (docs/threads.md)"""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the call's number on Linux: C libraries have had a function since 2025

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of <malloc.h>
NODE_BYTES = 32 << 20
"""Arrays up to this size are kept by a node: as large as the C library allows."""
DESKTOP_BYTES = 16 << 20
"""By the desktop, whose sections of 64 rows are 15 MB: 0.66 GB at most. With 4 MB it has 0.55 GB, and a row takes 10 ms longer
to deal; with 32 MB it has 0.81."""
_KEPT_BYTES = 256 << 20
_MAPPED_FROM = 1 << 20
_PAGE = 2 << 20  # a huge one: of a smaller part of it, the kernel would only note that it is free
_DONT_NEED = 4  # of <sys/mman.h>, on Linux
MOVE_FLAGS = 1 | 2 | 4  # MREMAP_MAYMOVE, _FIXED, _DONTUNMAP: the words go, the range stays (Linux 5.7)
_READ_WRITE, _ANEW = 1 | 2, 0x02 | 0x10 | 0x20  # PROT_READ | _WRITE; MAP_PRIVATE | _FIXED | _ANONYMOUS
POOL_PAGES = 288  # 576 MB: what a block of 64 rows of the 135M model needs at the second node


def tune_process(kept: int) -> None:
    """To be called once, at a program's start, by its only thread; freed arrays of up to `kept` bytes stay with the process.

    A gate's arrays live for microseconds. The C library gives those above 128 kB back to the kernel each time, which hands
    out every page anew, zeroed: receiving what is dealt for a row of the 135M model took 18 ms in place of 8, in messages of
    15 MB. What lives for seconds should not lie among them: see `long_lived`. All threads share one arena: another
    thread's own is given back whenever it is empty, whatever is to be kept, and dealing spent a seventh of its time in writing
    to fresh pages.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    _ask_for(SLICE_SECONDS)
    if mallopt := _of_linux("mallopt"):
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, kept)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def work_ahead() -> None:
    """To be called by a thread whose work nobody waits for, most of the time: others that wake up interrupt it."""
    _ask_for(AHEAD_SLICE_SECONDS)


class _SchedAttr(ctypes.Structure):
    """Of <linux/sched/types.h>, in its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64), ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64), ("period", ctypes.c_uint64),
    )  # fmt: skip


def _ask_for(seconds: float) -> None:
    """Of a core, at once, for the calling thread and those that it starts; its share of the core stays (Linux only)."""
    number, call = _SCHED_SETATTR.get(platform.machine()), _of_linux("syscall", ctypes.c_long)
    if call is None or number is None:
        return
    with suppress(OSError):  # where these may not be asked, nothing is changed either
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            nice, runtime = os.getpriority(os.PRIO_PROCESS, 0), round(seconds * 1e9)
            wanted = _SchedAttr(size=ctypes.sizeof(_SchedAttr), policy=os.SCHED_OTHER, nice=nice, runtime=runtime)
            call(ctypes.c_long(number), ctypes.c_int(0), ctypes.byref(wanted), ctypes.c_uint(0))


@cache
def _of_linux(name: str, returns: type[Any] = ctypes.c_int) -> Callable[..., int | None] | None:
    """A function of Linux's C library; None where it has none of that name: mallopt and malloc_trim are glibc's."""
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
    if function is not None:
        function.restype = returns
    return function


def long_lived(size: int, pool: Pool | None = None) -> NDArray[np.uint8]:
    """That many bytes for what lives for seconds (prepared rows).

    Large ones lie in a mapping of their own, of huge pages where there are some, and go back to the kernel with their holder;
    among the arrays that live for microseconds they would keep the C library from giving anything back. Like numpy's `empty`
    they hold anything: pages that were given back, to this `pool` or else to the process's own, are used first.
    """
    if size < _MAPPED_FROM:
        return np.empty(size, np.uint8)
    array = np.frombuffer(_mapped(size, huge=True), np.uint8)
    pool = pool or _pool
    for at in _whole_pages(array):
        if not pool.take(at):
            break
    return array


def sparse(*shape: int) -> NDArray[np.int64]:
    """Words of zeros of which only those pages take memory that are written to, for what is filled a little here and there.

    Of numpy's zeros each huge page does, where the kernel has some: it asks for them. (A session's caches for 2,048 positions
    of the 135M model were 0.36 GB at its first token.)
    """
    count = math.prod(shape)
    return np.frombuffer(_mapped(8 * max(count, 1), huge=False), np.int64, count).reshape(shape)


def _mapped(size: int, *, huge: bool) -> mmap.mmap:
    """Zeros in a mapping of their own; Linux is told of which pages they should be."""
    if not sys.platform.startswith("linux"):
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel that has no huge pages
        pages.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return pages


def give_back(spent: NDArray[Any], before: int = 0, pool: Pool | None = None) -> None:
    """Give the whole huge pages of a part of a `long_lived` array back: some to the next such array, others to the kernel.

    The part is contiguous; its words must never be read again: they are zero or what they were. Of its first `before` bytes
    that was done earlier. (Linux only.)
    """
    pool = pool or _pool
    pages = _whole_pages(spent)
    pages = pages[len(_whole_pages(spent.reshape(-1).view(np.uint8)[:before])) :]
    kept = next((i for i, page in enumerate(pages) if not pool.put(page)), len(pages))
    if kept < len(pages):
        _drop(pages[kept], len(pages) - kept)


def _whole_pages(array: NDArray[Any]) -> range:
    """Addresses of the huge pages that lie within a contiguous array."""
    at = array.ctypes.data
    return range(-(-at // _PAGE) * _PAGE, (at + array.nbytes) // _PAGE * _PAGE, _PAGE)


class Pool:
    """Memory of at most `size` huge pages on its way from one `long_lived` array to another.

    A virtual machine's kernel may give free memory on to its host at once, and then it takes twenty times as long to get it
    again as to write it: 0.5 GB/s in place of 10 (measured). Prepared rows are 9 MB a token at the second node.
    """

    def __init__(self, size: int = POOL_PAGES) -> None:
        self._size = size
        self._lock = Lock()
        self._room: mmap.mmap | None = None
        self._reserved = False
        self._empty: list[int] = []
        self._full: list[int] = []

    @property
    def kept(self) -> tuple[int, ...]:
        """Addresses of the memory that waits for the next array."""
        return tuple(self._full)

    def put(self, page: int) -> bool:
        """Keep a page's memory; what is read there afterwards is zero. False: there is no room, or the kernel can't."""
        with self._lock:
            if not self._reserved:
                self._reserved, self._empty = True, self._reserve()
            if not self._empty:
                return False
            if not _move(page, self._empty[-1]):
                self._empty.clear()  # it will not another time
                return False
            self._full.append(self._empty.pop())
            return True

    def _reserve(self) -> list[int]:
        try:
            self._room = _mapped((self._size + 1) * _PAGE, huge=True)
        except OSError:  # the process may not have so many addresses: it goes without
            return []
        return list(_whole_pages(np.frombuffer(self._room, np.uint8)))[: self._size]

    def take(self, page: int) -> bool:
        """Put kept memory there. False: there is none."""
        with self._lock:
            if not self._full:
                return False
            if _move(self._full[-1], page):
                self._empty.append(self._full.pop())
                return True
            _drop(self._full.pop())
            return False

    def drain(self) -> None:
        """Give all that is kept back to the kernel."""
        with self._lock:
            for page in self._full:
                _drop(page)
            self._empty += self._full
            self._full = []


_pool = Pool()


def _move(page: int, to: int) -> bool:
    """Move a huge page's memory to another range of ours, whose own is dropped. False: this kernel can't."""
    mremap, map_anew = (_of_linux(name, ctypes.c_void_p) for name in ("mremap", "mmap"))
    if mremap is None or map_anew is None:
        return False
    size, there = ctypes.c_size_t(_PAGE), ctypes.c_void_p(to)
    if mremap(ctypes.c_void_p(page), size, size, ctypes.c_int(MOVE_FLAGS), there) == to:
        return True
    # It may have unmapped the other range before it failed.
    map_anew(there, size, ctypes.c_int(_READ_WRITE), ctypes.c_int(_ANEW), ctypes.c_int(-1), ctypes.c_long(0))
    return False


def _drop(page: int, count: int = 1) -> None:
    """Give huge pages to the kernel (Linux only)."""
    if madvise := _of_linux("madvise"):
        madvise(ctypes.c_void_p(page), ctypes.c_size_t(count * _PAGE), _DONT_NEED)


def trim(*, pages: bool = False) -> None:
    """Give freed arrays back that `tune_process` keeps: behind a prompt's pass or a session, for they are large and rare.

    With `pages` those that `give_back` keeps, too.
    """
    if pages:
        _pool.drain()
    if malloc_trim := _of_linux("malloc_trim"):
        malloc_trim(0)


def keep_apart(pids: Sequence[int]) -> None:
    """Give each of these processes of one machine cores of its own; to be called when they have just begun (Linux only).

    Linux wakes a process on the core of the one that wakes it. Two evaluators that answer each other hundreds of times a
    token end up on one core, in turns: a round of 250 µs of work at both took 600 µs, kept apart 335 µs. Hyperthreads of
    one core stay together. Nothing is done where there are fewer cores than processes.
    """
    if not sys.platform.startswith("linux"):
        return
    cores: dict[str, set[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        cores.setdefault(_siblings(cpu), set()).add(cpu)
    each = len(cores) // len(pids)
    for at, pid in enumerate(pids if each else ()):
        own = list(cores.values())[at * each : (at + 1) * each]
        with suppress(ProcessLookupError):  # it has ended, and whoever waits for it will say so
            os.sched_setaffinity(pid, set().union(*own))


def _siblings(cpu: int) -> str:
    with suppress(OSError):
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii")
    return str(cpu)
