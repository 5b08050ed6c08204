"""The embedding gives every token's row; what is dealt for it is the same whatever the token will be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.embedding import embedding
from engine.program.dealing import KeptArrays
from engine.program.evaluation import Evaluation
from engine.rows.run import Rows
from tests.engine.gates.alone import Context, Played, Ring, play, words

D_MODEL = 7


class Tokens:
    """The embedding's input: a random index at the dealer; tok - r mod vocab, and κ2, at the evaluators."""

    def __init__(self, tokens: Ring, vocab: int, context: Context, seed: int) -> None:
        self.tokens, self.vocab = tokens, vocab
        self.index = np.random.default_rng(seed).integers(0, vocab, tokens.size)
        one, two = context.shares["embed"]
        self.masks = one + two

    def __call__(self, dealt: Any, side: Any) -> Any:
        if isinstance(side, Evaluation):
            if dealt is None:  # planning
                return np.empty(0, np.int64), np.empty((0, D_MODEL), np.int64)
            kept: KeptArrays = dealt[1]
            kappa2 = kept["base"] - self.masks[self.tokens]
            return (self.tokens - kept["index"]) % self.vocab, kappa2 if side.role == 2 else kappa2[:0]
        return self.index


def run(tokens: Ring, table: Ring, seed: int = 0) -> Played:
    """The gate on these tokens."""
    vocab, context = table.shape[0], Context({"embed": table})

    def program(p: Any, x: Any) -> Any:
        return embedding(p, x, vocab, D_MODEL), getattr(p, "kept", None)

    rows = Rows(20, 3, tokens.size)
    played = play(program, Tokens(tokens, vocab, context, seed), rows=rows, context=context)
    assert played.rounds == 2
    assert played.sent[0] == [8 * D_MODEL * tokens.size] * 2
    return played


@pytest.mark.parametrize("vocab", [2, 63, 64, 65, 101, 128, 307])
def test_every_token_gives_its_row(vocab: int) -> None:
    table = words(np.random.default_rng(vocab), vocab, D_MODEL)
    tokens = np.random.default_rng(1).permutation(vocab)
    np.testing.assert_array_equal(run(tokens, table).outputs[0], table[tokens])


@given(vocab=st.integers(2, 130), count=st.sampled_from((1, 2, 5)), seed=st.integers(0, 2**32))
@settings(max_examples=10)
def test_any_index_serves_any_token(vocab: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, tokens = words(rng, vocab, D_MODEL), rng.integers(0, vocab, count)
    np.testing.assert_array_equal(run(tokens, table, seed).outputs[0], table[tokens])


def test_nothing_that_is_dealt_depends_on_the_token() -> None:
    table = words(np.random.default_rng(0), 65, D_MODEL)
    one, two = run(np.array([3, 64, 0]), table), run(np.array([60, 1, 0]), table)
    assert one.material == two.material
    np.testing.assert_array_equal(one.dealt[0].lam, two.dealt[0].lam)  # the residual's mask was drawn beforehand
    np.testing.assert_array_equal(one.dealt[1]["base"], two.dealt[1]["base"])


def test_an_index_at_either_end_rotates_around_it() -> None:
    table = words(np.random.default_rng(0), 65, D_MODEL)
    context, tokens = Context({"embed": table}), np.array([0, 64, 0, 64, 32])
    source = Tokens(tokens, 65, context, 0)
    source.index = np.array([64, 0, 0, 64, 63])

    def program(p: Any, x: Any) -> Any:
        return embedding(p, x, 65, D_MODEL), getattr(p, "kept", None)

    played = play(program, source, rows=Rows(20, 3, 5), context=context)
    np.testing.assert_array_equal(played.outputs[0], table[tokens])
