"""Compare what `make test` measured with what is promised in tests/coverage.toml: `python -m tests.coverage_floor`.

Each package has a floor, which may only rise; the rooms under `whole` are reached line by line and branch by branch,
but for what is named under `unreached`, each with its reason. Without a fresh measurement nothing can be compared: that
is said, and is a failure only in CI, where `make test` has just run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROMISES = "tests/coverage.toml"
MEASURED = ROOT / ".coverage-units"
"""Coverage's data of the tests that `make test` runs in pairs; the Makefile names it too."""

ROOM_TO_RISE = 1.0
"""Percent by which a package may lie above its floor before it is said that the floor could rise."""

Files = Mapping[str, Mapping[str, Any]]


def percent(files: Files, package: str) -> float:
    """Lines and branches of a package that were reached, of all that it has; 100 where it has none."""
    summaries = [found["summary"] for name, found in files.items() if name.startswith(f"{package}/")]
    reached = sum(each["covered_lines"] + each["covered_branches"] for each in summaries)
    there = sum(each["num_statements"] + each["num_branches"] for each in summaries)
    return 100 * reached / there if there else 100.0


def missing(found: Mapping[str, Any], source: list[str]) -> dict[str, int]:
    """The lines of a file that were not reached, or from which not every branch was taken: {their text: their number}."""
    numbers = {*found["missing_lines"], *(branch[0] for branch in found["missing_branches"])}
    return {source[number - 1].strip(): number for number in sorted(numbers)}


def breaches(
    files: Files, promises: Mapping[str, Any], sources: Mapping[str, list[str]], highest: Mapping[str, float]
) -> list[str]:
    """What is promised and not kept, a line each.

    Args:
        files: coverage's JSON report, its `files`.
        promises: what tests/coverage.toml holds.
        sources: the lines of each file.
        highest: the highest floor that was ever committed, by package.
    """
    found = []
    for package, floor in promises["floor"].items():
        if floor < highest.get(package, 0.0):
            found.append(f"the floor of {package} fell from {highest[package]} to {floor}: it may only rise")
        if (reached := percent(files, package)) < floor:
            found.append(
                f"{package}: the unit tests reach {reached:.1f} % of lines and branches, less than the floor of {floor} %"
            )
    excused = {(entry["file"], entry["line"]) for entry in promises.get("unreached", ())}
    open_ends = {
        (name, text): number
        for name, report in files.items()
        if name.startswith(tuple(promises["whole"]))
        for text, number in missing(report, sources[name]).items()
    }
    for room in promises["whole"]:
        if not any(name.startswith(room) for name in files):
            found.append(f"{PROMISES}: nothing was measured in {room}")
    for (name, text), number in open_ends.items():
        if (name, text) not in excused:
            found.append(f"{name}:{number}: not reached, or not in every direction: {text}")
    for name, text in sorted(excused - set(open_ends)):
        found.append(f"{PROMISES}: {name} does reach `{text}`, or has no such line: take the entry away")
    return found


def raisable(files: Files, floors: Mapping[str, float]) -> list[str]:
    """The floors that lie well below what was measured, a line each."""
    return [
        f"{package}: {reached:.1f} % reached; its floor of {floor} % could rise"
        for package, floor in floors.items()
        if (reached := percent(files, package)) > floor + ROOM_TO_RISE
    ]


def highest_committed() -> dict[str, float]:
    """The highest floor of each package in the history of the promises; nothing where there is no history."""
    log = subprocess.run(["git", "log", "--format=%H", "--", PROMISES], cwd=ROOT, capture_output=True, text=True)  # noqa: S607
    highest: dict[str, float] = {}
    for commit in log.stdout.split():
        shown = subprocess.run(["git", "show", f"{commit}:{PROMISES}"], cwd=ROOT, capture_output=True, text=True)  # noqa: S607
        if shown.returncode == 0:
            for package, floor in tomllib.loads(shown.stdout)["floor"].items():
                highest[package] = max(floor, highest.get(package, 0.0))
    return highest


def stale() -> str:
    """Why there is nothing to compare; "" if there is."""
    if not MEASURED.exists():
        return "coverage was not measured"
    newest = max(path.stat().st_mtime for package in ("app", "engine", "party_node") for path in (ROOT / package).rglob("*.py"))
    return "a source is newer than the measurement of coverage" if newest > MEASURED.stat().st_mtime else ""


def measured() -> dict[str, Any]:
    """Coverage's JSON report, its `files`."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", f"--data-file={MEASURED}", "-q", "-o", str(out)]
        subprocess.run(command, cwd=ROOT, check=True)
        files: dict[str, Any] = json.loads(out.read_text())["files"]
    return files


def main() -> int:
    """The exit code: 1 if a promise is not kept, or if CI has no measurement."""
    if why := stale():
        print(f"{why}, so it is not compared with {PROMISES}: run `make test` first")
        return 1 if os.environ.get("CI") else 0
    files = measured()
    promises = tomllib.loads((ROOT / PROMISES).read_text())
    sources = {name: (ROOT / name).read_text().splitlines() for name in files}
    found = breaches(files, promises, sources, highest_committed())
    for line in [*found, *raisable(files, promises["floor"])]:
        print(line)
    if not found:
        print("coverage: " + ", ".join(f"{package} {percent(files, package):.1f} %" for package in promises["floor"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
