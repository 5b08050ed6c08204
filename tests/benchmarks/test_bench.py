"""The benchmark runs on tiny shapes, and what it measures is the program: its outputs agree with the clear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import chosen
from benchmarks.report import link_bytes
from benchmarks.shapes import Work

ROOT = Path(__file__).resolve().parents[2]


def measured(name: str, directory: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(directory), name]
    subprocess.run(command, cwd=ROOT, check=True, timeout=100, capture_output=True)
    assert "| work |" in (directory / "report.md").read_text()
    (row,) = json.loads((directory / "report.json").read_text())["rows"]
    assert row["check"]["error"] < 0.05 * row["check"]["deviation"]
    return dict(row)


@pytest.mark.parametrize("shape", ["tiny-layer", pytest.param("tiny", marks=pytest.mark.long)])
def test_a_row_is_measured_and_right(shape: str, tmp_path: Path) -> None:
    row, steps = measured(shape, tmp_path), 2
    rounds = sum(row["online"]["nodes"][0]["rounds"].values()) / steps
    assert rounds == (20 if shape == "tiny-layer" else 2 + 2 * 20 + 4)


@pytest.mark.long
def test_a_prompt_longer_than_the_queue_and_a_context_longer_than_any_public_prefix(tmp_path: Path) -> None:
    prompt = measured("tiny:200@1", tmp_path)
    first, second, peer = link_bytes(prompt)
    assert 0 < first < second
    assert prompt["online"]["rows"] == 200
    further = measured("tiny:1@600", tmp_path)
    assert link_bytes(further)[1] > second  # a token at 600 keys is dealt more than one of the 200
    assert link_bytes(further)[2] > peer


def test_rows_by_name() -> None:
    assert chosen(["demo"]) == []
    assert chosen(["smollm2:1@1024"]) == [Work("smollm2", 1, 1024)]
    assert (Work("smollm2", 1, 1024).given, Work("smollm2", 1, 1024).capacity) == (512, 1281)
    with pytest.raises(SystemExit, match="no shape 'smol'"):
        chosen(["smol"])
