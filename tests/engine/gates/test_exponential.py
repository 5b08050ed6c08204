"""2^x over its window: the largest relative error, the smallest values, what lies outside."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from engine.functions.tables import Window
from engine.gates.exponential import exponential
from engine.models.functions import tables
from engine.models.llama import score_windows
from engine.parties.gate_trio import Input
from engine.provision.calibrate import provisional
from engine.rows.run import Extent, Rows
from tests.engine.gates.alone import Context, Real, Ring, play
from tests.engine.trio import PREFIX, SHAPE

OUT, SCALE = 20, 24
UNIT = 2.0**-OUT
LARGEST = exponential.error.relative


@cache
def made() -> tuple[Window, dict[str, Ring]]:
    spec = provisional({**SHAPE, "name": "exp", "prefix": PREFIX}, 1)
    return score_windows(spec)[1], tables(spec)


def run(x: Ring, rho: Ring | None = None, seed: int = 0) -> Real:
    """The gate's values of raw arguments [n] at 24 bits (exact modulo 2^34)."""
    window, every = made()
    opened, rows = Input(x, Extent(key=1), bits=34, rho=rho), Rows(3, x.size - 1, 1)
    played = play(lambda p, z: exponential(p, z, window, OUT), opened, rows=rows, context=Context(tables=every), seed=seed)
    assert (played.rounds, played.alarm) == (2, 0)
    assert played.sent[0] == [8 * x.size, 8 * x.size]
    return played.out * UNIT


def arguments(start: int, stop: int, count: int) -> Ring:
    """Raw arguments in [start, stop): the edges of every cell of 4, and random ones."""
    cells = (np.arange(start, stop, 4) << SCALE)[:, None] + np.array([0, 1, (4 << SCALE) - 1])
    inside = np.random.default_rng(count).integers(start << SCALE, stop << SCALE, count)
    return np.concatenate([cells.reshape(-1), inside])


def test_the_largest_error_is_that_of_its_two_roundings() -> None:
    """2^c_lo in [1, 16) has 13 bits, 2^-ρ_lo in (1/16, 1] has 15: 2^-14 and 2^-12 of the value at worst."""
    x = arguments(-8, 12, 40_000)
    exact = np.exp2(x * 2.0**-SCALE)

    off = abs(run(x) - exact)

    assert (off < exponential.error.allowed(exact, UNIT)).all()
    large = exact > 1
    assert np.sqrt(np.square(off[large] / exact[large]).mean()) < 7e-5


@pytest.mark.parametrize("seed", range(3))
def test_the_rest_of_the_window_vanishes_within_two_units(seed: int) -> None:
    window, _ = made()
    assert 4 * window.lowest == -224
    x = arguments(-224, -8, 3000)
    assert abs(run(x, seed=seed) - np.exp2(x * 2.0**-SCALE)).max() < exponential.error.units * UNIT


@pytest.mark.parametrize("low_part", ["none", "all"])
def test_a_borrow_changes_the_cell_and_not_the_value(low_part: str) -> None:
    x = arguments(-224, 8, 3000)
    ones = np.int64((4 << SCALE) - 1)
    rho = np.random.default_rng(1).integers(-(1 << 63), 1 << 63, x.size, dtype=np.int64)
    exact = np.exp2(x * 2.0**-SCALE)
    out = run(x, rho=rho | ones if low_part == "all" else rho & ~ones)
    assert (abs(out - exact) < exponential.error.allowed(exact, UNIT)).all()


def test_a_row_with_two_missed_levels_is_still_within_the_window() -> None:
    """M is then up to 8 under the maximum: 2^8 … 2^16 are computed like any other value."""
    x = arguments(8, 16, 3000)
    np.testing.assert_allclose(run(x), np.exp2(x * 2.0**-SCALE), rtol=LARGEST)


def test_under_the_window_a_score_wraps_to_its_top() -> None:
    """2^(256 - 250) in place of 2^-250: what the margin of the window, and `check`, are there to prevent."""
    x = np.arange(-250 << SCALE, -244 << SCALE, 1 << 20)
    np.testing.assert_allclose(run(x), np.exp2(x * 2.0**-SCALE + 256), rtol=LARGEST)
