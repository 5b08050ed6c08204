"""What the kernel says of a process: processor seconds, and memory told apart into its own pages and mapped files (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

_LOOK_SECONDS = 0.25
_IDLE_SHARE = 0.1  #: of one core, all processes together
_IDLE_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: private anonymous pages now, the whole of the mapped model files, and the most that was ever resident."""

    private: int
    mapped: int
    peak_resident: int


def status(pid: int, *fields: str) -> list[int]:
    """Fields of /proc/PID/status, in bytes."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return [int(lines[name].split()[0]) << 10 for name in fields]


def memory(pid: int, within: Path) -> Memory:
    """A process's memory; mapped files count if they lie in `within`, each once and whole, resident or not."""
    private, peak = status(pid, "RssAnon", "VmHWM")
    mapped: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and Path(words[5]).is_relative_to(within):
            first, last = (int(bound, 16) for bound in words[0].split("-"))
            mapped[words[5]] = mapped.get(words[5], 0) + last - first
    return Memory(private, sum(mapped.values()), peak)


def processor_seconds(pid: int) -> float:
    """User and system seconds of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(pids: Sequence[int], patience: float = 300.0) -> None:
    """Return when the processes have been at rest for a second: whatever can be done ahead of time is done.

    Raises:
        TimeoutError: they work on.
    """
    deadline, idle = time.monotonic() + patience, 0
    before = sum(map(processor_seconds, pids))
    while idle < _IDLE_LOOKS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the parties are not at rest after {patience:g} s")
        Event().wait(_LOOK_SECONDS)
        now = sum(map(processor_seconds, pids))
        idle = idle + 1 if now - before <= _IDLE_SHARE * _LOOK_SECONDS else 0
        before = now


@contextmanager
def watching(pids: Sequence[int]) -> Iterator[Callable[[], list[int]]]:
    """Yields a function that says each process's largest private memory so far, in bytes, looked at four times a second."""
    most = [0] * len(pids)
    ended = Event()

    def look() -> None:
        for i, pid in enumerate(pids):
            most[i] = max(most[i], status(pid, "RssAnon")[0])

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            look()

    def so_far() -> list[int]:
        look()
        return list(most)

    thread = Thread(target=watch, name="bench-memory", daemon=True)
    thread.start()
    try:
        yield so_far
    finally:
        ended.set()
        thread.join()
