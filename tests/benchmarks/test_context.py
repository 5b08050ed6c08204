"""The slope of decode in the context, from rows whose answer is known."""

from __future__ import annotations

from typing import Any

from benchmarks.context import lines


def row(past: int, **extra: Any) -> dict[str, Any]:
    seconds = [0.1 + 1e-4 * (past + i) for i in range(3)]
    sent = sum(5_000_000 + 1000 * (past + i) for i in range(3))
    work = {"shape": "smollm2", "rows": 1, "past": past, "nodes": None, "desktop": None} | extra
    online = {
        "seconds": seconds,
        "rows": 3,
        "dealt": {"a": 7_000_000, "b": 9000 * past},
        "nodes": [{"links": {"to_peer": sent}}],
    }
    return {"work": work, "title": "A model, decode", "online": online}


def test_a_straight_line_is_found_as_one() -> None:
    table = lines([row(past) for past in (512, 16, 128)])
    assert table[0] == "A model, decode at contexts 16, 128, 512, fitted by a straight line:"
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table[4:7]]
    assert [(cell[1], cell[2]) for cell in cells] == [("0.1", "0.0001"), ("7", "0.009"), ("5", "0.001")]
    assert all(cell[3].endswith("(0.0%)") for cell in cells)


def test_too_few_contexts_and_relayed_rows_make_no_line() -> None:
    assert lines([row(16), row(128), row(128), row(512, nodes=(1.0, 1000.0)), row(512, rows=8)]) == []
