"""How decode grows with the context: straight lines through the rows of a shape, and how far the rows lie off them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

FEWEST = 3  #: contexts, so that a line can be wrong
Row = dict[str, Any]


def _middle(row: Row) -> float:
    """The context in the middle of the online steps."""
    return float(row["work"]["past"] + (len(row["online"]["seconds"]) - 1) / 2)


def _start(row: Row) -> float:
    return float(row["work"]["past"])


def _seconds(row: Row) -> float:
    return float(median(row["online"]["seconds"]))


def _dealt(row: Row) -> float:
    return float(sum(row["online"]["dealt"].values()) / 1e6)


def _opened(row: Row) -> float:
    return float(row["online"]["nodes"][0]["links"]["to_peer"] / row["online"]["rows"] / 1e6)


FIGURES: tuple[tuple[str, Callable[[Row], float], Callable[[Row], float]], ...] = (
    ("online, s a token", _seconds, _middle),
    ("dealt, MB a token", _dealt, _start),
    ("between the nodes, MB a token each way", _opened, _middle),
)


def lines(rows: list[Row]) -> list[str]:
    """A table for each shape that decodes at enough contexts on plain links."""
    shapes: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        work = row["work"]
        if work["rows"] == 1 and work["nodes"] is None and work["desktop"] is None:
            shapes[work["shape"]].append(row)
    out = []
    for found in shapes.values():
        if len({row["work"]["past"] for row in found}) >= FEWEST:
            out += _table(sorted(found, key=_start))
    return out


def _table(rows: list[Row]) -> list[str]:
    contexts = ", ".join(str(row["work"]["past"]) for row in rows)
    out = [
        f"{rows[0]['title'].rpartition(',')[0]}, decode at contexts {contexts}, fitted by a straight line:",
        "",
        "| figure | measured | at context 0 | for each further token of context | largest residual |",
        "|---|---|---|---|---|",
    ]
    for name, figure, context in FIGURES:
        at, values = np.array([context(row) for row in rows]), np.array([figure(row) for row in rows])
        slope, start = np.polyfit(at, values, 1)
        residual = np.abs(values - start - slope * at).max()
        measured = ", ".join(f"{value:.4g}" for value in values)
        out.append(f"| {name} | {measured} | {start:.4g} | {slope:.3g} | {residual:.2g} ({residual / values.mean():.1%}) |")
    return [*out, ""]
