"""1/x and 1/√x over many octaves: both ends, both sides of the switch between the two windows, and what lies outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from engine.functions.tables import WideWindow
from engine.gates.wide import lookup_wide
from engine.models.config import Norm
from engine.models.functions import tables
from engine.provision.calibrate import provisional, wide_window
from tests.engine.gates.alone import Context, Opened, Real, Ring, play
from tests.engine.trio import PREFIX, SHAPE

POWER = 10
D_MODEL = 48
EPS = 1e-5


@dataclass(frozen=True)
class Case:
    """A function with its window, the scale of its argument and the bits of its value."""

    f: Callable[[Real], Real]
    window: WideWindow
    scale: int
    out: int
    table: str


def case(name: str, low: float, high: float) -> Case:
    if name == "reciprocal":
        return Case(lambda x: 1.0 / x, wide_window(low, high, 20), 20, 17, "reciprocal")
    return Case(lambda x: np.asarray(1.0 / np.sqrt(x / D_MODEL + EPS)), wide_window(low, high, 26), 26, 17, "final_norm")


CASES = [
    case("reciprocal", 2.0**-8, 4.0 * 256),
    case("reciprocal", 2.0**-8, 4.0 * 2048),
    case("rsqrt", 9.1, 20_000.0),
    case("rsqrt", 24.0, 2_000.0),
]


@cache
def made(c: Case) -> dict[str, Ring]:
    """The tables, as a model's."""
    spec = provisional({**SHAPE, "name": "wide", "prefix": PREFIX}, 1)
    return tables(spec.model_copy(update={"reciprocal": c.window, "final_norm": Norm(exponent=0, window=c.window)}))


def run(c: Case, x: Ring, rho: Ring | None = None) -> Real:
    """The gate's values of raw arguments [n]."""

    def program(p: Any, z: Any) -> Any:
        return lookup_wide(p, z, c.table, c.window, c.out, POWER)

    played = play(program, Opened(x[None, :], rho=None if rho is None else rho[None, :]), context=Context(tables=made(c)))
    assert (played.rounds, played.alarm) == (2, 0)
    assert played.sent[0] == [8 * 9 * x.size, 8 * x.size]  # both windows' w_e and the indicator, then the value
    return played.out[0] * 2.0 ** -(c.out + POWER)


def check(c: Case, x: Ring) -> None:
    """Within 6e-4 of the value and some units."""
    expected = c.f(x * 2.0**-c.scale)
    assert (abs(run(c, x) - expected) < 6e-4 * abs(expected) + 8 * 2.0**-c.out).all()


def between(start: float, stop: float, count: int = 500) -> Ring:
    """Raw arguments in [start, stop): both bounds, and spread evenly by size."""
    inside = np.geomspace(start, stop - 1, count - 4).astype(np.int64)
    first, last = int(np.ceil(start)), int(stop)
    return np.concatenate([inside, [first, first + 1, last - 2, last - 1]]).astype(np.int64)


@pytest.mark.parametrize("c", CASES)
def test_the_whole_range_from_the_lowest_value_to_the_last_cell_but_one(c: Case) -> None:
    top = (c.window.coarse.cells - 1) << c.window.coarse.lo
    check(c, between(c.window.low * 2**c.scale, top))


@pytest.mark.parametrize("c", CASES)
def test_the_lowest_value_is_no_less_accurate(c: Case) -> None:
    low = c.window.low * 2**c.scale
    assert 4 <= low / (1 << c.window.fine.lo) <= 8
    check(c, between(low, 1.6 * low))


@pytest.mark.parametrize("c", CASES)
def test_both_sides_of_the_switch(c: Case) -> None:
    cell = 1 << c.window.coarse.lo
    at = c.window.switch * cell
    check(c, np.concatenate([between(at - cell, at), between(at, at + cell), at + np.arange(-20, 20)]))


@pytest.mark.parametrize("ones", [False, True])
@pytest.mark.parametrize("c", CASES)
def test_a_borrow_at_the_switch_reads_both_windows_alike(c: Case, ones: bool) -> None:
    """A borrow puts an argument into the next cell of the coarse window, of the fine one, of both or of neither."""
    cell = np.int64(1 << c.window.coarse.lo)
    at = c.window.switch * cell
    x = np.concatenate([between(at - cell, at, 500), between(at, at + cell, 500)])
    rho = np.random.default_rng(1).integers(-(1 << 63), 1 << 63, x.size, dtype=np.int64)
    rho = rho | (cell - 1) if ones else rho & ~(cell - 1)
    expected = c.f(x * 2.0**-c.scale)
    assert (abs(run(c, x, rho) - expected) < 6e-4 * abs(expected) + 8 * 2.0**-c.out).all()


@pytest.mark.parametrize("c", CASES)
def test_under_the_lowest_value_the_tables_stop_to_grow(c: Case) -> None:
    cell = 1 << c.window.fine.lo
    x = np.arange(1, 2 * cell, max(1, cell // 50))
    limit = c.f(np.array([c.window.low / 2]))[0]
    assert (run(c, x) < 1.01 * limit).all()
    assert (run(c, x) > 0.99 * c.f(np.array([c.window.low]))[0]).all()


@pytest.mark.parametrize("c", CASES)
def test_beyond_the_top_a_value_wraps_to_the_bottom(c: Case) -> None:
    span = c.window.coarse.cells << c.window.coarse.lo
    inside = between(3 * c.window.low * 2**c.scale, (c.window.switch - 1) << c.window.coarse.lo, 200)
    np.testing.assert_allclose(run(c, inside + span), c.f(inside * 2.0**-c.scale), rtol=2e-3)
