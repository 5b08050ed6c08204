"""Each example runs as a program, and shows what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text("utf-8"))


@cache
def run(name: str) -> str:
    """What the example prints; its exit status must be 0. Under -O, so that nothing it checks rests on an assert statement."""
    command = [sys.executable, "-O", str(EXAMPLES / name)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return ran.stdout


def tokens(text: str) -> set[str]:
    """The tokens that an example names as the most likely next one."""
    return {token for line in re.findall(r"most likely next token: (.*)", text) for token in re.findall(r"\d+", line)}


def test_a_secure_product() -> None:
    shown = run("secure_product.py")
    assert "1 round, 32 bytes each way" in shown
    assert shown.count("[[ 6.    -1.125 -3.75   1.   ]]") == 2


def test_a_layer_beside_the_clear_and_a_session_give_the_same_token() -> None:
    layer = run("decoder_layer.py")
    session = run("client_session.py")
    assert "the layer: 20 rounds" in layer
    assert "STEP → ANSWER after 26 rounds" in session
    assert len(tokens(layer)) == 1
    assert tokens(session) == tokens(layer)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs_and_fails_if_what_it_shows_is_wrong(script: Path) -> None:
    assert run(script.name)
    assert "raise SystemExit(" in script.read_text("utf-8")
