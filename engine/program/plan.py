"""What a section of the program needs per row: the slots of its streams and of the dealt material.

The plan is recorded by running the evaluator's side of the program over zero rows, so it cannot disagree with the
program. Fixed slots (the same size for every row) lie side by side in one range of the row's stream; keyed slots (which
grow with the row's keys) in another. Of the fixed ones, those that an evaluator needs ahead of time, for its halves of
matrix products, lie behind the others; it draws the others, and the keyed ones, when the row is computed. A section dealt to
the second evaluator is: the fixed slots of each row, then each keyed slot; to the first, those of each row that both receive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import numpy as np

from engine.ring.fixed import WORD_BYTES, Ring
from engine.rows.run import Extent, Rows
from engine.wire import SlotKey


class Kind(Enum):
    """Where a slot's words come from."""

    KAPPA = "kappa"  #: both evaluators draw: the first from k1, the second from k2
    SHARE = "share"  #: the first draws from k1, the second receives what the dealer made of it
    BOTH = "both"  #: both receive the same words, each masked by what the other one draws (`engine.ring.kernels.points`)

    def drawn_by(self, role: int) -> bool:
        """Whether that evaluator draws the words; else it receives them."""
        return self is Kind.KAPPA or (self is Kind.SHARE and role == 1)


@dataclass(frozen=True, slots=True)
class Slot:
    """One array of a gate: `extent` elements of `factor` words each (or bits, in `factor` words for 64 elements) a row.

    Dealt in `width` bytes a word.
    """

    kind: Kind
    extent: Extent
    factor: int = 1
    bit: bool = False
    width: int = WORD_BYTES

    @property
    def keyed(self) -> bool:
        """Does its size grow with the row's keys?"""
        return self.extent.key > 0

    def offsets(self, rows: Rows) -> Ring:
        """Bounds of the rows' runs, in words."""
        elements = rows.offsets(self.extent)
        if not self.bit:
            return elements * self.factor
        runs = -(-np.diff(elements) // 64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(runs * self.factor)])

    def row_words(self, keys: int = 0) -> int:
        """Words of a row that sees so many keys."""
        elements = self.extent.row + self.extent.key * keys
        return self.factor * (-(-elements // 64) if self.bit else elements)


@dataclass(frozen=True, slots=True)
class Product:
    """A product with a model matrix whose mask half is made ahead of time: κ - λ·m_W."""

    slot: SlotKey
    weight: str
    lam: SlotKey


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an evaluator draws from its stream for a section, and the dealer for it: words [start, stop) of a row's range."""

    online: dict[SlotKey, slice]
    ahead: dict[SlotKey, slice]  #: for the halves of products that are made ahead of time
    keyed: dict[SlotKey, Slot]  #: in a range of their own, one behind the other
    online_words: int
    words: int


def _side_by_side(slots: Mapping[SlotKey, Slot], at: int) -> tuple[dict[SlotKey, slice], int]:
    """Places of fixed slots from word `at` on, and where they end."""
    places = {key: slice(at, at := at + slot.row_words()) for key, slot in slots.items()}
    return places, at


@dataclass
class Plan:
    """The slots of one section, in the order in which the program first asks for them."""

    slots: dict[SlotKey, Slot] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    rounds: list[list[tuple[Extent, int]]] = field(default_factory=list)  #: openings of each round: elements, and bits of one
    dealt: dict[SlotKey, int] = field(default_factory=dict)  #: fixed: word offset in the row that the second evaluator receives
    both: dict[SlotKey, int] = field(default_factory=dict)  #: word offset in the row that the first evaluator receives
    dealt_words: int = 0
    both_words: int = 0

    def add(self, key: SlotKey, slot: Slot) -> None:
        """Record a slot; a second use of one name is a bug in a gate."""
        if key in self.slots:
            raise RuntimeError(f"slot {key} is used twice")
        self.slots[key] = slot
        if slot.keyed:
            if slot.kind is Kind.BOTH:
                raise RuntimeError("what both receive does not grow with the keys")
            return
        words = slot.row_words()
        if slot.kind is not Kind.KAPPA:
            self.dealt[key] = self.dealt_words
            self.dealt_words += -(-words * slot.width // WORD_BYTES)
        if slot.kind is Kind.BOTH:
            self.both[key] = self.both_words
            self.both_words += words

    @cached_property
    def drawn(self) -> tuple[Drawn, Drawn]:
        """What is drawn from k1 and from k2. To be asked for once all is recorded."""
        return self._drawn_by(1), self._drawn_by(2)

    def _drawn_by(self, role: int) -> Drawn:
        needed = {key for product in self.products for key in (product.slot, product.lam)}
        slots = {key: slot for key, slot in self.slots.items() if slot.kind.drawn_by(role)}
        fixed = {key: slot for key, slot in slots.items() if not slot.keyed}
        online, words = _side_by_side({key: slot for key, slot in fixed.items() if key not in needed}, 0)
        words += words % 2  # a stream is read from any even word on
        ahead, end = _side_by_side({key: slot for key, slot in fixed.items() if key in needed}, words)
        return Drawn(online, ahead, {key: slot for key, slot in slots.items() if slot.keyed}, words, end)

    def dealt_bytes(self, rows: Rows, role: int) -> int:
        """Exact length of the section's material for these rows and evaluator."""
        if role == 1:
            return self.both_words * WORD_BYTES * rows.count
        return max((stop for _, stop in self.keyed_bounds(rows).values()), default=self.dealt_words * WORD_BYTES * rows.count)

    def made_bytes(self, rows: Rows, role: int) -> int:
        """Exact memory of the section once an evaluator has prepared it: what it received, what it drew ahead of time, and the
        words that were sent in fewer than 8 bytes. Known before anything is allocated.
        """
        drawn = self.drawn[role - 1]
        made = self.dealt_bytes(rows, role) + WORD_BYTES * rows.count * (drawn.words - drawn.online_words)
        for slot in self.slots.values():
            if not slot.kind.drawn_by(role) and slot.width != WORD_BYTES:
                made += WORD_BYTES * int(slot.offsets(rows)[-1])
        return made

    def round_bytes(self, rows: Rows) -> int:
        """Exact length of the section's longest message to the other evaluator, in a pass of these rows."""
        return max((sum(int(rows.offsets(e)[-1]) * bits // 8 for e, bits in opened) for opened in self.rounds), default=0)

    def keyed_bounds(self, rows: Rows) -> dict[SlotKey, tuple[int, int]]:
        """Bytes of the second evaluator's material that each keyed slot takes, behind the fixed slots of all rows, in order."""
        bounds, at = {}, self.dealt_words * WORD_BYTES * rows.count
        for key, slot in self.slots.items():
            if slot.keyed and slot.kind is Kind.SHARE:
                bounds[key] = (at, at := at + int(slot.offsets(rows)[-1]) * slot.width)
        return bounds


def dealt_bytes(plans: Iterable[Plan], rows: Rows, role: int) -> int:
    """Exact length of what is dealt to an evaluator for these rows, all sections together."""
    return sum(plan.dealt_bytes(rows, role) for plan in plans)


def made_bytes(plans: Iterable[Plan], rows: Rows, role: int) -> int:
    """Exact memory of these rows at an evaluator, all sections together, once they are prepared."""
    return sum(plan.made_bytes(rows, role) for plan in plans)


def round_bytes(plans: Sequence[Plan], rows: Rows) -> int:
    """Exact length of the longest message between the evaluators in a pass of these rows, before the section of the answers."""
    return max(plan.round_bytes(rows) for plan in plans[:-1])
