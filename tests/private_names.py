"""Where a file reaches into a private name of another one: a name with one underscore in front."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

PRIVATE = re.compile(r"_(?!_)\w+")
OWN = ("self", "cls")
BY_TEXT = ("setattr", "delattr", "getattr", "hasattr")
PROGRAM = re.compile(r"\b(?!self\b|cls\b|os\._exit\b)\w+\.(_(?!_)\w+)")


def reaches(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, private name) of each attribute, import, name by text and line of a program in a string.

    A file's own private names are its own, whatever they are read of; `os._exit` is public.
    """
    own = set(_defined(tree))
    for node in ast.walk(tree):
        for name in _names(node):
            if PRIVATE.fullmatch(name) and name not in own:
                yield getattr(node, "lineno", 0), name


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        if of not in OWN and (of, node.attr) != ("os", "_exit"):
            yield node.attr
    elif isinstance(node, ast.ImportFrom):
        yield from (node.module or "").split(".")
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in BY_TEXT:
            texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield from (text.rpartition(".")[2] for text in texts)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
        yield from PROGRAM.findall(node.value)


def _defined(tree: ast.Module) -> Iterator[str]:
    """Functions, classes, variables, and attributes that a class of this file sets on itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and getattr(node.value, "id", "") in OWN:
            yield node.attr
