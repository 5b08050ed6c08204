"""An evaluator's side of a running program: it holds one key, runs over masked values, and sends one message a round."""

from collections.abc import Callable

import numpy as np

from engine.program.codec import Codec, encode, join
from engine.program.material import PreparedMaterial
from engine.program.plan import Kind, Plan, Product, Slot
from engine.program.weights import Weights
from engine.ring.fixed import Ring
from engine.rows.run import Extent, Rows
from engine.wire import Opening, SlotKey, Wire

Exchange = Callable[[bytes], "bytes | bytearray | memoryview"]


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
        self._material: PreparedMaterial | None = None
        self._stop = 0
        self._slots: dict[SlotKey, Ring] = {}
        self._pending: list[tuple[Opening, Ring, Codec]] = []

    @property
    def planning(self) -> bool:
        """Whether only a plan is recorded: there are no values then."""
        return self._recording is not None

    def enter(self, section: int, material: PreparedMaterial | None, start: int = 0, stop: int = 0) -> None:
        """Begin a section with the prepared material's rows start … stop - 1."""
        self.section, self.gate = section, 0
        self._material, self._stop = material, stop
        if material is None:
            return
        self._slots = {}  # its memory is the next section's
        self._slots = material.part(start, stop)
        if (rows := material.rows.part(start, stop)) != self.rows:
            self.rows = rows

    def leave(self, result: object) -> None:
        """End a section with its result: its material up to the rows that were entered is given back, and reads as zeros.

        Raises:
            RuntimeError: the result is a wire whose share still lies in that material.
        """
        if self._material is None:
            return
        lam = result.lam if isinstance(result, Wire) else None
        if lam is not None and any(np.may_share_memory(lam, held) for held in self._material.held):
            raise RuntimeError("a section ends with a dealt share, which is given back: truncate with share=False, or copy it")
        self._material.spend(self._stop)

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
        mine = [encode(masked, codec) for _, masked, codec in pending]
        message = mine[0] if len(mine) == 1 else b"".join(mine)
        theirs = bytes(self._exchange(message))  # a copy, which is aligned: numpy reads words elsewhere by a long way round
        if len(theirs) != len(message):
            raise ValueError("a round's two messages must have the same length")
        at = 0
        for (opening, masked, codec), sent in zip(pending, mine, strict=True):
            opening.settle(join(masked, theirs, at, codec))
            at += len(sent)

    def _planned(self, plan: Plan, name: str, slot: Slot) -> Ring:
        plan.add((self.gate, name), slot)
        return np.empty(0 if slot.keyed else (0, slot.row_words()), np.int64)

    def _prepared(self, name: str) -> Ring:
        if self._material is None:
            raise RuntimeError("no section was entered")
        return np.ascontiguousarray(self._slots[self.gate, name])
