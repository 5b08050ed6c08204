"""Settings of processes that compute rounds: their cores, how long a thread keeps the interpreter, freed memory."""

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

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


def tune_process(kept: int) -> None:
    """To be called once, at a program's start; freed arrays of up to `kept` bytes stay with the process.

    A gate's arrays live for microseconds. The C library gives those above 128 kB back to the kernel each time, which hands
    out every page anew, zeroed: receiving what is dealt for a row of the 135M model took 18 ms in place of 8, in messages of
    15 MB. What lives for seconds should not lie among them: see `lasting`.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; others have nothing of the kind
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, kept)
            mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def lasting(size: int) -> NDArray[np.uint8]:
    """That many bytes for what lives for seconds (prepared rows).

    Large ones lie in a mapping of their own, of huge pages where there are some, and go back to the kernel with their holder;
    among the arrays that live for microseconds they would keep the C library from giving anything back.
    """
    if size < _LASTING_BYTES:
        return np.empty(size, np.uint8)
    if sys.platform.startswith("linux"):
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages.madvise(mmap.MADV_HUGEPAGE)
    else:
        pages = mmap.mmap(-1, size)
    return np.frombuffer(pages, np.uint8)


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
