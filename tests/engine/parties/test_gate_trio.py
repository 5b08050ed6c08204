"""A few gates at all three parties in one process: masks are fresh, and parts that do not belong together are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.gates.matmul import matmul
from engine.gates.product import multiply
from engine.gates.truncation import as_wire
from engine.parties.gate_trio import Input, run_gates, value
from engine.rows.run import Extent
from engine.wire import Mask, Opening, Rho, Wire

X = np.array([[3, -5, 7]])


def square(p: Any, x: Any) -> Any:
    """x·x."""
    wire = as_wire(p, x)
    return multiply(p, wire, wire)


def test_keys_and_masks_are_fresh_each_time() -> None:
    one, two = run_gates(square, Input(X)), run_gates(square, Input(X))
    np.testing.assert_array_equal(one.outputs, [X * X])
    np.testing.assert_array_equal(two.outputs, [X * X])
    assert bytes(one.material[1]) != bytes(two.material[1])
    assert (one.evaluated[0].c != two.evaluated[0].c).all()


def test_nothing_of_a_run_or_an_input_is_shown() -> None:
    assert repr(run_gates(square, Input(X))) == "GateRun(…)"
    assert repr(Input(X)) == "Input(…)"


def test_a_matrix_needs_a_model() -> None:
    with pytest.raises(RuntimeError, match="no matrix w"):
        run_gates(lambda p, x: matmul(p, as_wire(p, x), "w", 2), Input(X))


def test_rows_that_no_input_tells_are_to_be_given() -> None:
    with pytest.raises(TypeError, match="rows must be given"):
        run_gates(lambda p, x: x, lambda dealt, p: None)


def test_parts_of_different_wires_are_refused() -> None:
    lam, extent = np.array([[1, 2, 3]]), Extent(3)
    one, two = Wire(X + lam, lam, extent), Wire(X + lam, lam * 0, extent)
    np.testing.assert_array_equal(value(Mask(lam, extent), one, two), X)
    with pytest.raises(RuntimeError, match="do not add up"):
        value(Mask(lam, extent), one, one)
    with pytest.raises(RuntimeError, match="different words"):
        value(Mask(lam, extent), one, Wire(X, lam * 0, extent))
    with pytest.raises(RuntimeError, match="different sizes"):
        value(Mask(lam, extent, 34), one, two)


def test_parts_of_different_openings_are_refused() -> None:
    class Nothing:
        def flush(self) -> None:
            pass

    def opened(c: Any, elements: int = 3) -> Opening:
        return Opening(Extent(elements), 64, Nothing(), c)

    rho = Rho(np.array([[1, 2, 3]]), Extent(3))
    np.testing.assert_array_equal(value(rho, opened(X + rho.rho), opened(X + rho.rho)), X)
    with pytest.raises(RuntimeError, match="different words"):
        value(rho, opened(X), opened(X + 1))
    with pytest.raises(RuntimeError, match="different sizes"):
        value(rho, opened(X), opened(X, 1))
