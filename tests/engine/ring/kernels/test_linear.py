"""The matrix kernels equal numpy's expressions modulo 2^64, at every tile remainder."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ring.kernels import amx, linear
from engine.ring.kernels.linear import (
    add_into,
    add_products,
    add_squares,
    compile_products,
    multiply_into,
    multiply_low40_into,
    subtract_product,
)
from tests.engine.gates.alone import big, words, wrapped


@pytest.fixture(params=[False, True], ids=["as it lies there", "by quarters"], autouse=True)
def one_row(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading a matrix for one row, whatever this processor's is."""
    monkeypatch.setattr(linear, "QUARTERS", request.param)


SIDES = (0, 1, 2, 3, 4, 5, 7, 8, 9)
ROWS = (*SIDES, 12, 17)  #: from a dozen on in tiles, where the processor has them
INNER = (0, 1, 3, 16, 63, 64, 65, 130)  #: one row is read 64 words at a time


@pytest.mark.parametrize("rows", ROWS)
def test_multiply_into_adds_the_product_at_every_tile_remainder(rows: int) -> None:
    rng = np.random.default_rng(rows)
    for inner, outer in product(INNER, SIDES):
        x, w, out = words(rng, rows, inner), words(rng, outer, inner), words(rng, rows, outer)
        expected = wrapped(big(out) + big(x) @ big(w).T)
        multiply_into(x, w, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("rows", ROWS)
def test_a_product_with_low_words_is_right_modulo_2_to_40(rows: int) -> None:
    rng = np.random.default_rng(rows)
    for inner, outer in product(INNER, (*SIDES, 17)):
        x, w, out = words(rng, rows, inner), words(rng, outer, inner), words(rng, rows, outer)
        expected = out + x @ w.T
        multiply_low40_into(x, w.astype(np.uint32), (w >> 32).astype(np.uint8), out)
        assert not ((out ^ expected) & ((1 << 40) - 1)).any()


@pytest.mark.parametrize(("rows", "groups", "size"), [(0, 1, 3), (1, 1, 5), (1, 5, 1), (2, 3, 4), (3, 2, 0)])
def test_products_of_wires_are_added_group_by_group(rows: int, groups: int, size: int) -> None:
    rng = np.random.default_rng(rows)
    m, lam, out = (words(rng, rows, groups * size) for _ in range(3))
    masked, own = words(rng, rows, groups), words(rng, rows, groups)
    for first in (True, False):
        shown, half = (np.repeat(big(y), size, axis=1) for y in (masked, masked * first - own))
        expected = wrapped(big(out) + big(m) * half - big(lam) * shown)
        add_products(m, lam, masked, own, first, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("rows", "size"), [(0, 3), (1, 1), (1, 67), (3, 8), (2, 0)])
def test_squares_are_added_row_by_row(rows: int, size: int) -> None:
    rng = np.random.default_rng(size)
    m, lam, out = words(rng, rows, size), words(rng, rows, size), words(rng, rows, 1)
    for first in (True, False):
        sums = (big(m) * (big(m) * first - 2 * big(lam))).sum(axis=1, keepdims=True)
        expected = wrapped(big(out) + sums)
        add_squares(m, lam, first, out)
        np.testing.assert_array_equal(out, expected)


@given(rows=st.sampled_from(ROWS), inner=st.sampled_from(INNER), outer=st.sampled_from(SIDES), seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_subtract_product_takes_the_product_away(rows: int, inner: int, outer: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, out = words(rng, rows, inner), words(rng, outer, inner), words(rng, rows, outer)
    expected = out - x @ w.T
    low = out.copy()
    subtract_product(x, w, out)
    np.testing.assert_array_equal(out, expected)
    subtract_product(x, w, low, low40=True)
    assert not ((low ^ expected) & ((1 << 40) - 1)).any()


@pytest.mark.parametrize("writeable", [True, False])
def test_no_product_of_any_rows_compiles_anything_behind_the_first(*, writeable: bool) -> None:
    compile_products.__wrapped__()  # once in a process, and here once for each way of reading a matrix
    kernels = [kernel for module in (linear, amx) for kernel in vars(module).values() if hasattr(kernel, "signatures")]
    before = [list(kernel.signatures) for kernel in kernels]
    w, out = np.ones((64, 64), np.int64), np.zeros((64, 64), np.int64)
    low, high = w.astype(np.uint32), w.astype(np.uint8)
    for array in (w, low, high):
        array.flags.writeable = writeable
    for rows in (1, 4, 16, 64):
        x = w[:rows]
        multiply_into(x, w, out[:rows])
        multiply_low40_into(x, low, high, out[:rows])
        subtract_product(x, w, out[:rows], low40=True)
    assert [list(kernel.signatures) for kernel in kernels] == before
    assert len(kernels) > 8


def test_the_most_negative_word_is_its_own_negative() -> None:
    least = np.full((1, 1), np.iinfo(np.int64).min)
    out = np.zeros((1, 1), np.int64)
    subtract_product(least, np.ones((1, 1), np.int64), out)
    np.testing.assert_array_equal(out, least)


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_add_into_wraps(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = words(rng, n), words(rng, n)
    out = np.empty(n, np.int64)
    add_into(a, b, out)
    np.testing.assert_array_equal(out, wrapped(big(a) + big(b)))
