"""Whether a node keeps the online halves A_i of its matrices in memory, or draws them while it multiplies.

    stored   8 bytes a weight more in each node's own memory (5 of those that are read modulo 2^40); a token reads them once
    drawn    nothing stored; a token draws 8 bytes a weight from the node's mask stream, and the first evaluator reads m_W

Both give the same words. Drawing takes 2.5 times (second evaluator) to 3.5 times (first) the processor time of reading.
"""

import os
import re
from enum import StrEnum
from pathlib import Path

RESERVE = 4 << 30  #: bytes left: one session's rows prepared ahead (0.4 GiB at one node, 1.2 at the other), and everybody else
NODES_A_HOST = 2  #: that may start on one host at the same time and see the same memory
_MEMINFO = Path("/proc/meminfo")


class Halves(StrEnum):
    """How a node has the online halves of its matrices."""

    AUTO = "auto"  #: stored if the machine has room
    STORED = "stored"
    DRAWN = "drawn"


def has_room(mapped: int, halves: int, available: int | None) -> bool:
    """Whether to store `halves` bytes beside a mapped pack of `mapped` bytes, where `available` bytes can be had.

    The rule: the pack (mapped once by both evaluators of a host, and counted as available until it is read), both
    evaluators' halves and `RESERVE` fit together. True where nothing is known of the machine's memory.
    """
    return available is None or mapped + NODES_A_HOST * halves + RESERVE <= available


def available_memory(meminfo: Path = _MEMINFO) -> int | None:
    """Bytes that can be had without swapping (Linux: MemAvailable; elsewhere half of the memory); None if unknown."""
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo.read_text("ascii"), re.MULTILINE)
        if found:
            return int(found[1]) << 10
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None
