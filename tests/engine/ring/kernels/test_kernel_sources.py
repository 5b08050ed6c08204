"""No kernel is taken from a cache of other sources: what is compiled into kernels names their directory."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, GenericAlias, UnionType
from typing import Any

import pytest

import engine
from engine.ring.kernels import jit

ROOM = jit.RING  #: of whose sources the directory's name is a digest
ENGINE = Path(engine.__file__).parent
COMPILES = {"kernel", "inlined", "instruction", "numba"}  #: what of the compiler's module makes kernels


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ENGINE.parent).with_suffix("").parts)


def compiles(file: Path) -> bool:
    """Whether a file imports what compiles: from our module for it, or numba itself."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "numba" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numba":
            return True
        if isinstance(node, ast.ImportFrom) and node.module == jit.__name__ and COMPILES & {alias.name for alias in node.names}:
            return True
        whole = isinstance(node, ast.ImportFrom) and any(f"{node.module}.{alias.name}" == jit.__name__ for alias in node.names)
        if whole:
            return True
    return False


def kernel_files() -> list[Path]:
    return [file for file in sorted(ENGINE.rglob("*.py")) if compiles(file)]


def compiled(module: Any) -> Iterator[FunctionType]:
    """The Python functions of a module's own kernels and parts of kernels."""
    for value in vars(module).values():
        function = getattr(value, "py_func", None) or getattr(value, "_defn", None)
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            yield function


def test_every_file_that_holds_kernels_lies_in_the_room() -> None:
    files = kernel_files()
    assert {"words", "linear", "points", "chacha"} <= {file.stem for file in files}
    outside = [str(file) for file in files if not file.is_relative_to(ROOM)]
    assert not outside, f"{outside}: a change there would be passed over while a kernel of before is in the cache"
    with_kernels = [file for file in files if any(compiled(importlib.import_module(module_of(file))))]
    assert len(with_kernels) > 5


@pytest.mark.parametrize("file", kernel_files(), ids=lambda file: file.stem)
def test_whatever_is_compiled_into_a_kernel_lies_in_the_room(file: Path) -> None:
    """Numba takes a constant's value, and another kernel's code, as they are when it compiles."""
    names = {alias.asname or alias.name: node.module or "" for node, alias in imported(file)}
    for function in compiled(importlib.import_module(module_of(file))):
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if name not in names or isinstance(value, type | GenericAlias | UnionType) or value is None:
                continue
            source = sys.modules[names[name]].__file__ or ""
            assert not source.startswith(str(ENGINE)) or Path(source).is_relative_to(ROOM), f"{function.__name__} uses {name}"


def imported(file: Path) -> Iterator[tuple[ast.ImportFrom, ast.alias]]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            yield from ((node, alias) for alias in node.names)


# Programs on a copy of the engine, in which one kernel calls another one of a second file.

INNER = """
from {jit} import kernel

@kernel
def inner(x: int) -> int:
    return x + {more}
"""
OUTER = """
from {jit} import kernel
from {room}.inner import inner

@kernel
def outer(x: int) -> int:
    return 2 * inner(x)
"""
CALL = """
from {room}.outer import outer
print(outer(20), *(sum(outer.stats[i].values()) for i in (1, 2)))
"""


class Version:
    """A version of Trine in a directory of its own, with a cache that others of it may share."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = root, cache
        shutil.copytree(ENGINE, root / "engine", ignore=shutil.ignore_patterns("__pycache__"))
        self.words = {"jit": jit.__name__, "room": jit.__name__.rpartition(".")[0]}
        self.kernels = root.joinpath(*self.words["room"].split("."))
        (self.kernels / "outer.py").write_text(OUTER.format(**self.words))
        self.write_inner(1)

    def write_inner(self, more: int) -> None:
        (self.kernels / "inner.py").write_text(INNER.format(more=more, **self.words))

    def run(self) -> tuple[int, int, int]:
        """What `outer` of 20 is, how often it was read from the cache, and how often compiled."""
        environment = os.environ | {"XDG_CACHE_HOME": str(self.cache), "PYTHONPATH": str(self.root)}
        words = [sys.executable, "-P", "-B", "-c", CALL.format(**self.words)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100, check=True)
        value, read, made = map(int, done.stdout.split())
        return value, read, made

    def directories(self) -> set[Path]:
        return set((self.cache / "trine" / "numba").iterdir())


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(tmp_path / "one", tmp_path / "cache")


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(version: Version) -> None:
    """Its own file is the same, to the second: numba alone would take the old one from the cache."""
    assert version.run() == (42, 0, 1)
    assert version.run() == (42, 1, 0)
    version.write_inner(2)
    assert version.run() == (44, 0, 1)
    version.write_inner(1)
    assert version.run() == (42, 1, 0)
    assert len(version.directories()) == 2


def test_a_cache_of_other_sources_beside_it_is_not_taken(version: Version, tmp_path: Path) -> None:
    """Two versions share a cache; files of the same names lie in the other one's directory."""
    other = Version(tmp_path / "two", version.cache)
    other.write_inner(5)
    assert other.run() == (50, 0, 1)
    (theirs,) = version.directories()
    assert version.run() == (42, 0, 1)
    (ours,) = version.directories() - {theirs}
    mine = {path.name for path in ours.iterdir()}
    assert mine == {path.name for path in theirs.iterdir()}, "the names alone do not tell them apart"
    assert other.run() == (50, 1, 0)
    assert version.run() == (42, 1, 0)
