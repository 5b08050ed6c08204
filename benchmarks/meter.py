"""Where the time goes: gates timed from outside the engine, rounds and bytes put down to the gate that causes them.

A gate's seconds exclude those of gates within it and of waiting for the peer. A round belongs to the gate whose opening
went first into its message; waiting for it likewise.
"""

from __future__ import annotations

import re
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.models import llama  # noqa: F401  every gate is made before `Gate` is wrapped
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.program.plan import Kind, Plan
from engine.ring.fixed import Ring
from engine.rows.run import Extent, Rows
from engine.wire import Opening

PROGRAM = "(between gates)"
_ROLLUP = Path("/proc/self/smaps_rollup")


def peak_mb() -> float:
    """The most memory that this process has had, pages that it shares with others among them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_mb() -> dict[str, float]:
    """This process's memory: `own` pages now, and `most`, its peak with its part of the shared pages; empty but on Linux.

    A page that two processes map counts as half a page at each (PSS): the sum of the parties' `most` is what they take
    together if all have their peaks at once.
    """
    if not _ROLLUP.exists():
        return {}
    kilobytes = dict(re.findall(r"^(\w+): +(\d+) kB$", _ROLLUP.read_text("ascii"), re.MULTILINE))
    shared = int(kilobytes["Rss"]) - int(kilobytes["Pss"])
    return {"own": int(kilobytes["Anonymous"]) / 1024, "most": peak_mb() - shared / 1024}


@dataclass(slots=True)
class Meter:
    """What one process did since `reset`."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    waiting: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    rounds: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    opened: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    names: dict[tuple[int, int], str] = field(default_factory=dict)  #: (section, gate number): kept by `reset`
    _stack: list[str] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)
    _cpu: float = 0.0
    _wall: float = 0.0

    def reset(self) -> None:
        """Start to count."""
        for counted in (self.seconds, self.waiting, self.rounds, self.opened):
            counted.clear()
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def figures(self) -> dict[str, Any]:
        """Everything counted, and the process's processor seconds and peak memory."""
        counted: dict[str, Any] = {
            "seconds": self.seconds,
            "waiting": self.waiting,
            "rounds": self.rounds,
            "opened": self.opened,
        }
        own: dict[str, Any] = {name: dict(values) for name, values in counted.items()}
        own["cpu"] = time.process_time() - self._cpu
        own["wall"] = time.monotonic() - self._wall
        return own | {"peak_mb": peak_mb(), "memory_mb": memory_mb()}

    def dealt(self, plans: dict[int, Plan], rows: Rows) -> dict[str, int]:
        """Dealt bytes by gate, to both evaluators, from the plans of the sections (the gates' names must have been seen)."""
        total: defaultdict[str, int] = defaultdict(int)
        for section, plan in plans.items():
            for (gate, _), slot in plan.slots.items():
                if copies := {Kind.SHARE: 1, Kind.BOTH: 2}.get(slot.kind):
                    words = int(slot.offsets(rows)[-1]) if slot.keyed else slot.row_words() * rows.count
                    total[self.names.get((section, gate), "?")] += copies * words * slot.width
        return dict(total)

    def gate(self, name: str, run: Callable[[], Any]) -> Any:
        """Run a gate; what the gates inside it take is theirs."""
        start = time.perf_counter()
        inner = self.total()
        self._stack.append(name)
        try:
            return run()
        finally:
            self._stack.pop()
            self.seconds[name] += time.perf_counter() - start - (self.total() - inner)

    @property
    def running(self) -> str:
        """The innermost gate that runs."""
        return self._stack[-1] if self._stack else PROGRAM

    def total(self) -> float:
        """All seconds put down to something."""
        return sum(self.seconds.values()) + sum(self.waiting.values())

    def opening(self, bits: int, words: int) -> None:
        """An opening was issued by the running gate."""
        name = self.running
        self._pending.append(name)
        self.opened[name] += -(-words * bits // 8)

    def exchange(self, run: Callable[[], Any]) -> Any:
        """A round."""
        name = self._pending[0] if self._pending else PROGRAM
        self._pending.clear()
        start = time.perf_counter()
        try:
            return run()
        finally:
            self.waiting[name] += time.perf_counter() - start
            self.rounds[name] += 1


def _label(gate: Gate, arguments: tuple[Any, ...]) -> str:
    """The gate's name and what it is used for, without the layer's number."""
    named = next((value for value in arguments if isinstance(value, str)), "")
    use = named.partition(".")[2] or named
    return f"{gate.__name__} {use}".strip()


def install(meter: Meter) -> None:
    """Wrap the gates and the openings of this process, until it ends."""
    plain_open = Evaluation.open

    def opened(e: Evaluation, masked: Ring, extent: Extent, codec: Codec = Codec.WORDS) -> Opening:
        if masked.shape[0]:
            meter.opening(codec, masked.size)
        return plain_open(e, masked, extent, codec)

    _wrap(_watched(meter), opened)


@contextmanager
def gate_watcher(meter: Meter, opened: Callable[..., Opening]) -> Iterator[None]:
    """Wrap the gates, and put `opened` in the place of the evaluators' `open`, for a while."""
    before = Gate.__call__, Evaluation.open
    _wrap(_watched(meter), opened)
    try:
        yield
    finally:
        _wrap(*before)


def _watched(meter: Meter) -> Callable[..., Any]:
    plain_call = Gate.__call__

    def call(gate: Gate, p: Any, *args: Any, **kwargs: Any) -> Any:
        name = _label(gate, args)
        if isinstance(p, Dealing | Evaluation):
            meter.names[p.section, p.gate + 1] = name
        return meter.gate(name, lambda: plain_call(gate, p, *args, **kwargs))

    return call


def _wrap(call: Callable[..., Any], opened: Callable[..., Any]) -> None:
    wrapped: tuple[tuple[Any, str, Any], ...] = ((Gate, "__call__", call), (Evaluation, "open", opened))
    for place, name, function in wrapped:
        setattr(place, name, function)
