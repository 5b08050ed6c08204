"""Rotary positions with their narrow wires, and the products with the cache, row by row as the rows see more keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.attention import mixture, remember, scores, sum_over_keys
from engine.gates.product import multiply, sum_of_squares
from engine.gates.rotary import Rotary, part_of, rotate
from engine.gates.truncation import as_wire
from engine.parties.gate_trio import Input
from engine.ring.fixed import signed
from engine.rows.run import Extent, Rows
from engine.wire import Rho
from tests.engine.gates.alone import Context, Ring, big, play, words, wrapped

seeds = st.integers(0, 2**32)
few = settings(max_examples=10)
THETA = 1e4


def turned(z: Ring, position: int, dim: int) -> Any:
    """Python's integers [rows, heads * dim] turned by cos and sin of 14 bits, pairs (i, i + dim / 2)."""
    out = big(z).copy()
    for r in range(z.shape[0]):
        for i in range(dim // 2):
            angle = (position + r) * THETA ** (-2 * i / dim)
            cos, sin = (int(np.rint(f(angle) * 2**14)) for f in (np.cos, np.sin))
            for head in range(0, z.shape[1], dim):
                a, b = int(z[r, head + i]), int(z[r, head + i + dim // 2])
                out[r, head + i], out[r, head + i + dim // 2] = a * cos - b * sin, b * cos + a * sin
    return out


@given(dim=st.sampled_from((2, 6, 12)), heads=st.sampled_from((1, 3)), position=st.integers(0, 2000), seed=seeds)
@few
def test_rotation_gives_a_wire_that_is_exact_modulo_2_34(dim: int, heads: int, position: int, seed: int) -> None:
    z, rows = words(np.random.default_rng(seed), 3, heads * dim), Rows(5, position, 3)

    played = play(lambda p, x: rotate(p, x, angle(p, dim), 34), Input(z), rows=rows, seed=seed)

    over = wrapped(big(played.out) - turned(z, position, dim) // (1 << 30), 34)
    assert set(np.unique(over)) <= {0, rotate.error.units}  # within one unit: no wrap can happen
    assert played.rounds == 0
    assert len(played.material) == 3 * 8 * -(-5 * heads * dim // 8)  # 5 bytes a word


def angle(p: Any, dim: int) -> Rotary:
    return Rotary(p.rows.position, p.rows.count, dim, THETA, 14)


def test_rotation_turns_reals() -> None:
    x = np.random.default_rng(1).uniform(-20, 20, (4, 24))
    rows, expected = Rows(5, 50, 4), Rotary(50, 4, 12, THETA, 14).turn_clear(x)
    np.testing.assert_allclose(
        np.hypot(*np.split(expected.reshape(4, 2, 12), 2, axis=2)), np.hypot(*np.split(x.reshape(4, 2, 12), 2, axis=2))
    )

    played = play(lambda p, z: rotate(p, z, angle(p, 12), 34), Input(np.rint(x * 2.0**28).astype(np.int64)), rows=rows)

    assert abs(played.out * 2.0**-12 - expected).max() < 2.0**-12 + 2 * 20 * 2.0**-15


@pytest.mark.parametrize("gate", [sum_of_squares, lambda p, x: multiply(p, x, x), lambda p, x: x + x])
def test_a_full_word_is_not_to_be_had_from_a_narrow_wire(gate: Any) -> None:
    with pytest.raises(ValueError, match="2\\^34"):
        play(lambda p, z: gate(p, rotate(p, z, angle(p, 2), 34)), Input(np.ones((1, 2), np.int64)))


def test_columns_of_an_opening_are_a_local_view() -> None:
    z = words(np.random.default_rng(1), 3, 7)
    played = play(lambda p, x: part_of(x, 2, 5), Input(z))
    np.testing.assert_array_equal(played.out, z[:, 2:5])
    assert played.rounds == 0


HEADS, KV, DIM = 4, 2, 6


def caches(rng: np.random.Generator, capacity: int) -> Context:
    return Context(keys=[words(rng, KV, capacity, DIM)], values=[words(rng, KV, capacity, DIM)], seed=int(rng.integers(99)))


@given(position=st.integers(0, 7), count=st.sampled_from((1, 2, 5)), seed=seeds)
@few
def test_scores_are_exact_modulo_2_34_for_every_key_that_a_row_sees(position: int, count: int, seed: int) -> None:
    rng, rows = np.random.default_rng(seed), Rows(11, position, count)
    context = caches(rng, position + count)
    before = context.keys[0][:, :position].copy()

    def program(p: Any, q: Any, k: Any, v: Any) -> Any:
        q, k = rotate(p, q, angle(p, DIM), 34), rotate(p, k, angle(p, DIM), 34)
        remember(p, 0, k, as_wire(p, v))
        return q, k, scores(p, 0, q, HEADS)

    inputs = (Input(words(rng, count, heads * DIM)) for heads in (HEADS, KV, KV))
    played = play(program, *inputs, rows=rows, context=context, seed=seed)

    q, k, s = played.outputs
    new = k.reshape(count, KV, DIM).transpose(1, 0, 2)
    cache = big(np.concatenate([before, new], axis=1))
    expected = np.concatenate(
        [
            big(q[r].reshape(HEADS, DIM))[h] @ cache[h // (HEADS // KV), : position + r + 1].T
            for r in range(count)
            for h in range(HEADS)
        ]
    )
    np.testing.assert_array_equal(s, wrapped(expected, 34))
    assert (played.rounds, played.sent[0]) == (1, [5 * s.size])
    assert isinstance(played.dealt[2], Rho)
    assert played.dealt[2].bits == 34


@given(position=st.integers(0, 7), count=st.sampled_from((1, 2, 5)), seed=seeds)
@few
def test_mixtures_and_sums_over_keys_are_exact_modulo_2_64(position: int, count: int, seed: int) -> None:
    rng, rows, extent = np.random.default_rng(seed), Rows(11, position, count), Extent(key=HEADS)
    context = caches(rng, position + count)
    before = context.values[0][:, :position].copy()
    k, v = words(rng, count, KV * DIM), words(rng, count, KV * DIM)
    weights = words(rng, int(rows.offsets(extent)[-1]))

    def program(p: Any, k: Any, v: Any, weights: Any) -> Any:
        remember(p, 0, rotate(p, k, angle(p, DIM), 34), as_wire(p, v))
        flat = as_wire(p, weights)
        return mixture(p, 0, flat, HEADS), sum_over_keys(p, flat, HEADS)

    played = play(program, Input(k), Input(v), Input(weights, extent), rows=rows, context=context, seed=seed)

    cache = big(np.concatenate([before, v.reshape(count, KV, DIM).transpose(1, 0, 2)], axis=1))
    mixed, total = played.outputs
    bounds = rows.offsets(extent)
    for r in range(count):
        own = big(weights[bounds[r] : bounds[r + 1]].reshape(HEADS, -1))
        np.testing.assert_array_equal(total[r], wrapped(own.sum(axis=1)))
        for h in range(HEADS):
            expected = own[h] @ cache[h // (HEADS // KV), : position + r + 1]
            np.testing.assert_array_equal(mixed[r].reshape(HEADS, DIM)[h], wrapped(expected))
    assert (played.rounds, played.sent[0]) == (1, [8 * mixed.size])


def test_the_cache_of_the_prefix_is_used_as_it_is_in_the_pack() -> None:
    rng = np.random.default_rng(4)
    context, rows = caches(rng, 5), Rows(11, 4, 1)
    k = np.zeros((1, KV * DIM), np.int64)
    weights = np.ones(HEADS * 5, np.int64)

    def program(p: Any, k: Any, weights: Any) -> Any:
        remember(p, 0, rotate(p, k, angle(p, DIM), 34), as_wire(p, k))
        return mixture(p, 0, as_wire(p, weights), HEADS)

    out = play(program, Input(k), Input(weights, Extent(key=HEADS)), rows=rows, context=context).out
    sums = wrapped(big(context.values[0][:, :4]).sum(axis=1))
    np.testing.assert_array_equal(out.reshape(KV, 2, DIM), np.repeat(sums[:, None], 2, axis=1))


def test_what_is_signed_in_34_bits() -> None:
    assert signed(np.array([(1 << 33), (1 << 33) - 1, -1]), 34).tolist() == [-(1 << 33), (1 << 33) - 1, -1]
