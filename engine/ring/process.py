"""Settings of processes that compute rounds: their cores, how long a thread keeps the interpreter, freed memory."""

import ctypes
import math
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SWITCH_SECONDS = 2e-4
"""How long a thread keeps the interpreter from another: a round waits for the preparing thread no longer (docs/threads.md)."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
NODE_BYTES = 32 << 20
"""Arrays up to this size are kept by a node: as large as the C library allows."""
DESKTOP_BYTES = 4 << 20
"""By the desktop: dealing a row takes 42 ms in place of 36, and 0.15 GB less."""
_KEPT_BYTES = 256 << 20
_LASTING_BYTES = 1 << 20
_PAGE = 2 << 20  # a huge one: of a smaller part of it, the kernel would only note that it is free
_DONT_NEED = 4  # of <sys/mman.h>, on Linux


def tune_process(kept: int) -> None:
    """To be called once, at a program's start; freed arrays of up to `kept` bytes stay with the process.

    A gate's arrays live for microseconds. The C library gives those above 128 kB back to the kernel each time, which hands
    out every page anew, zeroed: receiving what is dealt for a row of the 135M model took 18 ms in place of 8, in messages of
    15 MB. What lives for seconds should not lie among them: see `lasting`.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    if mallopt := _of_linux("mallopt"):
        mallopt(_MMAP_THRESHOLD, kept)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


@cache
def _of_linux(name: str) -> Callable[..., int] | None:
    """A function of Linux's C library; None where it has none of that name: mallopt and malloc_trim are glibc's."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def lasting(size: int) -> NDArray[np.uint8]:
    """That many bytes for what lives for seconds (prepared rows).

    Large ones lie in a mapping of their own, of huge pages where there are some, and go back to the kernel with their holder;
    among the arrays that live for microseconds they would keep the C library from giving anything back.
    """
    return np.empty(size, np.uint8) if size < _LASTING_BYTES else np.frombuffer(_mapped(size, huge=True), np.uint8)


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


def give_back(spent: NDArray[Any]) -> None:
    """Give the whole huge pages of a contiguous part of a `lasting` array back to the kernel (Linux only).

    Its words must never be read again: they are zero or what they were.
    """
    at = spent.ctypes.data
    start, stop = -(-at // _PAGE) * _PAGE, (at + spent.nbytes) // _PAGE * _PAGE
    if stop > start and (madvise := _of_linux("madvise")):
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _DONT_NEED)


def trim() -> None:
    """Give freed arrays back that `tune_process` keeps: behind a prompt's pass or a session, for they are large and rare."""
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
