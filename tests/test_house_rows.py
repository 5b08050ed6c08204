"""A rule of the house: rows are booked in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.test_house import PACKAGES, python_files, report, tree

BOOK_OF_ROWS = {  # what a book of rows counts, whatever the class is called; `engine/rows` keeps the only one
    *("used", "left", "next_row", "last_row", "last_announced", "last_spent", "dealt_position"),
    *("_next_row", "_last_row", "_last_announced", "_last_spent", "_dealt_position"),
}


def fields_kept(name: str) -> Iterator[tuple[int, str]]:
    """(line, name) of every attribute that a file assigns, and of every field of its classes."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ClassDef):
            fields = (part.target for part in node.body if isinstance(part, ast.AnnAssign))
            yield from ((target.lineno, target.id) for target in fields if isinstance(target, ast.Name))


def test_the_book_of_rows_exists_once() -> None:
    """Dealer, evaluators, sessions and the desktop's dealing ask `RowQueue` which rows were used; none counts them itself."""
    found = [
        f"{name}:{line}: {field}: rows are booked by engine/rows/queue.py"
        for name in python_files(*PACKAGES)
        if not name.startswith("engine/rows/")
        for line, field in fields_kept(name)
        if field in BOOK_OF_ROWS
    ]
    assert not found, report(found)
