"""The benchmark runs on tiny shapes, and what it measures is the program: its outputs agree with the clear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("shape", ["tiny-layer", pytest.param("tiny", marks=pytest.mark.long)])
def test_a_row_is_measured_and_right(shape: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path), shape]
    subprocess.run(command, cwd=ROOT, check=True, timeout=100, capture_output=True)
    (row,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert row["check"]["error"] < 0.05 * row["check"]["deviation"]
    steps = 2
    rounds = sum(row["online"]["nodes"][0]["rounds"].values()) / steps
    assert rounds == (24 if shape == "tiny-layer" else 2 + 2 * 24 + 5)
    assert "| work |" in (tmp_path / "report.md").read_text()
