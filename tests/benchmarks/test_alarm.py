"""An alarm for values outside their windows: its costs are the plans', and its indicators tell what docs/protocol.md says.

The indicators are not built: each is played here with numpy, on what the real dealing kernels make.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.alarm import KEYS, coarse_bits, coarse_scores, costs, dealt, doubled, seven
from benchmarks.traffic import by_gate
from engine.functions.tables import WideWindow, Window, signed_binomials
from engine.models.config import ModelSpec
from engine.provision.pack import load_client_model
from engine.ring.fixed import Ring
from engine.ring.kernels.lookups import deal_onehot
from engine.ring.kernels.points import REFINED, deal_points, read_points
from tests.engine.trio import small_model
from tests.models.demo_model import shared_demo_model

COUNT = 4000
SILU = Window(lo=29, n=8, lowest=-128)
SCORES = Window(lo=26, n=6, lowest=-48)
EXP = Window(lo=26, n=6, lowest=-56)


def words(rng: np.random.Generator, *shape: int) -> Ring:
    return rng.integers(-(1 << 63), (1 << 63) - 1, shape, np.int64, endpoint=True)


def twice(window: Window) -> Window:
    """One bit more, on both sides."""
    return Window(lo=window.lo, n=window.n + 1, lowest=window.lowest - window.cells // 2)


def inside(window: Window, first: float, stop: float) -> Ring:
    """Raw values from cell `first` up to cell `stop`: both ends, and others."""
    low, high = round(first * 2**window.lo), round(stop * 2**window.lo)
    found = np.random.default_rng(7).integers(low, high, COUNT)
    return np.concatenate([[low, high - 1], found])


def raised(x: Ring, lo: int, bits: int, permitted: range) -> Ring:
    """Whether each value's word is not 0, from both evaluators' shares: [x_hi is not permitted] by a public word of 16 bits."""
    rng = np.random.default_rng(5)
    rho, public = words(rng, x.size), rng.integers(1, 1 << 16, x.size)
    c, each = x + rho, bits // 64
    one = words(rng, x.size * each)
    two, sigma = np.empty_like(one), np.empty(x.size, np.int64)
    deal_onehot(rho, one, lo, each, two, sigma)
    places = ((c >> lo)[:, None] - np.array(list(permitted))) & (bits - 1)
    shares = []
    for role, held in ((1, one), (2, two)):
        bit = np.take_along_axis(held.reshape(x.size, each), places >> 6, axis=1) >> (places & 63) & 1
        shares.append(((bit.sum(axis=1) + (role == 1)) & 1) * public)
    return np.asarray(shares[0] ^ shares[1] != 0)


@pytest.mark.parametrize("window", [SILU, SCORES, EXP])
def test_one_bit_more_tells_what_is_up_to_one_window_outside(window: Window) -> None:
    bottom, cells = window.lowest, window.cells
    wide, permitted = twice(window), range(bottom, bottom + cells)

    def told(first: float, stop: float) -> Ring:
        return raised(inside(window, first, stop), wide.lo, wide.cells, permitted)

    assert not told(bottom, bottom + cells - 1).any()
    assert told(bottom + cells, bottom + 2 * cells - 1).all()  # the last cell but for a borrow
    assert told(bottom - cells, bottom - 1).all()
    assert not told(bottom + 2 * cells, bottom + 3 * cells - 1).any()  # cyclic: the next window is not seen
    edge = told(bottom - 1, bottom)  # read as a cell inside where it borrows: right, for the doubled table holds it
    assert 0.4 < edge.mean() < 0.6


def own_silu(x: Ring) -> Ring:
    """The outer quarter is forbidden."""
    end = 3 * SILU.cells // 8
    return raised(x, SILU.lo, SILU.cells, range(1 - end, end))


def own_exponential(x: Ring) -> Ring:
    """What lies 12 or more above M is forbidden: twice missed levels put M at most 8 below the maximum."""
    return raised(x, EXP.lo, EXP.cells, range(EXP.lowest, 3))


def coarse_silu(x: Ring) -> Ring:
    """Cells of an eighth of the window over all 40 bits that are opened."""
    return raised(x, SILU.lo + SILU.n - 3, coarse_bits(SILU), range(-4, 5))


def coarse_exponential(x: Ring) -> Ring:
    """Cells of 16 over all 34 bits, one fine cell lower, so that they begin where the window's own cells end."""
    return raised(x + (1 << EXP.lo), EXP.lo + 2, 64, range(-14, 2))


def test_forbidden_cells_of_the_window_itself_tell_what_is_near_its_edge() -> None:
    """SiLU's outer quarter: from 3/4 of the reach to 5/4; the exponential's cells that no score reaches: 12 to 28 above M."""
    quarter = SILU.cells // 8
    assert not own_silu(inside(SILU, 1 - 3 * quarter, 3 * quarter - 1)).any()
    assert own_silu(inside(SILU, 3 * quarter, 5 * quarter)).all()
    assert own_silu(inside(SILU, -5 * quarter, -3 * quarter - 1)).all()
    assert not own_silu(inside(SILU, 5 * quarter + 1, 11 * quarter - 1)).any()
    assert not own_exponential(inside(EXP, EXP.lowest, 2)).any()
    assert own_exponential(inside(EXP, 3, 7)).all()
    assert own_exponential(inside(EXP, EXP.lowest - 5, EXP.lowest - 1)).all()


def test_coarse_cells_beside_them_tell_all_that_is_opened() -> None:
    """SiLU's argument modulo 2^40, a score less M modulo 2^34: nothing is left between the fine cells and the coarse ones."""
    quarter, end = SILU.cells // 8, 1 << (39 - SILU.lo)
    assert (coarse_bits(SILU), coarse_scores(small_model().spec)) == (64, 64)
    assert not coarse_silu(inside(SILU, -4 * quarter, 4 * quarter)).any()
    for first, stop in ((5 * quarter, 9 * quarter), (-9 * quarter, -5 * quarter), (5 * quarter, end - 1), (-end, -5 * quarter)):
        assert coarse_silu(inside(SILU, first, stop)).all()
    assert not coarse_exponential(inside(EXP, EXP.lowest, 2)).any()
    for first, stop in ((7, 16), (EXP.lowest - 20, EXP.lowest - 5), (7, 127), (-128, EXP.lowest - 5)):
        assert coarse_exponential(inside(EXP, first, stop)).all()


def test_the_leaves_of_a_point_function_tell_both_ends() -> None:
    """1/Σ: the leaves' shares differ at ρ's alone, and nothing more is dealt; no leaf at all, in the last cell, is told too."""
    window = WideWindow(lo=9, top=5, stages=10, low=2.0**-8)
    tree, low = window.tree, 8  # cells of 2^lo below window.low
    permitted = np.zeros((1, tree.starts[-1]), np.int64)
    permitted[0, : (1 << (tree.top - 1)) - REFINED + 1] = 1  # below half of the window
    permitted[0, tree.starts[1] :] = 1
    permitted[0, tree.starts[-2] : tree.starts[-2] + low] = 0

    def told(x: Ring) -> Ring:
        rng = np.random.default_rng(3)
        rho, roots, serials = words(rng, x.size), words(rng, 2, x.size, 2), np.arange(x.size)
        key = np.empty((x.size, tree.words(1)), np.int64)
        deal_points(rho, roots[0], roots[1], serials, 0, tree, 1, 0, key)
        bits = []
        for role in (1, 2):
            out = np.empty(x.size, np.int64)
            read_points(x + rho, roots[role - 1], role, serials, 0, key, tree, permitted, signed_binomials(0), 0, out)
            bits.append((out + (role == 1)) & 1)
        return np.asarray(bits[0] ^ bits[1] == 1)

    half = 1 << (window.reach - 1)
    cell = 1 << tree.cell(0)
    spread = np.geomspace(low << window.lo, half - 1, 500).astype(np.int64)
    assert not told(np.concatenate([[low << window.lo, half - 1], spread])).any()
    assert told(np.linspace(half + cell, 2 * half - 1, 500).astype(np.int64)).all()
    assert told(np.arange(0, (low - 1) << window.lo, 7)).all()
    assert not told(2 * half + spread).any()  # beyond the end it is cyclic


@pytest.mark.parametrize("window", ["silu", "score", "exp", "reciprocal", "norms"])
def test_a_doubled_window_costs_no_opened_byte(window: str) -> None:
    spec = small_model().spec
    before, after = by_gate(spec, 9), by_gate(doubled(spec, window), 9)
    assert sum(gate.opened for gate in before) == sum(gate.opened for gate in after)
    assert sum(gate.dealt for gate in before) == dealt(spec, 9)


def key_bytes(window: WideWindow) -> int:
    """Of one value, to each evaluator."""
    return 16 * (window.top + 2 * window.stages) + 8 * 4 * (window.stages + 1)


def test_the_costs_are_the_formulas_of_the_gates() -> None:
    spec = small_model().spec
    found: dict[Any, int] = {(cost.window, cost.how): cost.dealt for cost in costs(spec, 9)}
    scores = spec.layers * spec.heads * 9
    assert found["silu", "doubled"] == sum(spec.d_ffn * layer.silu.window.cells // 8 for layer in spec.layer)
    assert found["score", "doubled"] == found["exp", "doubled"] == found["exp", "coarse"] == 8 * scores
    longer = doubled(spec, "reciprocal").reciprocal
    more = key_bytes(longer) - key_bytes(spec.reciprocal)
    assert found["reciprocal", "doubled"] == 2 * spec.layers * spec.heads * more
    assert longer.reach == spec.reciprocal.reach + 1


def figures_stand(spec: ModelSpec) -> None:
    """All costs of that model are in the protocol's table."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()
    table = text[text.index("## What nothing tells at run time") :]
    assert f"{dealt(spec, KEYS) / 1e6:.2f} MB" in table
    for cost in costs(spec, KEYS):
        assert f" {cost.dealt / 1e3:,.1f} |" in table, cost


def test_the_protocols_figures_of_the_7b_shape() -> None:
    spec = seven()
    assert {layer.silu.window.cells for layer in spec.layer} == {256}
    figures_stand(spec)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_protocols_figures_of_the_demo() -> None:
    figures_stand(load_client_model(shared_demo_model() / "client").spec)
