"""What stands in the wheel, what `make help` lists, and that the documents name files that are there."""

from __future__ import annotations

import re
import subprocess

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.test_house import PACKAGES, ROOT

DOCUMENTS = ("CONTRIBUTING.md", "README.md", "docs/architecture.md", "docs/gates.md", "docs/threads.md")

IN_BACKTICKS = re.compile(r"`([\w.-]+(?:/[\w.-]*)+)`")
LINKED = re.compile(r"\]\(([^)#:]+)\)")
NOT_OURS = {".venv/bin/trine"}  # what make makes


def test_the_wheel_holds_the_packages_with_their_types() -> None:
    files = {included.distribution_path for included in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"{package}/py.typed" for package in PACKAGES} <= files
    assert "engine/ring/kernels/words.py" in files
    assert not [name for name in files if not name.startswith((*(f"{package}/" for package in PACKAGES), "assets/"))]


def test_make_help_lists_every_target_with_what_it_does() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    names = [line.split(maxsplit=1)[0] for line in listed.splitlines()]
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    assert sorted(names) == sorted(phony.split()[1:])
    assert all(len(line.split(maxsplit=1)) == 2 for line in listed.splitlines())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_names_files_that_are_there(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    named = {found for found in IN_BACKTICKS.findall(text) if not found.startswith(tuple(NOT_OURS))}
    linked = {str((ROOT / name).parent / found) for found in LINKED.findall(text)}
    missing = [path for path in sorted(named | linked) if not (ROOT / path).exists()]
    assert named | linked
    assert not missing
