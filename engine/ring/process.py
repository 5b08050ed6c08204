"""Settings of a process that computes rounds: how long a thread keeps the interpreter, what becomes of freed memory."""

import ctypes
import sys

SWITCH_SECONDS = 2e-4
"""How long a thread keeps the interpreter from another: a round waits for the preparing thread no longer (docs/threads.md)."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGE_BYTES = 4 << 20  # prepared material and caches: what goes back to the kernel at once
_KEPT_BYTES = 256 << 20


def tune_process() -> None:
    """To be called once, at a program's start.

    A gate's arrays live for microseconds. The C library gives those above 128 kB back to the kernel each time, which hands
    out every page anew, zeroed. Kept, preparing a row of the 135M model takes 27 ms in place of 33; a step of one row takes as
    long as before. Large arrays, which live for seconds, still go back.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; others have nothing of the kind
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
            mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
