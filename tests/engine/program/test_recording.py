"""The plan of a program by itself: what it asks for and opens, and no number of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.gates.attention import mixture, remember
from engine.gates.matmul import matmul
from engine.gates.product import multiply
from engine.gates.truncation import as_wire
from engine.program.evaluation import Evaluation
from engine.program.plan import Kind
from engine.program.recording import Shapes, no_exchange, record
from engine.rows.run import Extent
from engine.wire import Opening


def opening(e: Evaluation, n: int) -> Opening:
    """Of no rows, as every input while planning."""
    return e.ready(np.empty((0, n), np.int64), Extent(n))


def test_an_opening_that_is_returned_counts_as_a_round() -> None:
    def product(e: Evaluation) -> Any:
        return multiply(e, as_wire(e, opening(e, 3)), as_wire(e, opening(e, 3)))

    plan = record(product, Shapes())
    assert plan.rounds == [[(Extent(3), 64)]]
    assert [slot.kind for slot in plan.slots.values()] == [Kind.SHARE, Kind.SHARE, Kind.SHARE, Kind.SHARE, Kind.KAPPA]


def test_openings_that_are_returned_together_share_a_round() -> None:
    def products(e: Evaluation) -> Any:
        x = as_wire(e, opening(e, 3))
        return multiply(e, x, x), x, multiply(e, x, x)

    assert record(products, Shapes()).rounds == [[(Extent(3), 64), (Extent(3), 64)]]


def test_a_matrix_and_a_cache_are_shapes_only() -> None:
    def attention(e: Evaluation) -> Any:
        x = as_wire(e, opening(e, 6))
        remember(e, 0, x, x)
        weights = as_wire(e, e.ready(np.empty(0, np.int64), Extent(key=2)))
        return matmul(e, x, "w", 5), mixture(e, 0, weights, 2)

    plan = record(attention, Shapes(layers=1, kv_heads=2, head_dim=3))
    assert plan.rounds == [[(Extent(5), 64), (Extent(6), 64)]]
    assert [product.weight for product in plan.products] == ["w"]


def test_no_rows_are_multiplied_by_a_shape() -> None:
    rows, out = np.ones((2, 3), np.int64), np.zeros((2, 5), np.int64)
    for use in (Shapes().multiply, Shapes().subtract):
        use("w", rows[:0], out[:0])
        with pytest.raises(RuntimeError, match="no matrix w"):
            use("w", rows, out)
    assert Shapes().masked("w").size == 0


def test_a_plan_exchanges_nothing() -> None:
    with pytest.raises(RuntimeError, match="not 3 bytes"):
        no_exchange(b"abc")
