"""Nothing is drawn twice, and what is sent is masked by a key that its receiver does not hold."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest

from engine.models.planning import plans
from engine.prf import Label
from engine.program.plan import Kind
from tests.privacy.ledger import Draw, LeakError, Ledger
from tests.privacy.session import Aborted, Session
from tests.privacy.small import prompt, small

HOLDS = {"E1": {"k1"}, "E2": {"k2"}, "D": {"k1", "k2"}}
"""The session keys that each party holds."""

MASKED_BY = {
    ("E1", "E2", Kind.KAPPA): "k1",
    ("E2", "E1", Kind.KAPPA): "k2",
    ("D", "E2", Kind.SHARE): "k1",
    ("D", "E1", Kind.BOTH): "k2",
    ("D", "E2", Kind.BOTH): "k1",
}
"""The key whose words pad each kind of message; tests/privacy/test_pads.py shows that they pad every bit of it. (What both
receive grows from a root of each key: engine/ring/kernels/points.py.)
"""


def long_session(ledger: Ledger) -> Session:
    """Prefill in two blocks, decode, edit, redo of a step, a step that breaks off, and on."""
    session = Session(small(), ledger)
    session.deal(5)
    session.deal(7)
    session.step(prompt(9, 1), answers=2)
    session.step([4])
    start = session.dealer.position
    session.rewind(start - 6)
    session.step(prompt(4, 2))
    session.rewind(start - 6)  # the redo of a step whose alarm went off is the same
    session.step(prompt(4, 2))
    here = session.dealer.position
    session.deal(3)
    with pytest.raises(Aborted):
        session.step(prompt(2, 3), cut=11)
    session.rewind(here)
    session.step(prompt(2, 3))
    return session


def test_no_range_is_drawn_twice_and_the_parties_draw_the_same() -> None:
    ledger = Ledger()
    for _ in range(2):
        long_session(ledger)
    ledger.check_nothing_twice()
    for node in ("E1", "E2"):
        whole = ledger.check_agreement(node)
        drawn = {label: {(d.row, d.section) for d in whole if d.label == label} for label in (Label.FIXED, Label.KEYED)}
        embedded, one, two, answered = ({row for row, at in drawn[Label.FIXED] if at == section} for section in range(4))
        assert drawn[Label.KEYED] == {(row, at) for at, rows in ((1, one), (2, two)) for row in rows}
        assert embedded >= one >= two > answered  # a step breaks off, and not all of a prompt's rows are answered
        assert (len(two), len(answered)) == (9 + 1 + 4 + 4 + 2, 2 + 1 + 1 + 1 + 1)
        assert len(ledger.keys_of(node)) == 2
    assert len(ledger.keys_of("D")) == 4
    assert not ledger.keys_of("E1") & ledger.keys_of("E2")


def test_rows_of_a_broken_step_and_of_a_rewound_queue_are_never_used_again() -> None:
    session = long_session(Ledger())
    spent = session.dealer.next_row
    session.rewind(session.dealer.position - 1)
    session.deal(1)
    assert session.dealer.next_row == spent + 1
    assert session.dealer.request([3]).first_row == spent


def test_each_message_is_masked_by_a_key_that_its_receiver_does_not_hold() -> None:
    for (sender, receiver, _), key in MASKED_BY.items():
        assert key in HOLDS[sender]
        assert key not in HOLDS[receiver]
    kinds = {slot.kind for plan in plans(small().spec) for slot in plan.slots.values()}
    assert kinds == {kind for _, _, kind in MASKED_BY}


def test_the_slots_of_a_plan_do_not_overlap() -> None:
    for plan in plans(small().spec):
        for which in (0, 1):
            kinds = {Kind.KAPPA} if which else {Kind.KAPPA, Kind.SHARE}
            drawn = plan.drawn[which]
            fixed = {key for key, slot in plan.slots.items() if not slot.keyed and slot.kind in kinds}
            places = drawn.online | drawn.ahead
            assert places.keys() == fixed
            assert not drawn.online.keys() & drawn.ahead.keys()
            taken = [word for place in places.values() for word in range(place.start, place.stop)]
            assert len(set(taken)) == len(taken) == sum(plan.slots[key].row_words() for key in fixed)
            assert max(taken) < drawn.words
            assert all(place.stop <= drawn.online_words for place in drawn.online.values())
            assert all(place.start >= drawn.online_words for place in drawn.ahead.values())
            assert drawn.keyed.keys() == {key for key, slot in plan.slots.items() if slot.keyed and slot.kind in kinds}


def test_the_ledger_sees_what_it_should() -> None:
    key = os.urandom(32)
    for second in (Draw(1, 7, 2, 0, 96, 112), Draw(1, 7, 2, 0, 0, 16)):
        ledger = Ledger()
        record = ledger.record("D", key)
        record(1, 7, 2, 0, 0, 100)
        record(*second)
        with pytest.raises(LeakError, match="twice"):
            ledger.check_nothing_twice()
    ledger = Ledger()
    record = ledger.record("D", key)
    record(1, 7, 2, 0, 0, 96)
    record(1, 7, 2, 0, 96, 112)
    record(1, 8, 2, 0, 0, 96)
    ledger.check_nothing_twice()
    for _ in range(2):
        ledger.sent((0, 0, 0), ("E1", "E2"), "round", b"the same bytes in one place")
    with pytest.raises(LeakError, match="sent twice"):
        ledger.check_nothing_twice()


def test_only_two_sessions_may_ask_the_first_node_for_the_same_step() -> None:
    """Its random part is smaller than the vocabulary; every other message's is larger than chance."""
    step = b"rows, position, counts and one index difference"
    for receiver, sessions, caught in (("E1", (0, 1), False), ("E1", (0, 0), True), ("E2", (0, 1), True)):
        ledger = Ledger()
        for number, session in enumerate(sessions):
            ledger.sent((session, number, -1), ("D", receiver), "step", step)
        with pytest.raises(LeakError, match="sent twice") if caught else nullcontext():
            ledger.check_nothing_twice()
