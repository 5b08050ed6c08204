"""Errors: the sentence the user reads, the exit code, and one list of codes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import engine
from engine.errors import (
    CODES,
    InputError,
    LinkError,
    ModelError,
    ProtocolError,
    SessionStopped,
    TrineError,
    sentence,
)

ROOT = Path(engine.__file__).parent.parent


def codes_raised(path: Path) -> set[str]:
    """Every literal first argument of ProtocolError(…) and PeerError(…) in a file."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"ProtocolError", "PeerError"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_every_code_that_is_raised_is_in_the_list() -> None:
    files = [path for package in ("engine", "party_node", "app") for path in (ROOT / package).rglob("*.py")]
    raised = set().union(*(codes_raised(path) for path in files))
    assert "truncated" in raised
    assert raised <= set(CODES)


def test_every_sentence_is_one() -> None:
    for code, text in CODES.items():
        assert code == code.lower().strip()
        assert text[0].isupper()
        assert text.endswith(".")


@pytest.mark.parametrize(
    ("error", "text", "exit_code"),
    [
        (ModelError("no tensor a.b", "/m/x.gguf"), "/m/x.gguf: no tensor a.b", 2),
        (ModelError("no tensor a.b", Path("/m")), "/m: no tensor a.b", 2),
        (ModelError("no tensor a.b"), "no tensor a.b", 2),
        (InputError("The prompt is empty."), "The prompt is empty.", 2),
        (InputError(), "This cannot be done: empty, too long or with an unknown token.", 2),
        (LinkError(), "The connection was lost.", 3),
        (LinkError("hung up"), "hung up", 3),
        (LinkError("hung up", "node 1"), "node 1: hung up", 3),
        (LinkError("hung up").at("node 2"), "node 2: hung up", 3),
        (LinkError("hung up", "10.0.0.1:5").at("node 2"), "node 2: hung up", 3),
        (ProtocolError("truncated"), "A message ended too early. (truncated)", 3),
        (ProtocolError("truncated", "3 bytes"), "A message ended too early. (truncated: 3 bytes)", 3),
        (ProtocolError("?", "x"), "The other side broke the protocol. (?: x)", 3),
        (SessionStopped(), "Stopped.", 0),
        (TrineError(), "Trine cannot go on.", 1),
    ],
)
def test_an_error_says_what_happened_and_where(error: TrineError, text: str, exit_code: int) -> None:
    assert isinstance(error, TrineError)
    assert (str(error), error.exit_code) == (text, exit_code)


def test_an_error_without_docstring_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionStopped, "__doc__", None)  # as under `python -OO`
    assert sentence(SessionStopped) == "SessionStopped"
