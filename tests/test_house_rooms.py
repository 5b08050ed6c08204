"""Rules of the house between files: no circle of imports, and gates in their room alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set

import pytest

from tests.test_house import PACKAGES, python_files, tree


def module_of(name: str) -> str:
    """The dotted name of a file's module."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(module: str) -> str:
    """Its package's folder, or the file by itself where it lies in none."""
    return ".".join(module.split(".")[:2])


def imported(node: ast.AST, *, at_import: bool) -> Iterator[str]:
    """The modules, and the names in modules, that a file imports: all, or what it imports when it is imported itself."""
    for child in ast.iter_child_nodes(node):
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imported(child, at_import=at_import)


def arrows(*, at_import: bool) -> dict[str, set[str]]:
    """Who imports whom, by module."""
    files = {module_of(name): name for name in python_files(*PACKAGES)}
    return {
        module: {other for other in imported(tree(name), at_import=at_import) if other in files and other != module}
        for module, name in files.items()
    }


def in_a_circle(arrows: Mapping[str, Set[str]]) -> set[str]:
    """Those that stand in a circle, or import one that does: what is left when those that import nobody are taken away."""
    left = {name: set(others) for name, others in arrows.items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    return set(left)


def test_a_circle_is_found() -> None:
    assert in_a_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"a", "b", "c"}
    assert in_a_circle({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert not in_a_circle(arrows(at_import=True))


def test_no_rooms_import_each_other_at_any_time() -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in arrows(at_import=False).items():
        own = rooms.setdefault(room_of(module), set())
        own |= {room_of(other) for other in others} - {room_of(module), *PACKAGES}
    assert not in_a_circle(
        {room: others for room, others in rooms.items() if room not in PACKAGES and not room.startswith("party_node.")}
    )


def makes_a_gate(name: str) -> bool:
    """Whether a file calls `Gate` at its top level."""
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Gate"
        for node in ast.walk(tree(name))
    )


@pytest.mark.parametrize("name", python_files(*PACKAGES))
def test_gates_stand_in_their_room_alone(name: str) -> None:
    in_room = name.startswith("engine/gates/") and not name.endswith("__init__.py")
    assert makes_a_gate(name) == in_room, "a gate elsewhere, or a file of the gates' room without one"
