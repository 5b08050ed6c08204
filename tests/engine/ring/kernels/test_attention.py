"""The kernels of attention, over rows that see different numbers of keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ring.kernels.attention import add_bits, level_hashes, minus_row, mixture, scores, sum_keys, turned
from engine.rows.run import Extent, Rows
from tests.engine.gates.alone import Ring, words
from tests.engine.ring.kernels.test_words import mixed

seeds = st.integers(0, 2**32)
few = settings(max_examples=12)
shapes = st.tuples(st.integers(0, 5), st.sampled_from((0, 1, 3)), st.sampled_from(((1, 1), (4, 2), (6, 2), (3, 3))))


def ragged(position: int, count: int, heads: int) -> tuple[Rows, Ring]:
    rows = Rows(40, position, count)
    return rows, rows.offsets(Extent(key=heads))


@given(shape=shapes, dim=st.sampled_from((1, 3, 8)), seed=seeds)
@few
def test_scores_and_mixtures(shape: tuple[int, int, tuple[int, int]], dim: int, seed: int) -> None:
    position, count, (heads, kv) = shape
    rows, bounds = ragged(position, count, heads)
    rng = np.random.default_rng(seed)
    q, cache = words(rng, count, heads, dim), words(rng, kv, position + count + 2, dim)
    flat, out = words(rng, int(bounds[-1])), words(rng, count, heads, dim)
    group = heads // kv
    expected_flat, expected_out = flat.copy(), out.copy()
    for r, n in enumerate(rows.keys):
        part = expected_flat[bounds[r] : bounds[r + 1]].reshape(heads, n)
        for h in range(heads):
            expected_out[r, h] += part[h] @ cache[h // group, :n]
        for h in range(heads):
            part[h] += cache[h // group, :n] @ q[r, h]

    mixture(flat, cache, rows.keys, rows.starts, out)
    scores(q, cache, rows.keys, rows.starts, flat)

    np.testing.assert_array_equal(flat, expected_flat)
    np.testing.assert_array_equal(out, expected_out)


@given(shape=shapes, seed=seeds)
@few
def test_sums_over_keys_and_differences_from_a_row(shape: tuple[int, int, tuple[int, int]], seed: int) -> None:
    position, count, (heads, _) = shape
    rows, bounds = ragged(position, count, heads)
    rng = np.random.default_rng(seed)
    x, m = words(rng, int(bounds[-1])), words(rng, count, heads)
    sums, less = np.empty((count, heads), np.int64), np.empty_like(x)

    sum_keys(x, rows.keys, rows.starts, sums)
    minus_row(x, m, rows.keys, rows.starts, less)

    for r, n in enumerate(rows.keys):
        part = x[bounds[r] : bounds[r + 1]].reshape(heads, n)
        np.testing.assert_array_equal(sums[r], part.sum(axis=1))
        np.testing.assert_array_equal(less[bounds[r] : bounds[r + 1]].reshape(heads, n), part - m[r][:, None])


@pytest.mark.parametrize(("rows", "vectors", "size"), [(0, 4, 16), (1, 1, 1), (2, 5, 3)])
def test_the_bit_at_a_place_is_added(rows: int, vectors: int, size: int) -> None:
    rng = np.random.default_rng(size)
    onehot, out = words(rng, rows, vectors * size), words(rng, rows, vectors)
    at = rng.integers(0, 64 * size, (rows, vectors))
    bits = np.unpackbits(onehot.view(np.uint8), bitorder="little").reshape(rows, vectors, 64 * size).astype(np.int64)
    for sign in (1, -1):
        expected = out + sign * np.take_along_axis(bits, at[:, :, None], axis=2)[:, :, 0]
        add_bits(onehot, at, sign, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("rows", "heads", "half"), [(0, 2, 2), (1, 1, 1), (3, 2, 8)])
def test_pairs_are_turned_and_shifted_logically(rows: int, heads: int, half: int) -> None:
    rng = np.random.default_rng(half)
    x, cos, sin = words(rng, rows, 2 * half * heads), words(rng, rows, half) >> 48, words(rng, rows, half) >> 48
    out = np.empty_like(x)
    turned(x, cos, sin, 30, out)
    pairs = x.reshape(rows, heads, 2, half)
    a, b, c, s = pairs[:, :, 0], pairs[:, :, 1], cos[:, None], sin[:, None]
    expected = np.stack([a * c - b * s, b * c + a * s], axis=2).reshape(x.shape)
    np.testing.assert_array_equal(out.view(np.uint64), expected.view(np.uint64) >> np.uint64(30))


@given(shape=shapes, levels=st.sampled_from((4, 8, 16, 60)), each=st.sampled_from((1, 2, 4)), seed=seeds)
@few
def test_hashes_of_the_keys_at_or_above_each_level(
    shape: tuple[int, int, tuple[int, int]], levels: int, each: int, seed: int
) -> None:
    """Of 64, 128 or 256 bins."""
    position, count, (heads, _) = shape
    rows, bounds = ragged(position, count, heads)
    rng = np.random.default_rng(seed)
    lo, bottom = 26, -48
    bins = 64 * each
    level = int(rng.integers(bottom, bottom + bins - levels + 1))
    c, bits = words(rng, int(bounds[-1])), words(rng, each * int(bounds[-1]))
    out = np.empty((count, heads, levels), np.int64)

    level_hashes(c, bits, lo, bottom, level, rows.serials, rows.keys, rows.starts, 77, out)

    triples = -(-levels // 6)
    for r, n in enumerate(rows.keys):
        base = mixed(77 ^ mixed(int(rows.serials[r])))
        for h in range(heads):
            expected = [0] * levels
            for j in range(n):
                at = int(bounds[r]) + h * int(n) + j
                own, c_bin = bits[each * at : each * (at + 1)], int(c[at]) >> lo
                u = sum((int(word) & ((1 << 64) - 1)) << (64 * k) for k, word in enumerate(own))
                e = [u >> ((c_bin - bottom - b) % bins) & 1 for b in range(bins)]  # a share of "s_j lies in bin bottom + b"
                for i in range(levels):
                    word = mixed(base + j * triples + i // 6) >> (10 * (i % 6)) & 1023
                    expected[i] ^= word * (sum(e[level - bottom + i :]) % 2)
            assert out[r, h].tolist() == expected
