"""Runs of rows: their numbers, the keys that they see, and where their elements lie in an array."""

from __future__ import annotations

import pytest

from engine.rows.run import Extent, Rows


def test_rows_know_their_keys_and_the_bounds_of_their_runs() -> None:
    rows = Rows(9, 4, 3)
    assert rows.serials.tolist() == [9, 10, 11]
    assert rows.keys.tolist() == [5, 6, 7]
    assert rows.starts.tolist() == [0, 5, 11, 18]
    assert rows.offsets(Extent(8)).tolist() == [0, 8, 16, 24]
    assert rows.offsets(Extent(key=2)).tolist() == [0, 10, 22, 36]
    assert rows.offsets(Extent(1, 2)).tolist() == [0, 11, 24, 39]
    assert rows.part(1, 3) == Rows(10, 5, 2)
    assert Rows(0, 0, 0).offsets(Extent(key=3)).tolist() == [0]
    bounds = rows.offsets(Extent(1, 2))
    assert rows.offsets(Extent(1, 2)) is bounds  # made once
    with pytest.raises(ValueError, match="read-only"):
        bounds[0] = 1


def test_an_extent_is_scaled_by_rows_and_by_keys() -> None:
    assert Extent(3, 2).scaled(4) == Extent(12, 8)
