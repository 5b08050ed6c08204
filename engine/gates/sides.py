"""The three readers' views of a running program: what a gate may ask for at the dealer, at an evaluator, in the clear.

Dealing     holds both keys, runs over masks, never waits; a gate gives it what the evaluators must receive.
Evaluation  holds one key, runs over masked values; asking for an opening's value runs the round of all pending ones.
Clear       runs over floats and reports what it sees to an observer (calibration, the wrap budget).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.gates.plan import WORD, Drawn, Kind, Plan
from engine.host.process import give_back, lasting
from engine.prf import FAST, Label, Stream
from engine.ring.fixed import Ring
from engine.ring.kernels.lookups import Table
from engine.ring.kernels.words import Bytes, pack40, unpack40
from engine.wire import Extent, Rows, Secret, SlotKey

_TOGETHER = 4  # rows whose memory is given back at once: of one, a section has a tenth of a huge page


class Masks(Protocol):
    """The dealer's masks of the model and of the keys and values so far."""

    def matmul(self, x: Ring, weight: str) -> Ring:
        """``x @ Λ_W.T`` with the matrix's mask drawn from both model seeds."""

    keys: list[Ring]  #: a layer's λ_K, [kv_heads, capacity, head_dim]
    values: list[Ring]


class Weights(Protocol):
    """An evaluator's masked matrices and its cache of masked keys and values."""

    def multiply(self, weight: str, x: Ring, out: Ring) -> None:
        """``out += x @ A_i.T``, A_i [out, in]: m_W - λ_W1 at the first evaluator, -λ_W2 at the second; C-contiguous."""

    def subtract(self, weight: str, x: Ring, out: Ring) -> None:
        """``out -= x @ m_W.T``, m_W [out, in] the same at both; both modulo 2^40 where no more is opened."""

    def masked(self, weight: str) -> Ring:
        """``m_W``."""

    @property
    def tables(self) -> Mapping[str, Table]:
        """Public look-up tables, ready to rotate."""

    @property
    def keys(self) -> Sequence["Cache"]:
        """A layer's keys."""

    @property
    def values(self) -> Sequence["Cache"]:
        """A layer's values."""


class Cache(Secret):
    """An evaluator's wires of one layer's keys or values: `online` (m - λ1, or -λ2) and `masked` (m)."""

    __slots__ = ("masked", "online")

    def __init__(self, online: Ring, masked: Ring) -> None:
        self.online = online
        self.masked = masked


class Tapes(Secret):
    """Memory for what the dealer draws, one section after the other: to have it anew costs as much as to fill it."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = [np.empty(0, np.int64), np.empty(0, np.int64)]

    def room(self, rows: int, words: tuple[int, ...]) -> tuple[Ring, ...]:
        """[rows, words] for each stream, with anything in them."""
        for which, count in enumerate(words):
            if self._kept[which].size < rows * count:
                self._kept[which] = np.empty(rows * count, np.int64)
        return tuple(kept[: rows * count].reshape(rows, count) for kept, count in zip(self._kept, words, strict=True))


class Dealing:
    """The dealer's side of one section for a block of rows."""

    reader = 0

    def __init__(
        self, plan: Plan, section: int, rows: Rows, streams: tuple[Stream, Stream], masks: Masks, tapes: Tapes | None = None
    ) -> None:
        """`tapes` may serve the next section, too."""
        self.plan, self.section, self.rows, self.masks = plan, section, rows, masks
        self.gate = 0
        self._tapes = (tapes or Tapes()).room(rows.count, tuple(drawn.words for drawn in plan.drawn))
        for tape, stream in zip(self._tapes, streams, strict=True):
            fill_tape(tape, stream, section, rows)
        self._keyed_runs = tuple(
            keyed_runs(drawn, stream, section, rows) for drawn, stream in zip(plan.drawn, streams, strict=True)
        )
        # The padding behind a slot of 5-byte words is sent, too: zeros, not what lay in memory.
        self._material = np.zeros(plan.dealt_bytes(rows, 2), np.uint8)
        self._both = np.empty((rows.count, plan.both_words), np.int64)
        fixed = plan.dealt_words * 8 * rows.count
        self._dealt = self._material[:fixed].view(np.int64).reshape(rows.count, plan.dealt_words)
        self._keyed_bounds = plan.keyed_bounds(rows)
        self._done: set[SlotKey] = set()

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
        slot = self.plan.slots[key]
        self._once(key)
        if slot.keyed:
            start, stop = self._keyed_bounds[key]
            self._material[start:stop] = _packed(second, slot.width).reshape(-1).view(np.uint8)
            return
        at = self.plan.dealt[key]
        flat = second.reshape(self.rows.count, slot.row_words())
        if slot.width == 8:
            self._dealt[:, at : at + flat.shape[1]] = flat
        else:
            view = self._dealt.view(np.uint8)
            for r in range(self.rows.count):
                view[r, 8 * at : 8 * at + slot.width * flat.shape[1]] = _packed(np.ascontiguousarray(flat[r]), slot.width)

    def both(self, name: str, words: Ring) -> None:
        """What both evaluators receive."""
        key = (self.gate, name)
        flat = words.reshape(self.rows.count, self.plan.slots[key].row_words())
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
        """Deal an additive share of `values`, which the dealer knows."""
        self.deal(name, values.reshape(-1) - self.first(name).reshape(-1))

    def material(self) -> tuple[memoryview, memoryview]:
        """The section's material for each evaluator; RuntimeError unless every dealt slot was dealt."""
        if missing := {key for key, slot in self.plan.slots.items() if slot.kind is not Kind.KAPPA} - self._done:
            raise RuntimeError(f"slots {sorted(missing)} were not dealt")
        return self._both.reshape(-1).view(np.uint8).data, self._material.data

    def _drawn(self, key: SlotKey, which: int) -> Ring:
        if self.plan.slots[key].keyed:
            return self._keyed_runs[which].pop(key)  # drawn once, and gone when the gate is done with it
        drawn = self.plan.drawn[which]
        return self._tapes[which][:, drawn.online.get(key) or drawn.ahead[key]].copy()  # the tape is filled again


def fill_tape(tape: Ring, stream: Stream, section: int, rows: Rows, start: int = 0) -> None:
    """Draw the fixed slots of each row from word `start` (even) on, [rows, words]."""
    for r in range(rows.count):
        stream.fill(tape[r], Label.FIXED, rows.first + r, section, 0, FAST + WORD * start)


def keyed_runs(drawn: Drawn, stream: Stream, section: int, rows: Rows) -> dict[SlotKey, Ring]:
    """Each keyed slot of the rows, flat; a row's lie in one range, one behind the other."""
    runs: dict[SlotKey, list[Ring]] = {key: [] for key in drawn.keyed}
    for r in range(rows.count):
        sizes = [slot.row_words(rows.position + r + 1) for slot in drawn.keyed.values()]
        words, at = stream.words(sum(sizes), Label.KEYED, rows.first + r, section, 0, FAST // WORD), 0
        for run, size in zip(runs.values(), sizes, strict=True):
            run.append(words[at : at + size])
            at += size
    return {key: run[0] if len(run) == 1 else np.concatenate(run) for key, run in runs.items()}


def expect(plan: Plan, key: SlotKey, kind: Kind, extent: Extent) -> None:
    """Raises if the dealer's side asks for another slot than the evaluator's side does."""
    slot = plan.slots[key]
    if slot.kind is not kind or slot.extent != extent:
        raise RuntimeError(f"slot {key} is not what the program planned")


def _packed(words: Ring, width: int) -> NDArray[Any]:
    if width == 8:
        return np.ascontiguousarray(words)
    out = np.empty(words.size * 5, np.uint8)
    pack40(words.reshape(-1), out)
    return out


class Material(Secret):
    """One section of a block of rows as an evaluator holds it, ready for the rounds: what it received, and its halves of
    products. What else its stream gives is drawn when rows are computed: no memory for it waits, and it is read while the
    processor's cache has it.
    """

    def __init__(self, plan: Plan, role: int, section: int, rows: Rows, stream: Stream) -> None:
        self.plan, self.rows = plan, rows
        self.arrays: dict[SlotKey, Ring] = {}
        self.held: list[Ring] = []  #: what the fixed slots among them are views of, each [rows, words]
        self.section, self._drawn, self._stream = section, plan.drawn[role - 1], stream
        self._asked = self._spent = 0  # rows
        self._bounds: dict[SlotKey, Ring] = {}

    def add(self, key: SlotKey, words: Ring) -> None:
        """A slot that is held: [rows, words], or flat."""
        self.arrays[key] = words
        if self.plan.slots[key].keyed:
            self._bounds[key] = self.plan.slots[key].offsets(self.rows)

    @property
    def nbytes(self) -> int:
        """Memory that the prepared arrays hold."""
        return sum(array.nbytes for array in self.arrays.values())

    def spend(self, rows: int) -> None:
        """The first `rows` rows will not be asked for again: most of their memory is given back, of a few at a time."""
        if rows < min(self._spent + _TOGETHER, self.rows.count) or rows == self._spent:
            return
        for array in self.held:
            give_back(array[:rows], self._spent * array[:1].nbytes)
        self._spent = rows

    def part(self, start: int, stop: int) -> dict[SlotKey, Ring]:
        """Each slot's words for rows start … stop - 1: [rows, words], or flat where they grow with the keys.

        Raises:
            RuntimeError: a row was asked for before; what masks its openings is used once.
        """
        if start < self._asked:
            raise RuntimeError("a row's material is asked for twice")
        self._asked = stop
        rows, drawn, bounds = self.rows.part(start, stop), self._drawn, self._bounds
        tape = np.empty((rows.count, drawn.online_words), np.int64)
        fill_tape(tape, self._stream, self.section, rows)
        part = {
            key: array[bounds[key][start] : bounds[key][stop]] if key in bounds else array[start:stop]
            for key, array in self.arrays.items()
        }
        part.update({key: tape[:, words] for key, words in drawn.online.items()})
        part.update(keyed_runs(drawn, self._stream, self.section, rows))
        return part


def prepare(
    role: int,
    plan: Plan,
    section: int,
    rows: Rows,
    stream: Stream,
    dealt: bytes | memoryview,
    weights: Weights,
) -> Material:
    """An evaluator's work ahead of time: read the dealt material, and make κ - λ·m_W of each matrix.

    `dealt` has been checked against ``plan.dealt_bytes``; it is kept if it is writable.
    """
    material = Material(plan, role, section, rows, stream)
    drawn = plan.drawn[role - 1]
    words = drawn.words - drawn.online_words
    tape = lasting(8 * rows.count * words).view(np.int64).reshape(rows.count, words)
    fill_tape(tape, stream, section, rows, drawn.online_words)
    for key, place in drawn.ahead.items():
        material.add(key, tape[:, place.start - drawn.online_words : place.stop - drawn.online_words])
    data = np.frombuffer(dealt, np.uint8)
    if not data.flags.writeable or data.ctypes.data % 8:
        data, given = lasting(data.size), data  # kernels are compiled for aligned, writable words
        data[:] = given
    a_row, places = (plan.both_words, plan.both) if role == 1 else (plan.dealt_words, plan.dealt)
    at_keyed = a_row * 8 * rows.count
    fixed = data[:at_keyed].view(np.int64).reshape(rows.count, a_row)
    material.held = [tape, fixed]
    for key, slot in plan.slots.items():
        if slot.kind.drawn_by(role):
            continue
        if not slot.keyed:
            material.add(key, _read_fixed(fixed, places[key], slot.row_words(), slot.width))
            continue
        words = int(slot.offsets(rows)[-1])
        material.add(key, _read(data[at_keyed : at_keyed + words * slot.width], words, slot.width))
        at_keyed += words * slot.width
    for product in plan.products:
        kappa = material.arrays[product.slot]
        out = np.array(kappa, order="C")
        weights.subtract(product.weight, np.ascontiguousarray(material.arrays[product.lam]), out)
        kappa[:] = out
    return material


def _read(data: Bytes, words: int, width: int) -> Ring:
    if width == 8:
        return data.view(np.int64)
    out = np.empty(words, np.int64)
    unpack40(data, out)
    return out


def _read_fixed(dealt: Ring, at: int, words: int, width: int) -> Ring:
    if width == 8:
        return dealt[:, at : at + words]
    rows = dealt.shape[0]
    data = np.ascontiguousarray(dealt.view(np.uint8)[:, 8 * at : 8 * at + width * words])
    return _read(data.reshape(-1), rows * words, width).reshape(rows, words)
