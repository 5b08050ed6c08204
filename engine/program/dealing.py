"""The dealer's side of a running program: it holds both keys, runs over masks, never waits.

A gate draws from both evaluators' streams and gives what they must receive.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.prf import Stream
from engine.program.codec import packed
from engine.program.plan import Kind, Plan, Slot
from engine.program.streams import draw_fixed, draw_keyed
from engine.ring.fixed import Ring
from engine.rows.run import Extent, Rows
from engine.wire import Secret, SlotKey


class Masks(Protocol):
    """The dealer's masks of the model and of the keys and values so far."""

    def matmul(self, x: Ring, weight: str) -> Ring:
        """``x @ Λ_W.T`` with the matrix's mask drawn from both model seeds."""

    keys: list[Ring]  #: a layer's λ_K, [kv_heads, capacity, head_dim]
    values: list[Ring]


class DrawBuffers(Secret):
    """Memory for what the dealer draws, one section after the other: to have it anew costs as much as to fill it."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words = [np.empty(0, np.int64), np.empty(0, np.int64)]

    def arrays(self, rows: int, words: tuple[int, ...]) -> tuple[Ring, ...]:
        """[rows, words] for each stream, with anything in them."""
        for which, count in enumerate(words):
            if self._words[which].size < rows * count:
                self._words[which] = np.empty(rows * count, np.int64)
        return tuple(kept[: rows * count].reshape(rows, count) for kept, count in zip(self._words, words, strict=True))


class KeptArrays(Secret):
    """What the dealer keeps of a block's rows, by name, and sends to nobody: arrays [rows, …].

    It needs them when it asks for a step and when it reads the step's answer.
    """

    __slots__ = ("_arrays",)

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Keep `values` under a name of their own.

        Raises:
            RuntimeError: the name is taken, so two gates of the model keep something alike.
        """
        if name in self._arrays:
            raise RuntimeError(f"{name} is kept twice")
        self._arrays[name] = values

    def add_all(self, other: "KeptArrays") -> None:
        """Keep what another section's gates kept, too."""
        for name, values in other._arrays.items():
            self.add(name, values)


class Dealing:
    """The dealer's side of one section for a block of rows."""

    reader = 0

    def __init__(
        self,
        plan: Plan,
        section: int,
        rows: Rows,
        streams: tuple[Stream, Stream],
        masks: Masks,
        buffers: DrawBuffers | None = None,
    ) -> None:
        """`buffers` may serve the next section, too."""
        self.plan, self.section, self.rows, self.masks = plan, section, rows, masks
        self.gate = 0
        self._buffers = (buffers or DrawBuffers()).arrays(rows.count, tuple(drawn.words for drawn in plan.drawn))
        for buffer, stream in zip(self._buffers, streams, strict=True):
            draw_fixed(buffer, stream, section, rows)
        self._keyed_runs = tuple(
            draw_keyed(drawn, stream, section, rows) for drawn, stream in zip(plan.drawn, streams, strict=True)
        )
        # The padding behind a slot of 5-byte words is sent, too: zeros, not what lay in memory.
        self._material = np.zeros(plan.dealt_bytes(rows, 2), np.uint8)
        self._both = np.empty((rows.count, plan.both_words), np.int64)
        fixed = plan.dealt_words * 8 * rows.count
        self._dealt = self._material[:fixed].view(np.int64).reshape(rows.count, plan.dealt_words)
        self._keyed_bounds = plan.keyed_bounds(rows)
        self._done: set[SlotKey] = set()
        self.kept = KeptArrays()

    def keep(self, name: str, values: NDArray[Any]) -> None:
        """Keep `values`, [rows, …], for the dealer itself; no evaluator receives them."""
        self.kept.add(name, values)

    def kappa(self, name: str, extent: Extent) -> tuple[Ring, Ring]:
        """(κ1, κ2) of an opening."""
        key = (self.gate, name)
        expect(self.plan, key, Kind.KAPPA, extent)
        return self._drawn(key, 0), self._drawn(key, 1)

    def first(self, name: str) -> Ring:
        """The first evaluator's share of a dealt slot, contiguous."""
        key = (self.gate, name)
        self._undealt(key)
        return self._drawn(key, 0)

    def deal(self, name: str, second: Ring) -> None:
        """What the second evaluator receives for a dealt slot."""
        key = (self.gate, name)
        slot = planned(self.plan, key)
        self._once(key)
        if slot.keyed:
            start, stop = self._keyed_bounds[key]
            self._material[start:stop] = packed(second, slot.width).reshape(-1).view(np.uint8)
            return
        at = self.plan.dealt[key]
        flat = second.reshape(self.rows.count, slot.row_words())
        if slot.width == 8:
            self._dealt[:, at : at + flat.shape[1]] = flat
        else:
            view = self._dealt.view(np.uint8)
            for r in range(self.rows.count):
                view[r, 8 * at : 8 * at + slot.width * flat.shape[1]] = packed(np.ascontiguousarray(flat[r]), slot.width)

    def both(self, name: str, words: Ring) -> None:
        """What both evaluators receive."""
        key = (self.gate, name)
        flat = words.reshape(self.rows.count, planned(self.plan, key).row_words())
        self._once(key)
        for row, at in ((self._dealt, self.plan.dealt[key]), (self._both, self.plan.both[key])):
            row[:, at : at + flat.shape[1]] = flat

    def _once(self, key: SlotKey) -> None:
        self._undealt(key)
        self._done.add(key)

    def _undealt(self, key: SlotKey) -> None:
        if key in self._done:
            raise RuntimeError(f"slot {key} is dealt twice")

    def share(self, name: str, values: Ring) -> None:
        """Deal an additive share of `values`, which the dealer knows; as many as the slot has words."""
        first = self.first(name)
        if values.size != first.size:
            raise RuntimeError(f"slot {name!r} of gate {self.gate} has {first.size} words, and {values.size} values are dealt")
        self.deal(name, values.reshape(-1) - first.reshape(-1))

    def material(self) -> tuple[memoryview, memoryview]:
        """The section's material for each evaluator; RuntimeError unless every dealt slot was dealt."""
        if missing := {key for key, slot in self.plan.slots.items() if slot.kind is not Kind.KAPPA} - self._done:
            raise RuntimeError(f"slots {sorted(missing)} were not dealt")
        return self._both.reshape(-1).view(np.uint8).data, self._material.data

    def _drawn(self, key: SlotKey, which: int) -> Ring:
        if planned(self.plan, key).keyed:
            return self._keyed_runs[which].pop(key)  # drawn once, and gone when the gate is done with it
        drawn = self.plan.drawn[which]
        return self._buffers[which][:, drawn.online.get(key) or drawn.ahead[key]].copy()  # the buffer is filled again


def planned(plan: Plan, key: SlotKey) -> Slot:
    """The slot that the evaluator's side asks for under this key.

    Raises:
        RuntimeError: it asks for none.
    """
    slot = plan.slots.get(key)
    if slot is None:
        gate, name = key
        asked = ", ".join(sorted(other for number, other in plan.slots if number == gate)) or "nothing"
        what = f"the dealer's side of gate {gate} asks for slot {name!r}, the evaluator's side for {asked}"
        raise RuntimeError(f"{what}: both ask for all their slots before they call another gate, whatever the values are")
    return slot


def expect(plan: Plan, key: SlotKey, kind: Kind, extent: Extent) -> None:
    """Raises if the dealer's side asks for another slot than the evaluator's side does."""
    slot = planned(plan, key)
    if slot.kind is not kind or slot.extent != extent:
        theirs = f"the evaluator's side planned {slot.kind.name} of {slot.extent}"
        raise RuntimeError(f"slot {key[1]!r} of gate {key[0]}: {theirs}, the dealer's side asks for {kind.name} of {extent}")
