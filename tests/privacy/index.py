"""The embedding's random index: a row's own, of the whole vocabulary, whatever was rewound."""

from __future__ import annotations

import numpy as np

from engine.link.frames import FrameType
from engine.parties.dealer import Dealer
from engine.session.messages import parse_step
from engine.step import Step
from tests.privacy.ledger import LeakError
from tests.privacy.parts import NODES, RealSession
from tests.privacy.reference import index_of
from tests.privacy.small import CONTEXT, prompt, small

KEYS = [bytes(range(at, at + 32)) for at in (0, 64, 128)]
ROUNDS = 30
"""Rows a word of the vocabulary: one of the 131 is met by none with a probability of 10^-11."""


def steps_of(session: RealSession, receiver: str) -> list[Step]:
    """The steps as they were sent to a node."""
    spec = session.model.spec
    width = spec.d_model if receiver == "E2" else 0
    sent = session.wire.of(FrameType.STEP, receiver)
    return [parse_step(frame.payload, context=CONTEXT, vocab=spec.vocab, width=width) for frame in sent]


def check_steps(session: RealSession, tokens: list[int]) -> None:
    """What both nodes were sent for these tokens, in this order, are their differences to the indices of their rows."""
    vocab = session.model.spec.vocab
    for node in NODES:
        serials, deltas = list[int](), list[int]()
        for step in steps_of(session, node):
            serials += range(step.first_row, step.first_row + step.count)
            deltas += [int(delta) for delta in step.deltas]
        if len(set(serials)) != len(serials):
            raise LeakError(f"{node} was sent two tokens for one row")
        expected = [(t - index_of(session.keys.own, row, vocab)) % vocab for t, row in zip(tokens, serials, strict=True)]
        if deltas != expected:
            raise LeakError(f"{node} was sent differences to other indices than those of the rows' own addresses")


def check_rewinds() -> None:
    """A prompt, an edit of it, a longer one, and the first one again: each row's index is that of its serial number."""
    with RealSession(small()) as session:
        tokens = list[int]()
        for part, back in ((prompt(6, 11), 4), (prompt(6, 12), 6), (prompt(9, 13), 9), (prompt(6, 11), 0)):
            session.advance(part)
            session.advance([4], decoding=True)
            tokens += [*part, 4]
            session.rewind(len(session.session.tokens) - 1 - back)
        session.advance([7])
        if not session.redone:
            return check_steps(session, [*tokens, 7])
    return check_rewinds()  # other keys


def indices(count: int) -> dict[int, int]:
    """Each row's index, of at least that many rows: what a token of 0 is sent as, negated."""
    model = small()
    dealer = Dealer(model.spec, model.seeds, (KEYS[0], KEYS[1]), KEYS[2], prefix=3, context=CONTEXT)
    found = dict[int, int]()
    while len(found) < count:
        dealer.rewind(3)
        next(dealer.deal(CONTEXT - 3))
        request = dealer.request([0] * (CONTEXT - 3))
        indices = (-request.deltas.astype(np.int64)) % model.spec.vocab
        found |= {request.first_row + i: int(index) for i, index in enumerate(indices)}
    return found


def check_vocabulary() -> None:
    """Over thousands of rows the index is its stream's, and all the vocabulary is met."""
    vocab = small().spec.vocab
    found = indices(ROUNDS * vocab)
    if any(index != index_of(KEYS[2], row, vocab) for row, index in found.items()):
        raise LeakError("an index is not that of its row's own address")
    if len(set(found.values())) != vocab:
        raise LeakError(f"only {len(set(found.values()))} of {vocab} words are ever met")
