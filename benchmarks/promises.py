"""The demo's table: what was promised of it, beside what `benchmarks.demo` measured."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import Any

GIGA, MEGA, KILO = 1e9, 1e6, 1e3


@dataclass(frozen=True, slots=True)
class Promise:
    """One line. `most`/`least` bound the figure; None where nothing was promised."""

    what: str
    figure: float
    unit: str
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        """As the table says it."""
        if self.most is not None:
            return f"at most {self.most:g} {self.unit}"
        return f"at least {self.least:g} {self.unit}" if self.least is not None else ""

    @property
    def kept(self) -> str:
        """yes, **no**, or nothing where nothing was promised."""
        if self.most is None and self.least is None:
            return ""
        kept = (self.most is None or self.figure <= self.most) and (self.least is None or self.figure >= self.least)
        return "yes" if kept else "**no**"


def promises(demo: dict[str, Any]) -> list[Promise]:
    """Every line of the table."""
    return [*_speed(demo), *_questions(demo), *_memory(demo), *_bytes(demo)]


def _speed(demo: dict[str, Any]) -> list[Promise]:
    steady, online = demo["steady"], demo["full_queue"]["decode"]
    return [
        Promise(
            f"decode, steady state with dealing, context {steady['context']:.0f}",
            1 / mean(steady["seconds"]),
            "tokens/s",
            least=5,
            note=f"{len(steady['seconds'])} tokens while {steady['dealt_rows']} rows were dealt",
        ),
        Promise(
            f"decode, full queue, context {online['context']:.0f}",
            1 / mean(online["seconds"]),
            "tokens/s",
            note=f"{len(online['seconds'])} tokens, rows ready before and after: {_both(online['prepared_rows'])}",
        ),
    ]


def _questions(demo: dict[str, Any]) -> list[Promise]:
    empty, full, short = demo["empty_queue"], demo["full_queue"], demo["short_questions"]["runs"]
    opening = _list(run["opening"] for run in empty["runs"])
    asked = demo["asked"]
    tokens, rows = ([run[name] for run in short] for name in ("tokens", "prepared_rows"))
    return [
        Promise(
            f"a question of {empty['tokens']} tokens right after opening",
            median(run["seconds"] for run in empty["runs"]),
            "s",
            most=8,
            note=f"all: {_list(run['seconds'] for run in empty['runs'])}; opening the session before: {opening}",
        ),
        Promise(
            f"a question of {full['tokens']} tokens, rows prepared",
            full["seconds"],
            "s",
            most=5,
            note=f"{full['prepared_rows']} rows were ready",
        ),
        Promise(
            "first token of a short question, open session, full queue",
            median(run["seconds"] for run in short),
            "s",
            most=1.5,
            note=f"all: {_list(run['seconds'] for run in short)}; tokens {_both(tokens)}; rows ready {_both(rows)}",
        ),
        Promise(
            "`trine ask` from a cold start, first byte of the answer",
            median(run["first_byte"] for run in asked),
            "s",
            note=f"all: {_list(run['first_byte'] for run in asked)}; to its end {_list(run['end'] for run in asked)}",
        ),
    ]


def _memory(demo: dict[str, Any]) -> list[Promise]:
    """An evaluator's own memory: the most of its private pages without the most rows that it was prepared for, and the pack.

    Rows of a block that is partly used, and freed memory that was not given back, count as its own.
    """
    out = []
    for node, name in enumerate(("E1", "E2")):
        a_row = demo["row"]["prepared"][node]
        moments = [(moment, moment["nodes"][node]) for moment in demo["moments"]]
        most = max(demo["largest_private"][node], *(held["private"] for _, held in moments))
        rows = max(moment["prepared_rows"] for moment, _ in moments)
        own = most - rows * a_row
        ready = moments[0][1]["private"]
        mapped = max(held["mapped"] for _, held in moments)
        resident = max(held["peak_resident"] for _, held in moments)
        out.append(
            Promise(
                f"memory of {name} without prepared rows: private pages and the whole mapped pack",
                (own + mapped) / GIGA,
                "GB",
                most=2.8,
                note=f"private {own / GIGA:.2f} + pack {mapped / GIGA:.2f}; "
                f"prepared: up to {rows} rows of {a_row / MEGA:.1f} MB, {rows * a_row / GIGA:.2f}; "
                f"nodes ready, no session: private {ready / GIGA:.2f}; ever resident {resident / GIGA:.2f}",
            )
        )
    peak, now = demo["dealer_peak"] / GIGA, demo["dealer_now"] / GIGA
    return [*out, Promise("peak memory of D", peak, "GB", most=0.8, note=f"resident at the end {now:.2f}")]


def _bytes(demo: dict[str, Any]) -> list[Promise]:
    row, links = demo["row"], demo["steady"]["links"]
    others = f"D–E1 {links['D-E1'] / KILO:.1f} kB, D–E2 {links['D-E2'] / KILO:.1f} kB both ways beside what is dealt"
    return [
        Promise(f"dealt a token at {row['keys']} keys", row["dealt"] / MEGA, "MB", most=8, note="exact, from the plans"),
        Promise("dealt for each further key", row["further_key"] / KILO, "kB", most=15, note="exact, from the plans"),
        Promise("between the nodes a token, each way", links["E1-E2 each way"] / MEGA, "MB", most=6, note=others),
    ]


def lines(demo: dict[str, Any]) -> list[str]:
    """The table as Markdown."""
    out = ["| the demo | measured | promised | kept | how |", "|---|---|---|---|---|"]
    for promise in promises(demo):
        measured = f"{promise.figure:.3g} {promise.unit}"
        out.append(f"| {promise.what} | {measured} | {promise.target} | {promise.kept} | {promise.note} |")
    return out


def _list(values: Any) -> str:
    return " ".join(f"{value:.2f}" for value in values) + " s"


def _both(values: list[int]) -> str:
    return ", ".join(str(value) for value in values)
