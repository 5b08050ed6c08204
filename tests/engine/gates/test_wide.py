"""1/x and 1/√x over many octaves: both ends, where the cells' width changes, any mask, and what lies outside."""

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
from engine.parties.gate_trio import Input
from engine.provision.calibrate import provisional, wide_window
from engine.ring.kernels.points import REFINED
from tests.engine.gates.alone import Context, Real, Ring, play, words
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


def reciprocal(window: WideWindow) -> Case:
    return Case(lambda x: 1.0 / x, window, 20, 17, "reciprocal")


def inverse_root(window: WideWindow) -> Case:
    return Case(lambda x: np.asarray(1.0 / np.sqrt(x / D_MODEL + EPS)), window, 26, 17, "final_norm")


CASES = [
    reciprocal(wide_window(2.0**-8, 4.0 * 256, 20)),
    reciprocal(wide_window(2.0**-8, 4.0 * 2048, 20)),
    inverse_root(wide_window(9.1, 20_000.0, 26)),
    inverse_root(wide_window(24.0, 2_000.0, 26)),
    inverse_root(wide_window(24.0, 25.0, 26)),  # one stage
]


@cache
def made(c: Case) -> dict[str, Ring]:
    """The tables, as a model's."""
    spec = provisional({**SHAPE, "name": "wide", "prefix": PREFIX}, 1)
    return tables(spec.model_copy(update={"reciprocal": c.window, "final_norm": Norm(exponent=0, window=c.window)}))


def run(c: Case, x: Ring, rho: Ring | None = None, rows: int = 1) -> Real:
    """The gate's values of raw arguments [n], in so many rows."""

    def program(p: Any, z: Any) -> Any:
        return lookup_wide(p, z, c.table, c.window, c.out, POWER)

    z = Input(x.reshape(rows, -1), rho=None if rho is None else rho.reshape(rows, -1))
    played = play(program, z, context=Context(tables=made(c)))
    assert (played.rounds, played.alarm) == (1, 0)
    assert played.sent[0] == [8 * x.size]
    window = c.window
    key = 16 * (window.top + 2 * window.stages) + 8 * 4 * (window.stages + 1)
    assert len(played.material) == key * x.size
    assert played.both == played.material
    return played.out.reshape(-1) * 2.0 ** -(c.out + POWER)


def check(c: Case, x: Ring, rho: Ring | None = None) -> None:
    """Within the gate's error bound."""
    expected = c.f(x * 2.0**-c.scale)
    assert (abs(run(c, x, rho) - expected) < lookup_wide.error.allowed(expected, 2.0**-c.out)).all()


def between(start: float, stop: float, count: int = 500) -> Ring:
    """Raw arguments in [start, stop): both bounds, and spread evenly by size."""
    inside = np.geomspace(start, stop - 1, count - 4).astype(np.int64)
    first, last = int(np.ceil(start)), int(stop)
    return np.concatenate([inside, [first, first + 1, last - 2, last - 1]]).astype(np.int64)


def top(c: Case) -> int:
    """The last cell but one ends here."""
    return c.window.end


@pytest.mark.parametrize("c", CASES)
def test_the_whole_range_from_the_lowest_value_to_the_last_cell_but_one(c: Case) -> None:
    check(c, between(c.window.low * 2**c.scale, top(c)))


@pytest.mark.parametrize("high", [1000.0, 1023.9, 1024.0, 1025.0])
def test_a_window_reaches_what_it_was_made_for(high: float) -> None:
    """Its last cell is lost to a borrow, which a window that ends just there would feel."""
    c = reciprocal(wide_window(2.0**-8, high, 20))
    assert c.window.end >= high * 2**20
    check(c, np.full(40, int(high * 2**20) - 1))


def test_in_the_last_cell_a_value_is_right_or_nothing() -> None:
    c = CASES[0]
    x = np.random.default_rng(2).integers(c.window.end, 1 << c.window.reach, 200)
    got, expected = run(c, x), c.f(x * 2.0**-c.scale)
    right = abs(got - expected) < 8 * 2.0**-c.out
    assert (right | (abs(got) < 1e-9)).all()
    assert 0 < right.sum() < 200


@pytest.mark.parametrize("c", CASES)
def test_the_lowest_value_is_no_less_accurate(c: Case) -> None:
    low = c.window.low * 2**c.scale
    assert 8 <= low / (1 << c.window.lo) <= 16
    check(c, between(low, 1.6 * low))


@pytest.mark.parametrize("ones", [False, True])
@pytest.mark.parametrize("c", CASES)
def test_where_cells_become_wider_a_borrow_reads_one_cell_all_the_same(c: Case, ones: bool) -> None:
    """A borrow puts an argument into the next cell of the wider ones, of the narrower ones, of both or of neither."""
    rng = np.random.default_rng(1)
    for stage in range(c.window.stages):
        cell = 1 << c.window.tree.cell(stage)
        at = REFINED * cell
        x = np.concatenate([between(at - cell, at, 100), between(at, at + cell, 100), at + np.arange(-20, 20)])
        x = x[x < top(c)]
        rho = words(rng, x.size)
        check(c, x, rho | np.int64(cell - 1) if ones else rho & ~np.int64(cell - 1))


@pytest.mark.parametrize("mask", [0, -1, 1, 1 << 62, -(1 << 63), (1 << 63) - 1])
def test_any_mask_does(mask: int) -> None:
    c = CASES[1]
    x = between(c.window.low * 2**c.scale, top(c), 60)
    check(c, x, np.full(x.size, mask, np.int64))


def test_many_rows_are_a_row_each() -> None:
    c = CASES[0]
    x = between(c.window.low * 2**c.scale, top(c), 90)
    np.testing.assert_allclose(run(c, x, rows=5), c.f(x * 2.0**-c.scale), rtol=2e-4, atol=8 * 2.0**-c.out)


@pytest.mark.parametrize("c", CASES)
def test_under_the_lowest_value_the_tables_stop_to_grow(c: Case) -> None:
    low = int(c.window.low * 2**c.scale)
    x = np.arange(1, low // 2, max(1, low // 100))
    limit = c.f(np.array([c.window.low / 2]))[0]
    assert (run(c, x) < 1.01 * limit).all()
    assert (run(c, x) > 0.99 * c.f(np.array([c.window.low]))[0]).all()


@pytest.mark.parametrize("c", CASES)
def test_beyond_the_top_a_value_wraps_to_the_bottom(c: Case) -> None:
    inside = between(3 * c.window.low * 2**c.scale, top(c), 200) if c.window.stages > 1 else between(top(c) // 2, top(c), 200)
    np.testing.assert_allclose(
        run(c, inside + (1 << c.window.reach)), c.f(inside * 2.0**-c.scale), rtol=2e-3, atol=8 * 2.0**-c.out
    )
