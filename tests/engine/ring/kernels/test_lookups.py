"""The kernels of the look-ups equal the expressions in their docstrings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.functions.tables import powers_of_two, rotate_ready, signed_binomials
from engine.ring.kernels.lookups import combine, deal_onehot, fixed_powers, inner_products, power_of_two, shortest, weighted_sum
from engine.ring.kernels.rotation import rotated_rows
from tests.engine.gates.alone import Ring, words

seeds = st.integers(0, 2**32)
few = settings(max_examples=15)


def unpacked(bits: Ring) -> Ring:
    """Words [N, k] as bits [N, 64 k], bit j of word k at 64 k + j."""
    return ((bits[:, :, None] >> np.arange(64)) & 1).reshape(bits.shape[0], 64 * bits.shape[1])


@given(
    n=st.sampled_from((6, 7, 9)),
    count=st.sampled_from((0, 1, 5)),
    columns=st.integers(1, 5),
    shift=st.sampled_from((0, 43)),
    seed=seeds,
)
@few
def test_inner_products_with_a_rotated_table(n: int, count: int, columns: int, shift: int, seed: int) -> None:
    """Of long and of short tables."""
    rng = np.random.default_rng(seed)
    c, bits, table = words(rng, count), words(rng, count, 2**n // 64), words(rng, columns, 2**n) >> shift
    lowest, lo, sign = int(rng.integers(-500, 500)), int(rng.integers(1, 40)), int(rng.choice([1, -1]))
    out = np.empty((count, columns), np.int64)

    inner_products(c, bits.reshape(-1), shortest(rotate_ready(table)), lo, lowest, sign, out)

    j = np.arange(2**n)
    u = unpacked(bits)
    for i in range(count):
        at = ((c[i] >> lo) - lowest - j) % 2**n
        np.testing.assert_array_equal(out[i], sign * (u[i] * table[:, at]).sum(axis=1))


@pytest.mark.parametrize("n", [6, 8])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_short_tables_sums_do_not_leave_32_bits(n: int, sign: int) -> None:
    """The largest entries that are still taken for short, all of one sign, every bit set."""
    largest = ((1 << 31) - 1) >> n
    table = rotate_ready(np.full((2, 2**n), sign * largest, np.int64))
    short = shortest(table)
    assert short.dtype == np.int32
    out = np.empty((1, 2), np.int64)

    inner_products(np.zeros(1, np.int64), np.full(2**n // 64, -1, np.int64), short, 3, 0, 1, out)

    assert out.tolist() == [[(sign * largest) << n] * 2]
    assert shortest(rotate_ready(np.full((2, 2**n), sign * (largest + 1), np.int64))).dtype == np.int64


@given(words_each=st.sampled_from((1, 2, 16, 3, 5)), count=st.sampled_from((0, 1, 7)), seed=seeds)
@few
def test_what_is_dealt_differs_in_one_bit_whose_sign_the_dealer_knows(words_each: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = 64 * words_each
    cyclic = cells & (cells - 1) == 0
    lo = int(rng.integers(0, 30)) if cyclic else 0
    rho = words(rng, count) if cyclic else rng.integers(0, cells, count)
    first = words(rng, count, words_each)
    second, sigma = np.empty_like(first).reshape(-1), np.empty(count, np.int64)

    deal_onehot(rho, first.reshape(-1), lo, words_each, second, sigma)

    different = unpacked(first) ^ unpacked(second.reshape(first.shape))
    hi = (rho >> lo) % cells
    np.testing.assert_array_equal(different, np.arange(cells) == hi[:, None])
    np.testing.assert_array_equal(sigma, 2 * unpacked(first)[np.arange(count), hi] - 1)


@pytest.mark.parametrize("lo", [1, 10, 19, 20, 21, 34, 56])
@pytest.mark.parametrize("degree", [1, 4])
def test_powers_of_the_part_below_a_cell(lo: int, degree: int) -> None:
    x = words(np.random.default_rng(lo), 200)
    x[:3] = [0, -1, (1 << lo) - 1]
    out = np.empty((x.size, degree + 1), np.int64)
    fixed_powers(x, lo, degree, 10, out)
    part = (x & ((1 << lo) - 1)) * 2.0**-lo
    exact = part[:, None] ** np.arange(degree + 1) * 2**10
    assert (out[:, 0] == 1 << 10).all()
    assert abs(out - exact).max() <= 0.5 + degree * 2.0**-10  # rounded, of 20 bits of the part
    assert out.min() >= 0
    assert out.max() <= 1 << 10


def test_powers_of_nothing() -> None:
    fixed_powers(np.empty(0, np.int64), 20, 3, 10, np.empty((0, 4), np.int64))


@given(degree=st.integers(1, 5), count=st.sampled_from((0, 1, 9)), seed=seeds)
@few
def test_combinations_with_public_powers(degree: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, values, lo = words(rng, count), words(rng, count, degree + 1), int(rng.integers(1, 50))
    powers = np.empty((count, degree + 1), np.int64)
    fixed_powers(c, lo, degree, 10, powers)
    binomial, kappa = signed_binomials(degree), words(rng, count, degree + 1)
    fold, out = words(rng, int(rng.integers(degree, degree + 2))), kappa.copy()
    combine(c, values, lo, 10, binomial, fold, kappa, out)
    expected = kappa.copy()
    for e in range(fold.size):
        k = np.arange(e, degree + 1)
        expected[:, e] += (binomial[k, e] * values[:, k] * powers[:, k - e]).sum(axis=1) + fold[e] * values[:, degree]
    np.testing.assert_array_equal(out, expected)


def test_two_to_the_part_below_a_cell() -> None:
    coarse, fine = powers_of_two()
    for lo in (22, 26, 40):
        c = words(np.random.default_rng(lo), 5000)
        c[:3] = [0, -1, (1 << lo) - 1]
        out = np.empty_like(c)
        power_of_two(c, lo, coarse, fine, out)
        exact = np.exp2(4 * (c & ((1 << lo) - 1)) * 2.0**-lo) * 2**13
        assert (abs(out - exact) <= 0.5 + exact * 2.0**-19).all()  # 22 bits of the part
    power_of_two(c[:0], 26, coarse, fine, out[:0])


@given(columns=st.integers(1, 5), count=st.sampled_from((0, 1, 9)), seed=seeds)
@few
def test_weighted_sums(columns: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares, values = words(rng, count, columns), words(rng, count, columns)
    kappa, out = words(rng, count), np.empty(count, np.int64)
    weighted_sum(shares, values, kappa, out)
    np.testing.assert_array_equal(out, kappa + (shares * values).sum(axis=1))


@given(
    vocab=st.sampled_from((2, 15, 16, 17, 64, 100)), rows=st.sampled_from((0, 1, 3)), sign=st.sampled_from((1, -1)), seed=seeds
)
@few
def test_rotated_rows_of_the_embedding_table(vocab: int, rows: int, sign: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, bits = words(rng, vocab, 5), words(rng, rows, -(-vocab // 64))
    deltas, out = rng.integers(0, vocab, rows), words(rng, rows, 5)
    j = np.arange(vocab)
    u = unpacked(bits)[:, :vocab]
    expected = out.copy()
    for r in range(rows):
        expected[r] += sign * (u[r][:, None] * table[(j + deltas[r]) % vocab]).sum(axis=0)

    rotated_rows(bits, deltas, table, sign, out)

    np.testing.assert_array_equal(out, expected)
