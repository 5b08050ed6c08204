"""The evaluator's side of a running program, and the reader in the clear."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

from engine.gates.plan import Kind, Plan, Product, Slot
from engine.gates.sides import Material, Weights
from engine.ring.fixed import Real, Ring
from engine.ring.kernels.words import join10, join40, pack10, pack40
from engine.wire import Extent, Opening, Rows, SlotKey, Wire

Exchange = Callable[[bytes], "bytes | bytearray | memoryview"]


class Codec(IntEnum):
    """How an opening travels, in bits a word: whole, the low 40 bits, or XOR shares of 10 or 16 bits."""

    WORDS = 64
    LOW40 = 40
    XOR10 = 10
    XOR16 = 16


class Evaluation:
    """An evaluator's side of a program: one pass of rows, section by section.

    Openings are lazy: asking for one's value sends one message with all that are pending and waits for the peer's of
    the same length. So gates that are issued before any of them is read share a round, at both evaluators alike.
    """

    reader = 1

    def __init__(self, role: int, weights: Weights, rows: Rows, exchange: Exchange, plan: Plan | None = None) -> None:
        self.role, self.weights, self.rows = role, weights, rows
        self.sign = 1 if role == 1 else -1
        self.section = self.gate = 0
        self.alarm = 0
        self.rounds = 0
        self._exchange = exchange
        self._recording = plan
        self._material: Material | None = None
        self._slots: dict[SlotKey, Ring] = {}
        self._pending: list[tuple[Opening, Ring, Codec]] = []

    def enter(self, section: int, material: Material | None, start: int = 0, stop: int = 0) -> None:
        """Begin a section with the prepared material's rows start … stop - 1."""
        self.section, self.gate = section, 0
        self._material = material
        if material is None:
            return
        self._slots = {}  # its memory is the next section's
        self._slots = material.part(start, stop)
        if (rows := material.rows.part(start, stop)) != self.rows:
            self.rows = rows

    def kappa(self, name: str, extent: Extent) -> Ring:
        """This evaluator's mask κi for an opening (read-only)."""
        if self._recording is not None:
            return self._planned(self._recording, name, Slot(Kind.KAPPA, extent))
        return self._prepared(name)

    def share(self, name: str, extent: Extent, factor: int = 1, *, bit: bool = False, width: int = 8) -> Ring:
        """This evaluator's share of what the dealer deals (read-only)."""
        if self._recording is not None:
            return self._planned(self._recording, name, Slot(Kind.SHARE, extent, factor, bit, width))
        return self._prepared(name)

    def both(self, name: str, extent: Extent, factor: int) -> Ring:
        """What the dealer deals to both evaluators alike (read-only)."""
        if self._recording is not None:
            return self._planned(self._recording, name, Slot(Kind.BOTH, extent, factor))
        return self._prepared(name)

    def key(self, name: str) -> SlotKey:
        """The name of a slot of the current gate, for work ahead of time."""
        return (self.gate, name)

    def offline_product(self, name: str, extent: Extent, weight: str, x: Wire) -> Ring:
        """κi - λ_xi · m_W, which was made ahead of time."""
        masked = self.kappa(name, extent)
        if self._recording is not None:
            if x.source is None:
                raise RuntimeError("a matrix product needs a wire whose mask was dealt by one slot")
            self._recording.products.append(Product((self.gate, name), weight, x.source))
        return masked

    def open(self, masked: Ring, extent: Extent, codec: Codec = Codec.WORDS) -> Opening:
        """Open what `masked` (zi + κi) is a share of, in the next round."""
        opening = Opening(extent, codec, self)
        self._pending.append((opening, masked, codec))
        return opening

    def ready(self, c: Ring, extent: Extent, bits: int = 64) -> Opening:
        """An opening that needs no round: a public combination of openings that were opened already."""
        opening = Opening(extent, bits, self)
        opening.settle(c)
        return opening

    def flush(self) -> None:
        """One round: send all pending openings in one message, receive the peer's, add."""
        pending, self._pending = self._pending, []
        if self._recording is not None:  # without rows there is nothing to exchange
            self._recording.rounds.append([(opening.extent, codec) for opening, _, codec in pending])
            for opening, masked, _ in pending:
                opening.settle(masked)
            return
        self.rounds += 1
        mine = [_encode(masked, codec) for _, masked, codec in pending]
        message = mine[0] if len(mine) == 1 else b"".join(mine)
        theirs = bytes(self._exchange(message))  # a copy, which is aligned: numpy reads words elsewhere by a long way round
        if len(theirs) != len(message):
            raise ValueError("a round's two messages must have the same length")
        at = 0
        for (opening, masked, codec), sent in zip(pending, mine, strict=True):
            opening.settle(_join(masked, theirs, at, codec))
            at += len(sent)

    def _planned(self, plan: Plan, name: str, slot: Slot) -> Ring:
        plan.add((self.gate, name), slot)
        return np.empty(0 if slot.keyed else (0, slot.row_words()), np.int64)

    def _prepared(self, name: str) -> Ring:
        if self._material is None:
            raise RuntimeError("no section was entered")
        return np.ascontiguousarray(self._slots[self.gate, name])


def _encode(masked: Ring, codec: Codec) -> bytes:
    if codec is Codec.WORDS:
        return masked.tobytes()
    flat = masked.reshape(-1)
    if codec is Codec.XOR10 and flat.size % 4:
        raise ValueError("words of 10 bits are opened four at a time")
    if codec is Codec.XOR16:
        return flat.astype(np.uint16).tobytes()
    out = np.empty(flat.size * codec // 8, np.uint8)
    (pack40 if codec is Codec.LOW40 else pack10)(flat, out)
    return out.tobytes()


def _join(masked: Ring, theirs: bytes, at: int, codec: Codec) -> Ring:
    """The opening of `masked` and of what lies at byte `at` of the peer's message."""
    if codec is Codec.WORDS:
        c: Ring = masked + np.ndarray(masked.shape, np.int64, theirs, at)
        return c
    if codec is Codec.XOR16:
        return masked ^ np.ndarray(masked.shape, np.uint16, theirs, at).astype(np.int64)
    data, c = np.ndarray(masked.size * codec // 8, np.uint8, theirs, at), np.empty(masked.shape, np.int64)
    (join40 if codec is Codec.LOW40 else join10)(masked.reshape(-1), data, c.reshape(-1))
    return c


class Observer(Protocol):
    """Told of the values that a program computes in the clear (calibration, check)."""

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """`values` are about to be shifted from a word at `bits` fraction bits: their wrap probability is |z| / 2^64."""

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """`values` are the arguments of a look-up or the contents of a window."""


class Silent:
    """Observes nothing."""

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """Nothing."""

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """Nothing."""


class Clear:
    """The program in float64, in the clear: openings and wires are the plain values."""

    reader = 2

    def __init__(
        self,
        weights: Callable[[str], Real],
        rows: Rows,
        keys: list[Real],
        values: list[Real],
        functions: Mapping[str, Callable[[Real], Real]],
        observer: Observer | None = None,
    ) -> None:
        self.weights, self.functions, self.rows = weights, functions, rows
        self.keys, self.values = keys, values
        self.observer: Observer = observer or Silent()
        self.section = self.gate = 0
        self.growth: dict[str, Real] = {}  #: of a name, how much larger the parties' numbers are on average than those here

    def truncated(self, name: str, values: Real, bits: int) -> None:
        """Tell the observer of a truncation, of numbers as large as the parties' are on average.

        A factor for `name` is that of all of a row's, or a head's, numbers, which lie side by side.
        """
        factor = self.growth.get(name)
        if factor is not None:
            values = values.reshape(*factor.shape, -1) * factor[..., None]
        self.observer.truncated(self.section, name, values, bits)

    def enter(self, section: int, rows: Rows) -> None:
        """Begin a section."""
        self.section, self.gate, self.rows = section, 0, rows


class Gate:
    """A gate as a program calls it: the reader's own side of it runs. All three take the same arguments."""

    __slots__ = ("__name__", "sides")

    def __init__(
        self,
        name: str,
        deal: Callable[..., Any],
        evaluate: Callable[..., Any],
        clear: Callable[..., Any],
    ) -> None:
        self.__name__ = name
        self.sides = (deal, evaluate, clear)

    def __call__(self, p: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  the readers' types differ
        """Run this reader's side."""
        p.gate += 1
        return self.sides[p.reader](p, *args, **kwargs)
