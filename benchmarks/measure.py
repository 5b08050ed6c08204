"""Measures one row: a check against the clear, the online figure, the all-in figure."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.desktop import PASS_ROWS, QUEUE_ROWS
from benchmarks.parties import CHECKED_PREFIX, make_model, parties
from benchmarks.shapes import SHAPES, Work

BLOCK_ROWS = 32  #: half of what the application deals in steady state, so that a row stays near its context
WAIT_BLOCK_ROWS = 8  #: of rows whose time is the network's
PROMPTS = 3


def measure(work: Work, models: Path, *, quick: bool = False) -> dict[str, Any]:
    """Figures of a row; the shape's model is made in `models` if it is not there."""
    prefix = max(work.given, CHECKED_PREFIX)
    model = models / f"{work.shape}-{prefix}"
    made = {} if model.exists() else make_model(work.shape, prefix, model)
    with tempfile.TemporaryDirectory(prefix="trine-bench-") as place:
        checked: dict[str, Any] = {}
        # The clear's figures are behind the whole prefix, whatever part of it the row uses.
        check = Work(work.shape, work.rows, prefix) if work.past != prefix else work
        if check is not work:
            with parties(check, model, Path(place)) as driver:
                checked = driver.do("check")
        with parties(work, model, Path(place)) as driver:
            if work.past > work.given:
                driver.do("extend", rows=work.past - work.given)
            row = _figures(work, driver.do, quick=quick)
            checked = checked or driver.do("check")
    return {"work": asdict(work), "title": work.title, "made": made, "check": checked} | row


def _figures(work: Work, do: Any, *, quick: bool) -> dict[str, Any]:
    if not work.decode:
        prompts = 1 if quick or work.rows > QUEUE_ROWS else PROMPTS
        do("online", rows=min(work.rows, PASS_ROWS), repeats=1)  # warms every kernel up
        return {
            "online": do("online", rows=work.rows, repeats=prompts),
            "all_in": do("all_in_prompt", rows=work.rows, repeats=prompts),
        }
    waits = work.nodes is not None
    block = 4 if quick else WAIT_BLOCK_ROWS if waits else BLOCK_ROWS
    blocks = 1 if quick else 2 if SHAPES[work.shape].layers > 8 or waits else 3
    do("online", rows=1, repeats=2)
    return {
        "online": do("online", rows=1, repeats=2 if quick else 8 if waits else 16),
        "all_in": do("all_in_decode", block=block, blocks=blocks),
    }
