"""Plans, slots and rounds: each name once, what was planned, messages of one length."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.product import multiply
from engine.gates.truncation import as_wire, truncate
from engine.parties.gate_trio import Input
from engine.prf import Stream
from engine.program.codec import Codec
from engine.program.dealing import Dealing, expect
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.program.plan import Kind, Plan, Slot
from engine.rows.run import Extent, Rows
from engine.wire import Opening, Rho
from tests.engine.gates.alone import KEYS, Context, Ring, play, words
from tests.engine.trio import Mail, together


def evaluations() -> tuple[Evaluation, Evaluation, Mail]:
    """Two evaluators that hold nothing but a link."""
    mail, weights = Mail(), Context()
    one, two = (Evaluation(r, weights.weights(r), Rows(1, 0, 1), mail.exchange(r - 1)) for r in (1, 2))
    return one, two, mail


def opened(first: list[tuple[Ring, Codec]], second: list[tuple[Ring, Codec]]) -> tuple[list[Ring], Mail]:
    """What both see of these pending openings."""
    one, two, mail = evaluations()

    def side(e: Evaluation, pending: list[tuple[Ring, Codec]]) -> list[Ring]:
        openings = [e.open(words, Extent(words.shape[1]), codec) for words, codec in pending]
        return [o.c for o in openings]

    a, b = together(lambda: side(one, first), lambda: side(two, second))
    assert isinstance(a, list)
    assert isinstance(b, list)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert one.rounds == two.rounds == 1
    return a, mail


@given(seed=st.integers(0, 2**32), counts=st.lists(st.sampled_from((4, 8, 12)), min_size=4, max_size=4))
@settings(max_examples=10)
def test_pending_openings_of_every_kind_share_one_message(seed: int, counts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    sides = [[words(rng, 2, n) for n in counts] for _ in range(2)]
    codecs = (Codec.WORDS, Codec.LOW40, Codec.XOR10, Codec.XOR16)
    first, second = ([(_fitting(w, c), c) for w, c in zip(side, codecs, strict=True)] for side in sides)

    got, mail = opened(first, second)

    (x, _), (y, _), (h, _), (a, _) = first
    (x2, _), (y2, _), (h2, _), (a2, _) = second
    np.testing.assert_array_equal(got[0], x + x2)
    np.testing.assert_array_equal(got[1], (y + y2) & ((1 << 40) - 1))
    np.testing.assert_array_equal(got[2], h ^ h2)
    np.testing.assert_array_equal(got[3], a ^ a2)
    size = 2 * (8 * counts[0] + 5 * counts[1] + counts[2] * 5 // 4 + 2 * counts[3])
    assert [len(m) for m in mail.sent[0] + mail.sent[1]] == [size, size]


def test_an_opening_of_words_in_another_order_is_the_same() -> None:
    rng = np.random.default_rng(3)
    for codec in Codec:
        x, y = (_fitting(words(rng, 4, 8), codec) for _ in range(2))
        (plain,), _ = opened([(x, codec)], [(y, codec)])
        (turned,), _ = opened([(np.asfortranarray(x), codec)], [(y, codec)])
        np.testing.assert_array_equal(turned, plain)


def test_ten_bit_words_that_fill_no_bytes_are_not_sent() -> None:
    one, _, mail = evaluations()
    one.open(np.zeros((1, 6), np.int64), Extent(6), Codec.XOR10)
    with pytest.raises(ValueError, match="four at a time"):
        one.flush()
    assert not mail.sent[0]


def _fitting(w: Ring, codec: Codec) -> Ring:
    return w & ((1 << codec.value) - 1) if codec in (Codec.XOR10, Codec.XOR16) else w


@pytest.mark.parametrize("reply", [b"", b"\0" * 7, b"\0" * 9])
def test_a_message_of_another_length_is_refused(reply: bytes) -> None:
    e = Evaluation(1, Context().weights(1), Rows(1, 0, 1), lambda message: reply)
    opening = e.open(np.zeros((1, 1), np.int64), Extent(1))
    with pytest.raises(ValueError, match="same length"):
        _ = opening.c


def test_an_opening_that_its_round_did_not_answer_is_an_error() -> None:
    class Nothing:
        def flush(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="not answered"):
        _ = Opening(Extent(1), 64, Nothing()).c


def test_no_slot_without_a_section() -> None:
    one, _, _ = evaluations()
    with pytest.raises(RuntimeError, match="no section"):
        one.kappa("z", Extent(1))


def test_a_name_is_used_once_in_a_gate() -> None:
    plan = Plan()
    plan.add((1, "z"), Slot(Kind.KAPPA, Extent(3)))
    with pytest.raises(RuntimeError, match="used twice"):
        plan.add((1, "z"), Slot(Kind.KAPPA, Extent(3)))


def test_the_dealer_asks_for_nothing_that_was_not_planned() -> None:
    plan = Plan()
    plan.add((1, "z"), Slot(Kind.SHARE, Extent(3)))
    with pytest.raises(RuntimeError, match="planned"):
        expect(plan, (1, "z"), Kind.KAPPA, Extent(3))
    with pytest.raises(RuntimeError, match="planned"):
        expect(plan, (1, "z"), Kind.SHARE, Extent(4))


def test_a_keyed_slot_is_dealt_once() -> None:
    plan = Plan()
    plan.add((0, "r"), Slot(Kind.SHARE, Extent(key=2)))
    d = Dealing(plan, 0, Rows(1, 0, 2), (Stream(KEYS[0]), Stream(KEYS[1])), Context().masks())
    d.share("r", np.arange(6))
    with pytest.raises(RuntimeError, match="dealt twice"):
        d.share("r", np.arange(6))


def test_a_product_with_a_matrix_needs_a_wire_that_was_dealt() -> None:
    plan = Plan()
    e = Evaluation(1, Context().weights(1), Rows(0, 0, 0), _never, plan)
    e.enter(0, None)
    made = play(lambda p, z: as_wire(p, z) + as_wire(p, z), Input(np.ones((1, 2), np.int64)))
    with pytest.raises(RuntimeError, match="one slot"):
        e.offline_product("z", Extent(1), "w", made.evaluated[0])


def _never(message: bytes) -> bytes:
    raise AssertionError


def test_slots_of_different_sizes_lie_side_by_side() -> None:
    """Fixed and keyed, bits and words, 5 and 8 bytes: the section's bytes are what was planned (`play` checks it)."""
    rng = np.random.default_rng(0)
    x, y = words(rng, 3, 65) >> 30, words(rng, 3, 5) >> 30
    rows = Rows(30, 61, 3)
    flat = rng.integers(-9, 9, int(rows.offsets(Extent(key=2))[-1]))

    def program(p: Any, a: Any, b: Any, c: Any) -> Any:
        first = truncate(p, a, 20, 18, "a")
        second = truncate(p, b, 20, 18, "b")
        third = truncate(p, c, 3, 3, "c")
        return multiply(p, first, second), third

    played = play(program, Input(x), Input(y), Input(flat, Extent(key=2)), rows=rows)

    np.testing.assert_array_equal(played.outputs[1], flat)
    bits = 2 * 8 * sum(-(-2 * n // 64) for n in rows.keys)
    fixed = 3 * 8 * (65 + 5 + 2 * 2 + 2 * 1)
    assert len(played.material) == fixed + 8 * flat.size + bits


def test_a_peer_that_is_silent_is_the_links_matter() -> None:
    """An exception of the exchange passes through the round."""

    def lost(message: bytes) -> bytes:
        raise queue.Empty

    e = Evaluation(1, Context().weights(1), Rows(1, 0, 1), lost)
    opening = e.open(np.zeros((1, 1), np.int64), Extent(1))
    with pytest.raises(queue.Empty):
        _ = opening.c


def test_a_slot_that_both_receive_does_not_grow_with_the_keys() -> None:
    with pytest.raises(RuntimeError, match="does not grow with the keys"):
        Plan().add((0, "cells"), Slot(Kind.BOTH, Extent(0, 1)))


def test_a_section_that_was_not_entered_may_be_left() -> None:
    evaluations()[0].leave(None)


@pytest.mark.parametrize(("share", "refused"), [(True, True), (False, False)])
def test_no_section_ends_with_a_share_that_is_given_back(share: bool, refused: bool) -> None:
    """With one row a dealt share is a view of the material, whose memory the next section would read as zeros."""
    left = []

    def program(p: Any, z: Any) -> Any:
        x = truncate(p, z, 4, 2, "x", share=share)
        if isinstance(p, Evaluation) and p.role == 2 and p.rows.count:
            try:
                p.leave(x)
            except RuntimeError as error:
                left.append(str(error))
        return x

    play(program, Input(words(np.random.default_rng(1), 1, 4), bits=64))
    assert bool(left) == refused


class Asked:
    """A gate whose two sides ask for slots of these names: the dealer shares so many values."""

    def __init__(self, dealer: str, evaluators: str, values: int = 4) -> None:
        self.gate = Gate("asked", self.deal, self.evaluate, self.deal)
        self.dealer, self.evaluators, self.values = dealer, evaluators, values

    def deal(self, d: Dealing, x: Rho) -> Rho:
        d.share(self.dealer, np.zeros(self.values, np.int64))
        return x

    def evaluate(self, e: Evaluation, x: Opening) -> Opening:
        e.share(self.evaluators, x.extent)
        return x


def test_a_slot_that_only_the_dealer_asks_for_is_named() -> None:
    with pytest.raises(RuntimeError, match="side of gate 1 asks for slot 'y', the evaluator's side for z: both ask"):
        play(Asked("y", "z").gate, Input(words(np.random.default_rng(1), 1, 4)))


def test_a_share_of_too_few_values_is_refused_and_not_spread() -> None:
    with pytest.raises(RuntimeError, match="slot 'z' of gate 1 has 4 words, and 1 values are dealt"):
        play(Asked("z", "z", values=1).gate, Input(words(np.random.default_rng(1), 1, 4)))
