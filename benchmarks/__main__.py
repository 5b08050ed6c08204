"""``python -m benchmarks [--peer spu] [--quick] [--out DIRECTORY] [NAME …]``: measures the rows and writes the table.

NAME: a shape's name, SHAPE:ROWS@PAST for one row (smollm2-layer:1@16), "local" or "wide" (rows through relays), "demo" (the
real one beside what it promises); without names, all of it. "drafts" alone measures answers of the demo model with and
without drafts (benchmarks/drafts.py); "alarm" alone computes what an alarm for values outside their windows would cost.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import alarm, drafts, promises, roofline
from benchmarks.demo import measure_demo
from benchmarks.measure import measure
from benchmarks.parties import ONE_THREAD
from benchmarks.peer import Peer
from benchmarks.report import line, machine, write
from benchmarks.shapes import LOCAL, SHAPES, WIDE, Work

DEMO = "demo"


def chosen(names: list[str]) -> list[Work]:
    """The rows that the names stand for."""
    if not names:
        return [*LOCAL, *WIDE]
    rows: list[Work] = []
    for name in names:
        if name == DEMO:
            continue
        if name in ("local", "wide"):
            rows += LOCAL if name == "local" else WIDE
        elif match := re.fullmatch(r"(.+):(\d+)@(\d+)", name):
            rows.append(Work(match[1], int(match[2]), int(match[3])))
        elif name in SHAPES:
            known = [work for work in LOCAL if work.shape == name]
            rows += known or [Work(name, 1, 16)]
        else:
            raise SystemExit(f"there is no shape {name!r}; shapes: {', '.join(SHAPES)}; or local, wide, demo")
    return rows


def main() -> None:
    """Measure and write after each row, so that an interrupted run leaves what it has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the engine, beside its peer.")
    parser.add_argument("--peer", choices=["", "spu"], default="")
    parser.add_argument("--quick", action="store_true", help="few repetitions: for trying the benchmark itself")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--model", type=Path, help="a shared model for the demo or the alarm, in place of the demo's own")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.names == ["drafts"]:
        for row in drafts.measure():
            print(drafts.line(row), flush=True)
        return
    if options.names == ["alarm"]:
        print("\n".join(alarm.both(options.model)))
        return
    rows = chosen(options.names)
    peer = Peer() if options.peer else None
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "rows": [], "roofline": {}}
    if not options.names or DEMO in options.names:
        results["demo"] = measure_demo(options.model, quick=options.quick)
        print("\n".join(promises.lines(results["demo"])), flush=True)
        write(results, options.out)
    with tempfile.TemporaryDirectory(prefix="trine-bench-models-") as models:
        for work in rows:
            row = measure(work, Path(models), quick=options.quick)
            if peer is not None and work.peered and (beside := peer.measure(work)):
                row["peer"] = beside
            if work.shape not in results["roofline"]:
                results["roofline"][work.shape] = roofline.both(work.shape, ONE_THREAD)
            results["rows"].append(row)
            print(line(row, results["roofline"]), flush=True)
            write(results, options.out)
    print(f"written: {options.out}/report.md, report.json")


if __name__ == "__main__":
    main()
