"""The coarse row maximum: M in (max, max + 8], 4 lower for each level that is missed, once in 2^10."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.functions.tables import Window
from engine.gates.maximum import below, maximum
from engine.gates.truncation import alarm_seed
from engine.parties.gate_trio import Input
from engine.ring.fixed import signed
from engine.ring.kernels.attention import level_hashes
from engine.rows.run import Extent, Rows
from tests.engine.gates.alone import Played, Real, Ring, play

SCALE = 24
WINDOW = Window(lo=SCALE + 2, n=6, lowest=-48)  # [-192, 64)
LEVEL, LEVELS = -4, 16  # tested: -16 … 44
TOP = 4 * (LEVEL + LEVELS)
MISS = 2.0**-10


def run(scores: Real, rows: Rows, heads: int, *, section: int = 1, seed: int = 0) -> tuple[Real, Played]:
    """M of every row and head, [rows, heads]; scores flat in log2 units."""
    z = np.rint(scores * 2.0**SCALE).astype(np.int64)

    def program(p: Any, s: Any) -> Any:
        return maximum(p, s, heads, WINDOW, LEVEL, LEVELS)

    played = play(program, Input(z, Extent(key=heads), bits=34), rows=rows, section=section, seed=seed)
    assert played.rounds == 3
    tested = rows.count * heads * LEVELS
    assert played.sent[0] == [tested * 5 // 4, 8 * tested, 5 * rows.count * heads]
    assert played.alarm == 0
    return played.out * 2.0**-SCALE, played


def tops(scores: Real, rows: Rows, heads: int) -> Real:
    """The rows' true maxima, [rows, heads]."""
    bounds = rows.offsets(Extent(key=heads))
    return np.array([scores[bounds[r] : bounds[r + 1]].reshape(heads, -1).max(axis=1) for r in range(rows.count)])


def some(rng: np.random.Generator, rows: Rows, heads: int, low: float, high: float) -> Real:
    return rng.uniform(low, high, int(rows.offsets(Extent(key=heads))[-1]))


@given(position=st.integers(0, 70), count=st.sampled_from((1, 3)), heads=st.sampled_from((1, 2, 5)), seed=st.integers(0, 999))
@settings(max_examples=12, derandomize=True)  # a missed level is rare, and the same in every run
def test_it_lies_above_the_maximum_by_at_most_8(position: int, count: int, heads: int, seed: int) -> None:
    rows = Rows(100 + seed, position, count)
    scores = some(np.random.default_rng(seed), rows, heads, -190, 40)

    m, _ = run(scores, rows, heads, seed=seed)

    most = np.maximum(tops(scores, rows, heads), 4 * LEVEL - 4)
    over = m - most
    assert ((over > -4) & (over <= maximum.error.absolute)).all()  # at most one level is missed
    assert (over <= 0).sum() <= 1


def test_the_bin_above_is_taken_as_often_as_the_maximum_stands_high_in_its_bin() -> None:
    """M = 4·(bin + 1), or 4·(bin + 2) after a borrow, which has the probability of the place in the bin."""
    heads, rows = 1, Rows(5, 0, 300)
    for place in (0.0, 0.25, 0.75, 1 - 2.0**-20):
        total = int(rows.offsets(Extent(key=heads))[-1])
        scores = np.full(total, -100.0)
        scores[rows.starts[:-1]] = 8 + 4 * place
        m, _ = run(scores, rows, heads, seed=int(100 * place))
        expected = m[(m == 12) | (m == 16)]
        assert expected.size >= rows.count - 12  # some rows of 300 miss one of their seven levels
        share = (expected == 16).mean()
        assert abs(share - place) < 5 * np.sqrt(place * (1 - place) / rows.count) + 8 * MISS


@pytest.mark.parametrize("high", [4.0 * LEVEL - 4, -150.0])
def test_a_row_under_the_lowest_level_gets_that_level(high: float) -> None:
    rows = Rows(3, 4, 6)
    m, _ = run(some(np.random.default_rng(1), rows, 3, -191, high), rows, 3)
    assert (m == 4 * LEVEL).all()


def test_a_row_above_the_top_level_gets_the_top() -> None:
    rows = Rows(3, 4, 6)
    m, _ = run(some(np.random.default_rng(1), rows, 3, TOP, 63.9 - 4), rows, 3)
    assert set(np.unique(m)) <= {float(TOP), TOP - 4.0}
    assert (m == TOP).mean() > 0.8


def test_levels_are_missed_once_in_1024_independently() -> None:
    """All 16 levels of every row hold keys: Σ of what is missing of the top is 4 times a binomial count."""
    misses, levels, rows_with = 0, 0, np.zeros(4, int)
    for section in range(8):
        rows = Rows(50 + 1000 * section, 0, 400)
        scores = np.full(int(rows.starts[-1]), 50.0)
        m, _ = run(scores, rows, 1, section=section, seed=section)
        missing = ((TOP - m) / 4).astype(int).reshape(-1)
        misses += int(missing.sum())
        levels += LEVELS * rows.count
        rows_with += np.bincount(missing, minlength=4)[:4]
    expected = levels * MISS
    assert abs(misses - expected) < 4 * np.sqrt(expected)
    assert rows_with[0] > rows_with[1] > 10 * rows_with[2]  # two in a row are as rare as if independent


def test_the_hash_of_one_key_or_of_many_is_zero_once_in_1024_at_every_level() -> None:
    """The kernel alone, over many rows: the rate at each level, and no two levels vanish together more than by chance."""
    for n in (1, 2, 7):
        count = 20_000
        keys = np.full(count, n, np.int64)
        starts = np.arange(count + 1, dtype=np.int64) * n
        out = np.empty((count, 1, LEVELS), np.int64)
        # the share of one evaluator when the other's bits are zero: the one-hot itself, every key in the highest bin
        bits = np.full(count * n, np.int64(1), np.int64)
        c = np.full(count * n, 15 << WINDOW.lo, np.int64)
        level_hashes(c, bits, WINDOW.lo, WINDOW.lowest, LEVEL, np.arange(count), keys, starts, alarm_seed(3, 9), out)
        zero = out[:, 0] == 0
        bound = 5 * np.sqrt(count * MISS)
        assert (abs(zero.sum(axis=0) - count * MISS) < bound).all()
        pairs = (zero.sum(axis=1) * (zero.sum(axis=1) - 1) // 2).sum()
        expected = count * MISS**2 * LEVELS * (LEVELS - 1) / 2
        assert pairs < expected + 5 * np.sqrt(expected) + 1


def test_a_score_outside_the_window_of_bins_wraps_into_a_wrong_one() -> None:
    """70 lies 6 above the window's top and is read as -186: the row is then judged by its other keys."""
    rows = Rows(9, 1, 1)
    m, _ = run(np.array([70.0, 5.0]), rows, 1)
    assert m[0, 0] in {8.0, 12.0}
    m, _ = run(np.array([-195.0, 5.0]), rows, 1)  # and -195 as 61, above every level
    assert m[0, 0] == TOP


def test_scores_less_the_maximum_are_exact_and_cost_no_round() -> None:
    heads, rows = 3, Rows(4, 5, 4)
    rng = np.random.default_rng(0)
    z = rng.integers(-(1 << 33), 1 << 33, int(rows.offsets(Extent(key=heads))[-1]))
    m = rng.integers(-(1 << 33), 1 << 33, (rows.count, heads))

    def program(p: Any, s: Any, m: Any) -> Any:
        return below(p, s, m, heads)

    played = play(program, Input(z, Extent(key=heads), bits=34), Input(m, bits=34), rows=rows)

    np.testing.assert_array_equal(played.out, signed(z - repeated(m, rows), 34))
    assert played.rounds == 0
    assert played.material == b""


def repeated(m: Ring, rows: Rows) -> Ring:
    return np.concatenate([np.repeat(m[r], n) for r, n in enumerate(rows.keys)])


@pytest.mark.parametrize("n", [7, 8])
def test_wider_windows_hold_wider_scores(n: int) -> None:
    """Of 128 and of 256 bins, with as many words a score; M as ever."""
    heads, rows, reach = 2, Rows(7, 5, 40), 2.0 ** (n + 1)
    window, levels = Window(lo=SCALE + 2, n=n, lowest=-(1 << (n - 1))), 60
    scores = some(np.random.default_rng(n), rows, heads, -reach, 100)
    z = np.rint(scores * 2.0**SCALE).astype(np.int64)

    def program(p: Any, s: Any) -> Any:
        return maximum(p, s, heads, window, -30, levels)

    played = play(program, Input(z, Extent(key=heads), bits=34), rows=rows, section=1, seed=n)

    over = played.out * 2.0**-SCALE - np.maximum(tops(scores, rows, heads), -124)
    assert ((over > -4) & (over <= maximum.error.absolute)).all()
    assert (over <= 0).sum() <= 3  # missed levels, once in 2^10
