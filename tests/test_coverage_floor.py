"""The comparison of coverage with what is promised: each way in which a promise is broken is told."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests import coverage_floor
from tests.alone import ALONE, TESTS
from tests.coverage_floor import PROMISES, ROOT, breaches, percent, raisable

SOURCE = ["def sign(x: int) -> int:", "    if x < 0:", "        return -1", "    return 1"]


def report(missing_lines: list[int] | None = None, missing_branches: list[list[int]] | None = None) -> dict[str, Any]:
    """Of a file of four statements and two branches, as coverage writes it."""
    lines, branches = missing_lines or [], missing_branches or []
    summary = {
        "covered_lines": 4 - len(lines),
        "num_statements": 4,
        "covered_branches": 2 - len(branches),
        "num_branches": 2,
    }
    return {"summary": summary, "missing_lines": lines, "missing_branches": branches}


WHOLE = {"engine/gates/sign.py": report()}
PART = {"engine/gates/sign.py": report([3], [[2, 3]])}
PROMISED: dict[str, Any] = {"whole": ["engine/gates/"], "floor": {"engine": 60.0}}
EXCUSES = [{"file": "engine/gates/sign.py", "line": text.strip(), "reason": "…"} for text in SOURCE[1:3]]


def found(files: dict[str, Any], promises: dict[str, Any] = PROMISED, highest: dict[str, float] | None = None) -> list[str]:
    return breaches(files, promises, dict.fromkeys(files, SOURCE), highest or {})


def test_lines_and_branches_count_alike() -> None:
    assert percent(WHOLE, "engine") == 100
    assert percent(PART, "engine") == pytest.approx(100 * 4 / 6)
    assert percent(PART, "app") == 100  # of nothing nothing is missing


def test_what_is_reached_is_well() -> None:
    assert not found(WHOLE)


def test_less_than_the_floor_is_told() -> None:
    (line,) = found({"engine/prf/sign.py": report([1, 2, 3], [[2, 3]]), **WHOLE}, PROMISED | {"floor": {"engine": 67.0}})
    assert line == "engine: the unit tests reach 66.7 % of lines and branches, less than the floor of 67.0 %"


def test_a_floor_below_the_highest_that_was_committed_is_told() -> None:
    (line,) = found(WHOLE, highest={"engine": 61.0})
    assert "fell from 61.0 to 60.0" in line


def test_each_open_end_of_a_whole_room_is_told() -> None:
    assert found(PART) == [
        "engine/gates/sign.py:2: not reached, or not in every direction: if x < 0:",
        "engine/gates/sign.py:3: not reached, or not in every direction: return -1",
    ]
    assert not found(PART, PROMISED | {"unreached": EXCUSES})


def test_an_excuse_that_is_not_needed_is_told() -> None:
    lines = found(WHOLE, PROMISED | {"unreached": EXCUSES})
    assert len(lines) == 2
    assert all("take the entry away" in line for line in lines)


def test_a_room_in_which_nothing_was_measured_is_told() -> None:
    (line,) = found(WHOLE, PROMISED | {"whole": ["engine/gates/", "engine/gone/"]})
    assert "nothing was measured in engine/gone/" in line


def test_a_floor_that_could_rise_is_told() -> None:
    assert raisable(WHOLE, {"engine": 98.0}) == ["engine: 100.0 % reached; its floor of 98.0 % could rise"]
    assert not raisable(WHOLE, {"engine": 99.5})


def test_without_a_fresh_measurement_only_ci_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage_floor, "MEASURED", tmp_path / "measured")
    monkeypatch.delenv("CI", raising=False)
    assert coverage_floor.main() == 0
    assert (
        capsys.readouterr().out == f"coverage was not measured, so it is not compared with {PROMISES}: run `make test` first\n"
    )
    (tmp_path / "measured").touch()
    os.utime(tmp_path / "measured", (0, 0))
    monkeypatch.setenv("CI", "true")
    assert coverage_floor.main() == 1
    assert "a source is newer" in capsys.readouterr().out


def test_each_excuse_has_a_reason() -> None:
    promises = tomllib.loads((ROOT / PROMISES).read_text())
    assert set(promises["floor"]) == {"app", "engine", "party_node"}
    assert all(set(entry) == {"file", "line", "reason"} and entry["reason"] for entry in promises.get("unreached", ()))


def test_what_runs_alone_is_there() -> None:
    assert not [name for name in ALONE if not (TESTS / name).exists()]


def test_the_rooms_that_are_reached_whole_stay_so() -> None:
    promised = set(tomllib.loads((ROOT / PROMISES).read_text())["whole"])
    assert {"engine/session/", "engine/gates/", "engine/program/", "engine/rows/", "engine/link/frames.py"} <= promised
