"""The forwarded answer has bits [16, 40) of each logit and no others; the alarm word is opened under a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.gates.answer import answer
from engine.gates.truncation import as_wire, truncate
from engine.parties.gate_trio import Input
from engine.rows.run import Rows
from tests.engine.gates.alone import Context, Played, big, play, wrapped

VOCAB, INNER = 13, 5


def run(x: Any, w: Any, before: Any = as_wire) -> Played:
    """The gate on a wire that `before` makes of the opening."""

    def program(p: Any, z: Any) -> Any:
        got = answer(p, before(p, z), VOCAB)
        return got, getattr(p, "alarm", getattr(p, "kept", None))

    return play(program, x, context=Context({"head": w}), rows=Rows(5, 2, x.z.shape[0]))


@pytest.mark.parametrize("rows", [1, 3])
def test_bits_16_to_40_of_the_logits_are_what_the_dealer_reads(rows: int) -> None:
    rng = np.random.default_rng(rows)
    x, w = rng.integers(-(1 << 17), 1 << 17, (rows, INNER)), rng.integers(-(1 << 19), 1 << 19, (VOCAB, INNER))

    played = run(Input(x), w)

    rho, mask = played.dealt[1]["logits"], played.dealt[1]["alarm"]
    ((answer1, word1), _), ((answer2, word2), _) = played.evaluated
    assert answer1 == answer2
    assert len(answer1) == 3 * VOCAB * rows
    data = np.frombuffer(answer1, np.uint8).astype(np.int64).reshape(rows, VOCAB, 3)
    c = data[:, :, 0] | data[:, :, 1] << 8 | data[:, :, 2] << 16
    exact = big(x) @ big(w).T
    off = wrapped(big(c) - big(rho) - np.array(exact // (1 << 16)), 24)
    assert set(np.unique(off)) <= {0, answer.error.units}  # a borrow of the bits that are not sent
    assert (rho < 1 << 24).all()
    assert (rho >= 0).all()
    assert word1 == word2 == mask[-1]
    assert played.rounds == 1
    assert played.sent[0] == [(5 * VOCAB + 2) * rows]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_opened_alarm_word_differs_from_its_mask_exactly_after_a_wrap(count: int) -> None:
    z, rho = np.full((1, INNER), 9, np.int64), np.zeros((1, INNER), np.int64)
    rho[0, :count] = np.iinfo(np.int64).max
    w = np.ones((VOCAB, INNER), np.int64)

    played = run(Input(z, rho=rho), w, lambda p, x: truncate(p, x, 12, 10, "x"))

    mask = played.dealt[1]["alarm"]
    ((_, word), alarm1), (_, alarm2) = played.evaluated
    assert word ^ mask[-1] == (alarm1 ^ alarm2) & 0xFFFF
    assert word != mask[-1]
