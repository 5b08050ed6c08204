"""The colours of program text, by Pygments."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import groupby
from typing import Any

from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]  # has no types
from pygments.styles import get_style_by_name  # type: ignore[import-untyped]  # has no types

__all__ = ["colored"]

LONGEST = 10_000
"""Characters of a block of code beyond which it stays uncoloured."""


@lru_cache(maxsize=256)  # a growing answer shows its earlier code again and again
def colored(language: str, text: str, style: str) -> tuple[tuple[str, str], ...]:
    """The pieces of `text`, which together are all of it, each with its colour; "" is that of text."""
    lexer = _lexer(language)
    if lexer is None or len(text) > LONGEST:
        return ((text, ""),)
    found = [
        ("".join(piece for _, piece in pieces), color)
        for color, pieces in groupby(lexer.get_tokens(text), lambda token: _token_color(token[0], style))
    ]
    return tuple(found) if "".join(piece for piece, _ in found) == text else ((text, ""),)


@lru_cache(maxsize=64)  # an answer names what it likes
def _lexer(language: str) -> Any:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ValueError:  # no lexer of that name
        return None


@cache
def _token_color(kind: object, style: str) -> str:
    """`#rrggbb`, or "" for the colour of text."""
    color = get_style_by_name(style).style_for_token(kind)["color"]
    return f"#{color}" if color else ""
