"""What can be seen from outside a message does not depend on what is said in it."""

from __future__ import annotations

from hashlib import sha256

from tests.privacy.ledger import Ledger
from tests.privacy.session import Session
from tests.privacy.small import prompt, small

PAIRS = 20

Shape = list[tuple[str, str, str, int]]


def spoken(session: Session, seed: int, length: int) -> tuple[Shape, list[int]]:
    """(sender, receiver, type, length) of everything in two turns and an edit, and the rounds of the steps."""
    session.rewind(len(small().spec.prefix))
    before, rounds = len(session.ledger.payloads), []
    session.deal(2)
    for part in (prompt(length, seed), prompt(1, seed + 1)):
        session.step(part)
        rounds.append(session.rounds)
    session.rewind(session.dealer.position - 1)
    session.step(prompt(3, seed + 2), answers=2)
    seen = Ledger(payloads=session.ledger.payloads[before:])
    return seen.shape(), [*rounds, session.rounds]


def test_equal_lengths_give_the_same_shape_and_rounds() -> None:
    session = Session(small())
    for pair in range(PAIRS):
        length = (1, 2, 5)[pair % 3]
        assert spoken(session, 100 + pair, length) == spoken(session, 500 + pair, length)


def test_rounds_do_not_depend_on_the_context() -> None:
    session, spec = Session(small()), small().spec
    whole = 2 + 20 * spec.layers + 4
    assert spoken(session, 1, 2)[1] == [whole] * 3
    assert spoken(session, 1, 40)[1] == [2 * whole - 4, whole, whole]  # two blocks were dealt: two passes


def test_nothing_that_is_dealt_changes_with_the_tokens() -> None:
    keys = [sha256(bytes([i])).digest() for i in range(3)]
    dealt = []
    for seed in (10, 20):
        session = Session(small(), fixed=keys)
        material = session.deal(4)
        session.step(prompt(3, seed))
        material += session.deal(3)
        session.step(prompt(4, seed + 1))
        session.rewind(6)
        material += session.deal(5)
        session.step(prompt(2, seed + 2))
        dealt.append(material)
    assert dealt[0] == dealt[1]


def test_the_online_message_hides_the_token_under_a_fresh_index_a_row() -> None:
    keys = [sha256(bytes([i])).digest() for i in range(3)]
    deltas = []
    for tokens in ([5, 5, 5, 5], [9, 9, 9, 9]):
        session = Session(small(), fixed=keys)
        session.deal(4)
        deltas.append(session.dealer.request(tokens).deltas.astype(int))
    assert len(set(deltas[0])) == 4
    assert set((deltas[1] - deltas[0]) % small().spec.vocab) == {4}
