"""A rule of the house: no test and no benchmark reaches for a private name of another file, but for what stands here."""

from __future__ import annotations

import ast

import pytest

from tests.private_names import reaches
from tests.test_house import python_files, report, tree

# (file of a test or a benchmark, private name of another file): the reason why it may reach for it
PRIVATE_ALLOWED: dict[tuple[str, str], str] = {
    ("tests/app/local_party/test_calling.py", "_step"): "plants a wait that no stop reaches",
    ("tests/app/local_party/test_calling.py", "_stop"): "plants a node that hears a stop late",
    ("tests/app/local_party/test_dealing.py", "_changed"): "stands between two acts of the dealing thread",
    ("tests/app/local_party/test_dealing.py", "_next_rows"): "asks what the dealing thread would do while it is held",
    ("tests/engine/ring/kernels/test_kernel_sources.py", "_defn"): "numba's own, with no public way to the function",
    ("tests/party_node/test_silence.py", "_give_way"): "plants a dealer that is slow within a section",
    ("tests/party_node/test_silence.py", "_pass"): "plants a node that computes for long",
    ("tests/privacy/mutants.py", "_pending"): "plants a leak: what is not yet opened",
    ("tests/privacy/pads.py", "_drawn"): "records each word where it is drawn",
    ("tests/privacy/parts.py", "_book"): "waits until the dealing thread is at rest",
    ("tests/privacy/parts.py", "_changed"): "waits until the dealing thread is at rest",
    ("tests/privacy/parts.py", "_inbox"): "waits until the dealing thread is at rest",
    ("tests/privacy/parts.py", "_next_rows"): "waits until the dealing thread is at rest",
    ("tests/privacy/roots.py", "_drawn"): "records each root where it is drawn",
    ("tests/privacy/session_leaks.py", "_deal"): "plants a leak in the dealing thread",
    ("tests/privacy/session_leaks.py", "_give_way"): "plants a leak in the dealing thread",
    ("tests/privacy/session_leaks.py", "_indices"): "plants a leak in the dealer",
    ("tests/privacy/session_leaks.py", "_next_rows"): "plants a leak in the dealing thread",
    ("tests/privacy/session_leaks.py", "_room"): "plants a leak in the dealing thread",
    ("tests/privacy/views.py", "_prepared"): "records what an evaluator holds where it is prepared",
}


def test_no_test_reaches_for_a_private_name() -> None:
    reached = [(name, line, private) for name in python_files("tests", "benchmarks") for line, private in reaches(tree(name))]
    found = [f"{name}:{line}: {private}" for name, line, private in reached if (name, private) not in PRIVATE_ALLOWED]
    assert not found, report(found)
    assert not set(PRIVATE_ALLOWED) - {(name, private) for name, _, private in reached}, "a reason without need"


@pytest.mark.parametrize(
    "source",
    [
        "session.NAME.take()",
        "from engine.link.handshake import NAME",
        "from engine.NAME import words",
        'monkeypatch.setattr(display, "NAME", 1)',
        'monkeypatch.setattr("party_node.server.NAME", 1)',
        'program = "import party_node.main as m; m.NAME = 1"',
    ],
)
def test_each_way_to_a_private_name_is_seen(source: str) -> None:
    assert [name for _, name in reaches(ast.parse(source.replace("NAME", "_limit")))] == ["_limit"]


def test_a_files_own_private_names_are_its_own() -> None:
    own = "class A:\n    def __init__(self, other: A) -> None:\n        self._left = other._left\nos._exit(A(b).__class__)"
    assert not list(reaches(ast.parse(own)))
