"""The polynomial look-up over its whole window, at its edges and beyond them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.functions.tables import Window, fit, rotate_ready, silu
from engine.gates.lookup import lookup
from engine.parties.gate_trio import Input
from tests.engine.gates.alone import Context, Real, Ring, play

SCALE, OUT, POWER = 29, 12, 10
UNIT = 2.0**-OUT
#: log2 of a cell's width, index bits, degree; the fit's largest error (protocol, section 4), and the gate's own in units.
#: Each w_e is truncated (one unit, weighted by ρ_lo^e), each coefficient rounded (half a unit), and the powers' 10 bits
#: weigh with the slope of a cell: two units hold for all but a few values in a hundred, these for every one.
SHAPES = [(-2, 6, 3, 1.05e-5, 3), (-2, 8, 2, 2.0e-4, 2), (-1, 7, 3, 1.6e-4, 3), (-1, 6, 4, 1e-5, 4), (0, 6, 4, 3.0e-4, 5)]
ERROR = 1.05e-5 + 2.5e-5 + 3 * UNIT  #: of the first


def test_the_gates_own_error_is_that_of_its_widest_cells() -> None:
    assert max(units for *_, units in SHAPES) == lookup.error.units


def window_of(cell: int, n: int, lowest: int | None = None) -> Window:
    return Window(lo=SCALE + cell, n=n, lowest=-(1 << (n - 1)) if lowest is None else lowest)


def economised_by(window: Window, degree: int) -> float:
    """The most that the highest power's nearest polynomial of lower degree is off by: max |T_n| 2^-(2n - 1)."""
    return float(abs(fit(silu, window, SCALE, degree, OUT)[degree]).max()) * UNIT * 2.0 ** -(2 * degree - 1)


def run(x: Ring, window: Window, degree: int, rho: Ring | None = None, seed: int = 0, f: Any = silu) -> Real:
    """The gate's values of raw arguments [n]."""
    context = Context(tables={"f": rotate_ready(fit(f, window, SCALE, degree, OUT))})

    def program(p: Any, z: Any) -> Any:
        return lookup(p, z, "f", window, degree, OUT, POWER)

    given_rho = None if rho is None else rho[None, :]
    played = play(program, Input(x[None, :], bits=40, rho=given_rho), context=context, seed=seed)
    assert (played.rounds, played.alarm) == (2, 0)
    assert played.sent[0] == [8 * degree * x.size, 8 * x.size]
    return played.out[0] * 2.0 ** -(OUT + POWER)


def arguments(window: Window, cells: range, rng: np.random.Generator) -> Ring:
    """Both ends, the middle and random arguments of each of these cells (counted from the lowest)."""
    left = (window.lowest + np.array(cells, np.int64)) << window.lo
    width = 1 << window.lo
    inside = [0, 1, width // 2, width - 1, *rng.integers(0, width, 6).tolist()]
    return (left[:, None] + np.array(inside, np.int64)).reshape(-1)


@pytest.mark.parametrize(("cell", "n", "degree", "fitted", "units"), SHAPES)
def test_the_whole_window_but_its_last_cell_is_within_the_fits_error_and_some_units(
    cell: int, n: int, degree: int, fitted: float, units: int
) -> None:
    window = window_of(cell, n)
    x = np.repeat(arguments(window, range(window.cells - 1), np.random.default_rng(1)), 10)

    fitted += economised_by(window, degree)
    error = abs(run(x, window, degree) - silu(x * 2.0**-SCALE))

    assert error.max() < fitted + units * UNIT
    assert (error > fitted + 2 * UNIT).mean() < 0.03
    assert np.sqrt(np.square(error).mean()) < fitted + 0.8 * UNIT


@given(lowest=st.integers(-300, 300), seed=st.integers(0, 2**32))
@settings(max_examples=8)
def test_a_window_may_lie_anywhere(lowest: int, seed: int) -> None:
    window = window_of(-2, 6, lowest)
    x = arguments(window, range(63), np.random.default_rng(seed))

    def f(x: Real) -> Real:
        return np.sin(x / 4)

    assert abs(run(x, window, 3, seed=seed, f=f) - f(x * 2.0**-SCALE)).max() < ERROR


@pytest.mark.parametrize("low_part", ["none", "all"])
def test_a_borrow_changes_the_cell_and_not_the_value(low_part: str) -> None:
    """With ρ_lo = 0 the cell is x's own; with ρ_lo all ones it is the next one, at its left."""
    window = window_of(-2, 7)
    rng = np.random.default_rng(2)
    x = arguments(window, range(window.cells - 1), rng)
    ones = (1 << window.lo) - 1
    rho = rng.integers(-(1 << 63), 1 << 63, x.size, dtype=np.int64)
    rho = rho & ~np.int64(ones) if low_part == "none" else rho | np.int64(ones)

    out = run(x, window, 3, rho=rho)

    assert abs(out - silu(x * 2.0**-SCALE)).max() < ERROR


def test_the_last_cell_is_lost_to_a_borrow() -> None:
    window = window_of(-2, 6)  # [-8, 8): silu is 7.75 … 8 in the last cell, -0.003 at the other edge
    x = arguments(window, range(window.cells - 1, window.cells), np.random.default_rng(3))
    x = x[(x & ((1 << window.lo) - 1)) > 0]
    near, far = silu(x * 2.0**-SCALE), silu(x * 2.0**-SCALE - 16)
    ones = np.int64((1 << window.lo) - 1)
    rho = np.random.default_rng(4).integers(-(1 << 63), 1 << 63, x.size, dtype=np.int64)

    assert abs(run(x, window, 3, rho=rho & ~ones) - near).max() < ERROR
    assert abs(run(x, window, 3, rho=rho | ones) - far).max() < 1e-3
    mixed = run(np.repeat(x, 40), window, 3)  # a uniform mask: one or the other, by the place in the cell
    at_far = abs(mixed - np.repeat(far, 40)) < 1e-2
    assert (at_far | (abs(mixed - np.repeat(near, 40)) < 1e-2)).all()
    place = np.repeat(x & ones, 40) * 2.0**-window.lo
    assert abs(at_far.mean() - place.mean()) < 5 * np.sqrt(0.25 / place.size)


@pytest.mark.parametrize("turns", [-3, -1, 1, 2])
def test_a_value_outside_the_window_wraps_into_the_cell_it_has_within(turns: int) -> None:
    window = window_of(-2, 6)
    inside = arguments(window, range(window.cells - 1), np.random.default_rng(5))
    outside = inside + turns * (np.int64(window.cells) << window.lo)

    out = run(outside, window, 3)

    assert abs(out - silu(inside * 2.0**-SCALE)).max() < ERROR
    assert abs(out - silu(outside * 2.0**-SCALE)).max() > 7  # silently wrong


@pytest.mark.parametrize(
    ("ready", "degree", "says"),
    [
        (lambda table: table, 3, "made ready by rotate_ready"),
        (rotate_ready, 2, "has 4 columns, and degree 2 takes 3"),
    ],
)
def test_a_table_of_another_shape_is_refused(ready: Any, degree: int, says: str) -> None:
    window = window_of(-2, 6)
    context = Context(tables={"f": ready(fit(silu, window, SCALE, 3, OUT))})

    with pytest.raises(ValueError, match=says):
        play(lambda p, z: lookup(p, z, "f", window, degree, OUT, POWER), Input(np.zeros((1, 4), np.int64)), context=context)
