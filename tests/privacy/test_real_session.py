"""The transcript of a session of the real parts: client, dealing thread and both nodes, every frame seen on its way."""

from __future__ import annotations

import pytest

from engine.errors import ProtocolError, SessionStopped
from engine.link.frames import FrameType
from engine.prf import Label
from tests.privacy import fresh, index, pace
from tests.privacy.ledger import Ledger
from tests.privacy.parts import NODES, RealSession
from tests.privacy.small import prompt, small

F = FrameType

SAID = {  # everything that a link carries, by its sender and receiver
    ("D", "E1"): {F.HELLO, F.BLOCK, F.MATERIAL, F.STEP, F.REWIND, F.STOP, F.BYE},
    ("D", "E2"): {F.HELLO, F.BLOCK, F.MATERIAL, F.STEP, F.REWIND, F.STOP, F.BYE},
    ("E1", "D"): {F.WELCOME, F.READY, F.PROGRESS, F.ANSWER, F.STOPPED},
    ("E2", "D"): {F.WELCOME, F.READY, F.PROGRESS, F.ANSWER, F.STOPPED},
    ("E1", "E2"): {F.PEER_HELLO, F.ROUND},
    ("E2", "E1"): {F.PEER_HELLO, F.ROUND},
}


def conversation(ledger: Ledger) -> RealSession:
    """A prompt, words of an answer, an edit, a step that is stopped while it runs, the same prompt again, drafts; ended."""
    with RealSession(small(), ledger) as session:
        session.advance(prompt(9, 1))
        for token in (4, 90):
            session.advance([token], decoding=True)
        session.rewind(len(session.session.tokens) - 6)
        session.advance(prompt(4, 2))
        session.rewind(len(session.session.tokens) - 4)  # the redo of a step whose alarm went off is the same
        session.advance(prompt(4, 2))
        with pytest.raises(SessionStopped):
            session.session.advance(prompt(8, 3), lambda progress: session.session.stop() if progress.section else None)
        session.begin()
        session.advance(prompt(8, 3))
        session.advance([7], [8, 9, 10], decoding=True)
        session.session.settle(3, 1, 2)
        session.advance([11], decoding=True)
        session.settle()
    return session


def check_ledger() -> None:
    """Two whole sessions: no range and no payload twice, and each party draws what the dealer drew for it."""
    ledger = Ledger()
    for _ in range(2):
        conversation(ledger)
    ledger.check_nothing_twice()
    for node in NODES:
        ledger.check_agreement(node)


def test_no_range_is_drawn_twice_and_no_payload_comes_twice() -> None:
    ledger = Ledger()
    sessions = [conversation(ledger) for _ in range(2)]
    ledger.check_nothing_twice()
    for node in NODES:
        whole = ledger.check_agreement(node)
        assert {draw.label for draw in whole} == {Label.FIXED, Label.KEYED}
        assert len(ledger.keys_of(node)) == 2
    own = {draw.label for (party, key), draws in ledger.draws.items() if party == "D" for draw in draws} - {1, 2}
    assert own == {Label.CLIENT}
    assert len(ledger.keys_of("D")) == 6
    assert not ledger.keys_of("E1") & ledger.keys_of("E2")
    for session in sessions:
        rounds = session.wire.of(F.ROUND)
        assert len(rounds) > 4 * (2 + 20 * 2 + 4)
        assert {kind: {s.kind for s in session.wire.sent if (s.sender, s.receiver) == kind} for kind in SAID} == SAID


def test_a_row_never_comes_twice_whatever_is_stopped_and_rewound() -> None:
    session = conversation(Ledger())
    for node in NODES:
        steps = index.steps_of(session, node)
        rows = [row for step in steps for row in range(step.first_row, step.first_row + step.count)]
        assert rows == sorted(set(rows))


def test_keys_follow_from_what_was_drawn_for_them_alone() -> None:
    fresh.check_sessions()


def test_each_rows_index_is_its_own_over_rewinds() -> None:
    index.check_rewinds()


def test_the_whole_vocabulary_is_met() -> None:
    index.check_vocabulary()


def test_equal_lengths_are_dealt_and_asked_alike() -> None:
    pace.check_shapes()


def test_the_dealing_thread_waits_for_no_time() -> None:
    pace.check_waits()


def test_pauses_do_not_follow_the_token() -> None:
    pace.check_pauses()


def test_ranks_are_counted_exactly() -> None:
    assert pace.chance([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == pytest.approx(2 / 20)
    assert pace.chance([1.0, 4.0], [2.0, 3.0]) == 1
    assert pace.chance(list(range(24)), list(range(24, 48))) < 1e-12


def test_a_session_of_two_certificates_is_refused() -> None:
    """Each node admits its caller, but they are not one client: nothing is dealt, and neither is told who the other is."""
    with pytest.raises(ProtocolError, match="wrong-client") as refused:
        RealSession(small(), called_as=("1" * 64, "2" * 64))
    assert not {"1111", "2222"} & {str(refused.value)[i : i + 4] for i in range(200)}


def test_both_nodes_are_told_the_same_client() -> None:
    with RealSession(small()) as session:
        said = {sent.payload.split(b'"client":')[1] for sent in session.wire.of(F.PEER_HELLO)}
    assert len(said) == 1
