"""Tables and windows: the fit's error, the doubled tables, the limits of a window."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.functions.tables import (
    WideWindow,
    Window,
    economised,
    fit,
    fit_wide,
    powers_of_two,
    rotate_ready,
    signed_binomials,
    silu,
)

Real = NDArray[np.float64]
SCALE = 29


def largest_error(window: Window, degree: int) -> float:
    """Of the fit to SiLU at any argument, from the left (its own cell) and from the right (the next cell's, δ < 0)."""
    table = fit(silu, window, SCALE, degree, 40) * 2.0**-40
    delta = np.linspace(0, 1, 200, endpoint=False)
    cells = np.arange(window.cells - 1)
    x = (window.lowest + cells[:, None] + delta) * 2.0 ** (window.lo - SCALE)
    own = sum(table[k, cells][:, None] * delta**k for k in range(degree + 1))
    following = sum(table[k, cells + 1][:, None] * (delta - 1) ** k for k in range(degree + 1))
    return max(float(abs(own - silu(x)).max()), float(abs(following - silu(x)).max()))


@pytest.mark.parametrize(
    ("cell", "degree", "error"),
    [(-2, 2, 2.0e-4), (-2, 3, 1.05e-5), (-1, 3, 1.6e-4), (-1, 4, 1.0e-5), (0, 3, 2.4e-3), (0, 4, 3.0e-4)],
)
def test_the_largest_error_of_the_fit_to_silu(cell: int, degree: int, error: float) -> None:
    """The figures of the protocol document, section 4 (which has 2.3e-3 and 2.8e-4 for the last two)."""
    window = Window(lo=SCALE + cell, n=6 - cell, lowest=-(1 << (5 - cell)))
    assert 0.5 * error < largest_error(window, degree) < error


def test_a_polynomial_is_fitted_exactly() -> None:
    window = Window(lo=10, n=6, lowest=-7)

    def cubic(x: Real) -> Real:
        return x**3 - 2 * x**2 + 5

    table = fit(cubic, window, 10, 3, 20) * 2.0**-20
    left = window.lowest + np.arange(window.cells)
    np.testing.assert_allclose(table[0], cubic(left), atol=2e-6, rtol=1e-9)
    np.testing.assert_allclose(table[1], 3 * left**2 - 4 * left, atol=2e-6, rtol=1e-9)
    np.testing.assert_allclose(table[2], 3 * left - 2, atol=2e-6, rtol=1e-9)
    np.testing.assert_allclose(table[3], 1, atol=2e-6)


def test_a_doubled_table_makes_every_rotation_one_contiguous_read() -> None:
    table = np.arange(2 * 64).reshape(2, 64)
    ready = rotate_ready(table)
    assert ready.flags.c_contiguous
    for start in range(64):
        j = np.arange(64)
        np.testing.assert_array_equal(ready[:, start : start + 64], table[:, (63 - start - j) % 64])


def test_signed_binomials() -> None:
    for degree in range(1, 6):
        table = signed_binomials(degree)
        for k in range(degree + 1):
            for e in range(degree + 1):
                assert table[k, e] == (-1) ** e * comb(k, e)


def test_silu_neither_overflows_nor_cancels() -> None:
    x = np.array([-1e4, -30.0, -1e-9, 0.0, 1.0, 1e4])
    expected = [-0.0, -30 * np.exp(-30.0), -0.5e-9, 0.0, 1 / (1 + np.exp(-1)), 1e4]
    np.testing.assert_allclose(silu(x), expected, rtol=1e-8, atol=1e-300)


def test_powers_of_two_are_correctly_rounded() -> None:
    coarse, fine = powers_of_two()
    assert coarse[:: 2048 // 4].tolist() == [1 << 30, 1 << 31, 1 << 32, 1 << 33]
    with localcontext() as context:
        context.prec = 60
        for table, denominator in ((coarse, 2048), (fine, 1 << 22)):
            for i in (1, 2, 777, 2047):
                exact = Decimal(2) ** 30 * Decimal(2) ** (Decimal(4 * i) / denominator)
                assert abs(Decimal(int(table[i])) - exact) <= Decimal("0.5")


@pytest.mark.parametrize("change", [{"lo": 0}, {"lo": 57}, {"n": 5}, {"n": 17}, {"lowest": (1 << 20) + 1}, {"more": 1}])
def test_a_window_has_limits(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Window.model_validate({"lo": 20, "n": 8, "lowest": 0} | change)


@pytest.mark.parametrize(
    "change", [{"lo": 0}, {"lo": 41}, {"top": 4}, {"top": 7}, {"stages": -1}, {"stages": 29}, {"degree": 4}]
)
def test_a_wide_window_has_limits(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        WideWindow.model_validate({"lo": 10, "top": 5, "stages": 4, "low": 1.0} | change)


def test_a_wide_window_ends_within_the_ring() -> None:
    assert WideWindow(lo=40, top=6, stages=8, low=1.0).reach == 62
    with pytest.raises(ValidationError, match="does not fit into the ring"):
        WideWindow(lo=40, top=5, stages=9, low=1.0)


def test_every_cell_of_a_wide_window_is_fitted_at_its_own_width() -> None:
    wide, scale = WideWindow(lo=10, top=6, stages=2, low=2.0**-7), 20
    table = fit_wide(lambda x: 1.0 / x, wide, scale, 30)
    assert table.shape == (4, wide.tree.starts[-1])
    for stage, first in ((0, 16), (1, 16), (2, 16)):
        cells = np.arange(first, (64, 32, 32)[stage])
        width = 2.0 ** (wide.tree.cell(stage) - scale)
        at = wide.tree.starts[stage] + cells - wide.tree.first(stage)
        for delta in (-0.9, 0.0, 0.7):
            value = sum(table[k, at] * delta**k for k in range(4)) * 2.0**-30
            np.testing.assert_allclose(value, 1.0 / ((cells + delta) * width), rtol=3e-6)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_a_power_is_nearly_a_polynomial_of_lower_degree(degree: int) -> None:
    """Within 2^-(2n - 1) on [0, 1], which is reached n + 1 times: there is no nearer one (Chebyshev)."""
    coefficients = economised(degree, 10)
    assert coefficients.dtype == np.int64
    assert coefficients.size == degree
    x = (1 - np.cos(np.linspace(0, np.pi, 60 * degree + 1))) / 2
    error = x**degree - sum(int(a) * 2.0**-10 * x**e for e, a in enumerate(coefficients))
    bound = 2.0 ** -(2 * degree - 1)
    np.testing.assert_allclose(abs(error).max(), bound, rtol=1e-12)
    assert (abs(error) > bound * (1 - 1e-9)).sum() == degree + 1
