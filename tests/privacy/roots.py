"""The roots of point functions: each of the 126 bits of each of them counts, and each serves for one key."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.models.planning import plans
from engine.parties.dealer import Dealer
from engine.program.dealing import Dealing
from engine.program.plan import Kind
from engine.rows.run import Rows
from engine.wire import SlotKey
from tests.privacy.index import KEYS
from tests.privacy.ledger import LeakError
from tests.privacy.pads import ROOT, Words, dealt_slots
from tests.privacy.small import CONTEXT, small

ROWS = 128  # so that each gate has a value for each bit, of those with one a row too
UNUSED = (0, 1)  #: bits of a root's first word that are no part of a node's seed
Flip = Callable[[int, SlotKey, int], Words]
"""(section, root's slot, values) → what is XORed onto the roots, [values, 2]."""


def each_bit(section: int, key: SlotKey, values: int) -> Words:
    """Of value v the bit v modulo 128."""
    del section, key
    flipped = np.zeros((values, 2), np.int64)
    for v in range(values):
        flipped[v, v % 128 // 64] = np.int64(1) << np.int64(v % 64)
    return flipped


def half(section: int, key: SlotKey, values: int) -> Words:
    """Something of every other value, in an order that no two gates and layers have alike."""
    draw = np.random.default_rng([section, key[0]])
    flipped = np.zeros((values, 2), np.int64)
    flipped[draw.permutation(values)[: values // 2]] = 1 << 40
    return flipped


def nothing(section: int, key: SlotKey, values: int) -> Words:
    del section, key
    return np.zeros((values, 2), np.int64)


def keys_of(flip: Flip, party: int) -> dict[tuple[int, SlotKey], Words]:
    """Every key that is dealt, [values, words], with one evaluator's roots changed as they come from its stream."""
    model = small()
    context = CONTEXT + ROWS
    dealer = Dealer(model.spec, model.seeds, (KEYS[0], KEYS[1]), KEYS[2], prefix=3, context=context)
    inner, values = Dealing._drawn, dict[tuple[int, SlotKey], int]()

    def drawn(self: Dealing, key: SlotKey, which: int) -> Words:
        words = inner(self, key, which)
        if key[1] == ROOT:
            values[self.section, (key[0], "points")] = words.size // 2
            if which == party:
                words = words ^ flip(self.section, key, words.size // 2).reshape(words.shape)
        return words

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dealing, "_drawn", drawn)
        for section, (_, two) in dealer.deal(ROWS):
            plan = dealer.plans[section]
            dealt = dealt_slots(plan, Rows(1, 3, ROWS), bytes(two))
            for key, slot in plan.slots.items():
                if slot.kind is Kind.BOTH:
                    found[section, key] = dealt[key].reshape(values[section, key], -1)
    return found


def check_roots() -> int:
    """Each of a root's 126 bits changes every word of its key, and of no other key. Returns the number of keys looked at."""
    still = keys_of(nothing, 0)
    if len(still) != sum(slot.kind is Kind.BOTH for plan in plans(small().spec) for slot in plan.slots.values()):
        raise LeakError("two gates' keys grow from one place")
    for party in (0, 1):
        for flip in (each_bit, half):
            for place, words in keys_of(flip, party).items():
                touched = flip(place[0], (place[1][0], ROOT), len(words))
                touched[:, 0] &= ~np.int64(sum(1 << bit for bit in UNUSED))
                meant, changed = touched.any(axis=1), words != still[place]
                if not changed[meant].all():
                    raise LeakError(f"a bit of a root of E{party + 1} does not count in gate {place}")
                if changed[~meant].any():
                    raise LeakError(f"a key of gate {place} grows from a root of E{party + 1} that is another key's")
    return sum(len(words) for words in still.values())
