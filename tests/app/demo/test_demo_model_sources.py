"""A shared demo model is never older than the code that makes packs: whatever that code imports is in its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.demo import demo_model
from app.sharing import reading
from engine.provision import masking, share

ROOT = Path(__file__).resolve().parents[3]
MAKES_PACKS = (share.__name__, masking.__name__, reading.__name__)

EXCEPTED = {  # imported by what makes packs, and not in the name of the shared model: the reason
    "engine/errors.py": "holds sentences for people",
    "engine/host/memory.py": "asks how much memory there is; a pack does not depend on it",
    "engine/host/process.py": "asks for memory; what stands in it is its callers'",
    "engine/parties/pack.py": "holds a pack at a node; writes none",
    "engine/step.py": "holds what a step asks for and answers, which a pack knows nothing of",
    "engine/parties/retry.py": "holds a number of tries and a sentence",
}


def file_of(module: str) -> Path | None:
    """The source of a module of ours."""
    place = ROOT.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), str(file))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file may import, at any place in it: of `from a import b`, a and a.b."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_by(modules: tuple[str, ...]) -> set[str]:
    """The files of ours that these modules import, directly or not, and their own; not those that hold a docstring alone."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        file = file_of(module)
        if file is None or file in found:
            continue
        found.add(file)
        waiting += imports(file)
        waiting += [module.rpartition(".")[0]] if "." in module else []
    holding = {file for file in found if any(not isinstance(node, ast.Expr) for node in tree(file).body)}
    return {file.relative_to(ROOT).as_posix() for file in holding}


def named() -> set[str]:
    return {file.relative_to(ROOT).as_posix() for file in demo_model.made_from()}


def test_what_the_makers_of_packs_import_is_in_the_name() -> None:
    missing = imported_by(MAKES_PACKS) - named() - EXCEPTED.keys()
    assert not missing, f"{sorted(missing)}: add to ROOMS or FILES of {demo_model.__name__}, or except them here with a reason"


def test_each_exception_and_each_room_is_needed() -> None:
    needed = imported_by(MAKES_PACKS)
    assert not EXCEPTED.keys() - needed, "excepted, and not imported"
    assert not EXCEPTED.keys() & named(), "excepted, and in the name"
    for room in demo_model.ROOMS:
        assert any(file.startswith(f"engine/{room}/") for file in needed), f"the room {room} is empty, or does not make packs"
    for file in demo_model.FILES:
        assert file in needed, f"{file} does not make packs"


def test_what_makes_packs_and_the_texts_are_among_it() -> None:
    """The walk over the imports finds what it must: the program, its kernels, the masks."""
    found = named()
    assert {"engine/models/llama.py", "engine/parties/masks.py", "assets/calibration/prose.txt"} <= found
    assert any(file.endswith("/words.py") for file in found)
    assert {"engine/models/llama.py", "engine/parties/plain.py", "engine/errors.py"} <= imported_by(MAKES_PACKS)


@pytest.mark.parametrize("which", range(0, 1000, 97))
def test_a_change_in_any_of_it_gives_another_name(which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = demo_model.made_from()
    changed = tmp_path / "changed"
    monkeypatch.setattr(demo_model, "made_from", lambda: files)
    before = demo_model.made_by()
    at = which % len(files)
    changed.write_bytes(files[at].read_bytes() + b"\n")
    monkeypatch.setattr(demo_model, "made_from", lambda: [*files[:at], changed, *files[at + 1 :]])
    assert demo_model.made_by() != before
