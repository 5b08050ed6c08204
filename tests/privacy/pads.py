"""Exact tests of one-time pads: no statistics, every word and every bit of what is sent.

An evaluator runs alone. Its peer's replies are made so that every opening takes a value chosen beforehand, so its additive
part of an opening does not depend on its masks κ; then all κ words are moved by random amounts. Every sent word must have
moved by exactly its own mask's amount, modulo exactly the bits that are sent, and each mask must serve one message word.

The dealer runs twice, the second time with the first evaluator's shares moved: what is dealt must have moved against them.
Keys of point functions have no pad of their own but grow from both roots: each word must change with either one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.models.planning import plans
from engine.parties.dealer import Dealer
from engine.parties.evaluator import Evaluator
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.material import PreparedMaterial
from engine.program.plan import Kind, Plan, Slot
from engine.rows.run import Extent, Rows
from engine.step import Answer, Step
from engine.wire import Opening, SlotKey
from tests.privacy.ledger import LeakError
from tests.privacy.small import CONTEXT, Shared

Words = NDArray[np.int64]

ROWS, USED, ANSWERED = 4, 3, 2  # of a block; the step's pass lies within it
ONE_HOT = {"u", "bins", "zero"}
XORED = {"hash", "alarm"}  # masks that are XORed onto what is opened
ROOT = "root"  # an evaluator's own end of a point function: drawn like a mask, and pads the keys
KEY = bytes(range(32))


def generator(*place: object) -> np.random.Generator:
    """Random numbers that belong to a place, the same in every run."""
    return np.random.default_rng(list(hashlib.blake2b(repr(place).encode()).digest()))


def words_of(count: int, *place: object) -> Words:
    """Random words that belong to a place."""
    return generator(*place).integers(-(1 << 63), 1 << 63, count, dtype=np.int64)


def low(words: Words, bits: int) -> Words:
    return words if bits == 64 else words & np.int64((1 << bits) - 1)


def packed(words: Words, codec: Codec) -> bytes:
    """Words as they travel; written anew, bit by bit, so that the engine's packing is checked too."""
    bits = (words.view(np.uint64)[:, None] >> np.arange(codec.value, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpacked(data: bytes, codec: Codec) -> Words:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").reshape(-1, codec.value)
    return (bits.astype(np.uint64) << np.arange(codec.value, dtype=np.uint64)).sum(axis=1, dtype=np.uint64).view(np.int64)


@dataclass
class Segment:
    """The words of one opening in a round's message, and where the program asked for it."""

    section: int
    gate: int
    start: int
    stop: int
    codec: Codec
    opened: Words
    sent: Words = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass
class Alone:
    """An evaluator without peers. `moved` moves its masks κ."""

    model: Shared
    role: int
    moved: bool
    segments: list[Segment] = field(default_factory=list)
    answer: Answer | None = None

    def run(self) -> Alone:
        evaluator = Evaluator(self.model.packs[self.role - 1], KEY, prefix=3, context=CONTEXT)
        evaluator.announce(1, ROWS, 3)
        for section in range(evaluator.sections):
            length = evaluator.section_bytes(1, section)
            evaluator.prepare(1, section, generator("dealt", section).bytes(length))
        d = self.model.spec.d_model
        kappa2 = words_of(USED * d, "kappa2").reshape(USED, d)
        if self.moved:
            kappa2 = kappa2 + words_of(USED * d, "kappa2 moved").reshape(USED, d)
        deltas = generator("deltas").integers(0, self.model.spec.vocab, USED).astype(np.uint32)
        with self._watched():
            step = Step(1, 3, ANSWERED, deltas, kappa2 if self.role == 2 else kappa2[:, :0])
            self.answer = evaluator.step(step, self._exchange, lambda *_: None)
        return self

    @contextmanager
    def _watched(self) -> Iterator[None]:
        pending: list[Segment] = []
        self._pending = pending
        inner = Evaluation.open

        def watched(e: Evaluation, masked: Words, extent: Extent, codec: Codec = Codec.WORDS) -> Opening:
            place = (e.section, e.gate, len(pending), len(self.segments))
            opened = low(words_of(masked.size, "opened", *place), codec.value)
            start = e.rows.first - 1
            pending.append(Segment(e.section, e.gate, start, start + e.rows.count, codec, opened))
            return inner(e, masked, extent, codec)

        part = PreparedMaterial.part

        def moved(material: PreparedMaterial, start: int, stop: int) -> dict[SlotKey, Words]:
            slots, plan = part(material, start, stop), material.plan
            for key, amount in moves(plan, material.section).items():
                shaped = of_rows(plan.slots[key], amount, start, stop).reshape(slots[key].shape)
                slots[key] = slots[key] ^ shaped if key[1] in XORED else slots[key] + shaped
            return slots

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Evaluation, "open", watched)
            if self.moved:
                patch.setattr(PreparedMaterial, "part", moved)
            yield

    def _exchange(self, message: bytes) -> bytes:
        at, reply = 0, b""
        for segment in self._pending:
            length = segment.opened.size * segment.codec.value // 8
            segment.sent = unpacked(message[at : at + length], segment.codec)
            at += length
            xor = segment.codec in (Codec.XOR10, Codec.XOR16)
            theirs = segment.opened ^ segment.sent if xor else segment.opened - segment.sent
            reply += packed(np.ascontiguousarray(theirs), segment.codec)
        if at != len(message):
            raise LeakError("a message holds more than its openings")
        self.segments += self._pending
        self._pending.clear()
        return reply


def moves(plan: Plan, section: int) -> dict[SlotKey, Words]:
    """By how much each mask word is moved."""
    rows = Rows(1, 3, ROWS)
    kappas = [(key, slot) for key, slot in plan.slots.items() if slot.kind is Kind.KAPPA and key[1] != ROOT]
    return {key: words_of(int(slot.offsets(rows)[-1]), "kappa", section, key) for key, slot in kappas}


def of_rows(slot: Slot, words: Words, start: int, stop: int) -> Words:
    """A slot's words of rows start … stop - 1 of the block, flat."""
    bounds = slot.offsets(Rows(1, 3, ROWS))
    return words[bounds[start] : bounds[stop]]


def check_messages(model: Shared, role: int) -> int:
    """Every word that the evaluator sends is padded by a mask word of its own; returns how many words it sent."""
    still, moved = Alone(model, role, moved=False).run(), Alone(model, role, moved=True).run()
    recorded = plans(model.spec)
    spare = {(section, key): words for section, plan in enumerate(recorded) for key, words in moves(plan, section).items()}
    for one, two in zip(still.segments, moved.segments, strict=True):
        xor = one.codec in (Codec.XOR10, Codec.XOR16)
        difference = low(one.sent ^ two.sent if xor else two.sent - one.sent, one.codec.value)
        for section, key in [place for place in spare if place[0] == one.section]:
            amount = of_rows(recorded[section].slots[key], spare[section, key], one.start, one.stop)
            if role == 2 and section == 0 and key[1] == "z":  # its last mask comes from the dealer, online
                amount = words_of(amount.size, "kappa2 moved")
            if xor == (key[1] in XORED) and np.array_equal(low(amount, one.codec.value), difference):
                del spare[section, key]
                break
        else:
            raise LeakError(f"E{role} sends words of section {one.section}, before gate {one.gate + 1}, that no mask pads")
    left = [f"{section} {key}" for section, key in spare if key[1] != "star"]  # a share of the residual's mask
    if left:
        raise LeakError(f"masks of E{role} that pad nothing: {left}")
    _check_answer(still, moved, model)
    return sum(segment.sent.size for segment in still.segments)


def _check_answer(still: Alone, moved: Alone, model: Shared) -> None:
    """What goes to the dealer is a function of what was opened, and of nothing else that the evaluator holds."""
    one, two = still.answer, moved.answer
    if one is None or two is None:
        raise RuntimeError("the evaluator has not run")
    last = {segment.codec: segment.opened for segment in still.segments if segment.section == model.spec.sections - 1}
    logits = (last[Codec.LOW40].view(np.uint64) >> np.uint64(16)).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]
    if (one.data, one.alarm) != (two.data, two.alarm) or one.data != logits.tobytes():
        raise LeakError("the dealer is sent something else than bits 16 to 39 of the opened logits")
    if one.alarm != int(last[Codec.XOR16][-1]):
        raise LeakError("the dealer is sent something else than the opened alarm word")


def dealt_slots(plan: Plan, rows: Rows, material: bytes) -> dict[SlotKey, Words]:
    """The words of each dealt slot, flat, by row."""
    fixed = plan.dealt_words * 8
    table = np.frombuffer(material[: fixed * rows.count], np.uint8).reshape(rows.count, fixed)
    found, used, at = {}, np.zeros(fixed, bool), fixed * rows.count
    for key, slot in plan.slots.items():
        if slot.kind is Kind.KAPPA:
            continue
        codec = Codec.LOW40 if slot.width == 5 else Codec.WORDS
        if slot.keyed:
            length = int(slot.offsets(rows)[-1]) * slot.width
            found[key] = unpacked(material[at : at + length], codec)
            at += length
        else:
            start = plan.dealt[key] * 8
            stop = start + slot.row_words() * slot.width
            used[start:stop] = True
            found[key] = unpacked(table[:, start:stop].tobytes(), codec)
    if at != len(material) or table[:, ~used].any():
        raise LeakError("material holds more than its slots")
    return found


@dataclass
class Dealt:
    """A block as the dealer deals it, with the first evaluator's shares as they were drawn."""

    slots: dict[tuple[int, SlotKey], tuple[Slot, Words]]  #: what both evaluators receive, too
    first: dict[tuple[int, SlotKey], Words]
    request: Step


def deal(model: Shared, move: Callable[[int, SlotKey, Slot], bool], seed: bytes = b"", which: int = 0) -> Dealt:
    """Deal ROWS rows under fixed keys, an evaluator's words (the first one's) moved in the slots that `move` chooses."""
    keys = [hashlib.blake2b(seed + bytes([i]), digest_size=32).digest() for i in range(3)]
    dealer = Dealer(model.spec, model.seeds, (keys[0], keys[1]), keys[2], prefix=3, context=CONTEXT)
    first: dict[tuple[int, SlotKey], Words] = {}
    inner = Dealing._drawn

    def drawn(self: Dealing, key: SlotKey, drawer: int) -> Words:
        words = inner(self, key, drawer)
        if drawer == which and move(self.section, key, self.plan.slots[key]):
            words = words + words_of(words.size, "first", self.section, key).reshape(words.shape)
        if drawer == 0:
            first[self.section, key] = words.reshape(-1)
        return words

    rows = Rows(1, 3, ROWS)
    slots = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dealing, "_drawn", drawn)
        for section, (one, two) in dealer.deal(ROWS):
            plan = dealer.plans[section]
            found = dealt_slots(plan, rows, bytes(two))
            slots |= {(section, key): (plan.slots[key], w) for key, w in found.items()}
            both = [found[key].reshape(ROWS, -1) for key in plan.both]
            if bytes(one) != (np.concatenate(both, axis=1).tobytes() if both else b""):
                raise LeakError(f"the first evaluator's material of section {section} is not what both receive")
    return Dealt(slots, first, dealer.request([5, 6, 7, 8]))


def check_dealt(model: Shared) -> int:
    """Every dealt word is padded by a word of the first evaluator, or grows from both roots; returns how many there are."""
    for bits in (False, True):
        _check_moved(model, bits)
    still = deal(model, lambda *_: False)
    for which in (0, 1):
        moved = deal(model, lambda section, key, slot: key[1] == ROOT, which=which)
        for (section, key), (slot, words) in still.slots.items():
            same = words == moved.slots[section, key][1]
            if same.any() if slot.kind is Kind.BOTH else not same.all():
                raise LeakError(f"slot {key} of section {section} has words that do not grow from the roots of E{which + 1}")
    for (section, key), (slot, words) in still.slots.items():
        if key[1] in ONE_HOT:
            vectors = (words ^ still.first[section, key]).reshape(-1, slot.factor)
            if not (np.bitwise_count(vectors.view(np.uint64)).sum(axis=1) == 1).all():
                raise LeakError(f"slot {key} of section {section} is no one-hot vector under a pad of its own")
    return sum(words.size for _, words in still.slots.values())


def _check_moved(model: Shared, bits: bool) -> None:
    def chosen(section: int, key: SlotKey, slot: Slot) -> bool:
        return slot.kind is Kind.SHARE and slot.bit == bits and key[1] not in ONE_HOT

    still, moved = deal(model, lambda *_: False), deal(model, chosen)
    for (section, key), (slot, words) in still.slots.items():
        if slot.kind is Kind.BOTH:
            if not np.array_equal(words, moved.slots[section, key][1]):
                raise LeakError(
                    f"slot {key} of section {section}, which both receive, depends on shares that pad something else"
                )
            continue
        one, two = still.first[section, key], moved.first[section, key]
        pad = words ^ one ^ two if bits else words - (two - one)
        if not np.array_equal(low(pad, 8 * slot.width), moved.slots[section, key][1]):
            raise LeakError(f"slot {key} of section {section} is dealt without a pad of its own")
    if not np.array_equal(still.request.kappa2, moved.request.kappa2):
        raise LeakError("the dealer's online message depends on shares that pad something else")


def check_online(model: Shared) -> None:
    """κ2 of the embedding is padded by the first evaluator's κ1, which nothing dealt hangs on, and by its share of ρ* too.

    The second evaluator sees two words under κ1: its own κ2 (ρ* and more, less κ1) and the first one's message (with κ1).
    The share of ρ*, which pads no other word, makes them independent.
    """
    still = deal(model, lambda *_: False)
    for name, sign in (("z", -1), ("star", 1)):
        key = next(k for section, k in still.first if section == 0 and k[1] == name)
        moved = deal(model, lambda section, k, _, key=key: section == 0 and k == key)  # type: ignore[misc]
        amount = moved.first[0, key] - still.first[0, key]
        if not np.array_equal((moved.request.kappa2 - still.request.kappa2).reshape(-1), sign * amount):
            raise LeakError(f"κ2 is not padded by {name}")
        touched = {place for place, (_, words) in still.slots.items() if not np.array_equal(words, moved.slots[place][1])}
        if name == "z" and touched:
            raise LeakError(f"κ1 of the embedding pads something that is dealt, too: {touched}")
