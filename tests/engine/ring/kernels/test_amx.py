"""Products in AMX's tiles are those of words, at every remainder of a tile; where there are no tiles, words are multiplied."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import product

import numpy as np
import pytest

from engine.ring.kernels import amx
from engine.ring.kernels.linear import Low40, adder
from tests.engine.gates.alone import words

needs_tiles = pytest.mark.skipif(not amx.granted(), reason="this processor has no AMX, or its kernel does not grant it")
SIDES = (0, 1, 15, 16, 17, 33)
INNER = (64, 65, 127, 128, 64 * amx.NEAR + 1, 64 * amx.DEEP, 64 * amx.DEEP + 3)
LOW = np.int64((1 << 40) - 1)


def low40(w: np.ndarray) -> Low40:
    return Low40(w.astype(np.uint32), (w >> 32).astype(np.uint8))


@needs_tiles
@pytest.mark.parametrize("rows", SIDES)
def test_products_in_tiles_are_those_of_words(rows: int) -> None:
    rng = np.random.default_rng(rows)
    for inner, outer in product(INNER, SIDES):
        x, w, out = words(rng, rows, inner), words(rng, outer, inner), words(rng, rows, outer)
        expected, low = out + x @ w.T, out.copy()
        tiles = amx.spread(x)
        amx.multiply(tiles, w, out)
        np.testing.assert_array_equal(out, expected)
        for multiply, matrix in ((amx.multiply_low40, low40(w)), (partial(amx.multiply, low40=True), [w])):
            out = low.copy()
            multiply(tiles, *matrix, out)
            assert not ((out ^ expected) & LOW).any()


@needs_tiles
def test_sums_of_the_largest_limbs_fit() -> None:
    inner = 64 * amx.DEEP
    x, w = np.full((16, inner), -1), np.full((16, inner), -1)
    out = np.zeros((16, 16), np.int64)
    amx.multiply(amx.spread(x), w, out)
    np.testing.assert_array_equal(out, inner)


@pytest.mark.parametrize("rows", [amx.FEWEST_ROWS - 1, amx.FEWEST_ROWS, 40])
@pytest.mark.parametrize("inner", [amx.FEWEST_WORDS - 1, amx.FEWEST_WORDS, 100])
def test_one_factor_serves_for_many_matrices_that_may_not_be_written_to(rows: int, inner: int) -> None:
    rng = np.random.default_rng(rows)
    x = words(rng, rows, inner)
    add = adder(x)
    for outer in (20, 1, 50):
        w, out = words(rng, outer, inner), words(rng, rows, outer)
        w.flags.writeable = False
        expected = out + x @ w.T
        add(w, out)
        np.testing.assert_array_equal(out, expected)


@needs_tiles
def test_arrays_that_do_not_lie_row_by_row_are_refused() -> None:
    rng = np.random.default_rng(1)
    x, w, out = words(rng, 16, 64), words(rng, 64, 16), np.zeros((16, 16), np.int64)
    with pytest.raises(TypeError, match="C-contiguous"):
        amx.multiply(amx.spread(x), w.T, out)
    assert not out.any()


@needs_tiles
@pytest.mark.parametrize(("w", "out"), [((20, 63), (16, 20)), ((20, 64), (15, 20)), ((20, 64), (16, 19))])
def test_shapes_that_do_not_fit_are_refused(w: tuple[int, int], out: tuple[int, int]) -> None:
    tiles, matrix = amx.spread(np.zeros((16, 64), np.int64)), np.zeros(w, np.int64)
    with pytest.raises(ValueError, match="is no"):
        amx.multiply(tiles, matrix, np.zeros(out, np.int64))
    with pytest.raises(ValueError, match="is no"):
        amx.multiply_low40(tiles, *low40(matrix), np.zeros(out, np.int64))


WITHOUT = """
import llvmlite.binding
features = llvmlite.binding.get_host_cpu_features()
for name in [name for name in features if "amx" in name]:
    features[name] = False
llvmlite.binding.get_host_cpu_features = lambda: features
import numpy as np
from engine.ring.kernels import amx
from engine.ring.kernels.linear import multiply_into, multiply_low40_into
assert not amx.granted()
x = np.arange(-1000, 1400).reshape(24, 100) << 40
w = np.arange(3000).reshape(30, 100) * 0x123456789ABC
for multiply, factor in ((multiply_into, [w]), (multiply_low40_into, [w.astype(np.uint32), (w >> 32).astype(np.uint8)])):
    out = np.zeros((24, 30), np.int64)
    multiply(x, *factor, out)
    assert not ((out ^ x @ w.T) & ((1 << 40) - 1)).any()
"""


def test_a_processor_without_tiles_multiplies_words() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
