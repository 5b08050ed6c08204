"""Text on a person's terminal, and on its way in: nothing in it steers the terminal, and no letter ends a program."""

from __future__ import annotations

import codecs
import os
import re
import sys
from io import TextIOWrapper
from typing import TextIO

from engine.errors import InputError

__all__ = ["MAX_QUESTION", "as_text", "forgive_letters", "read_question", "shown", "visible", "writes"]

MAX_QUESTION = 1 << 20
"""Characters: eight for each of the 131,072 tokens that a model takes at most (`engine.models.config`)."""

# C0 but newline and tab, DEL, C1 (NEL among them), the separators of lines and paragraphs, what embeds, overrides or isolates a
# direction of writing, and the format characters that Unicode calls deprecated. Direction marks and zero-width joiners stay:
# Arabic, Indian scripts and emoji need them, and a terminal does nothing at them.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f]")

_BYTES = re.compile("[\ud800-\udfff]")  # what Python makes of a byte that the locale does not know


def visible(text: str) -> str:
    """The text with each control but newline and tab spelled out: ``\\x1b`` for an escape, ``\\u202e`` for an override."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def shown(text: str, stream: TextIO) -> str:
    """What to write of a text: on a terminal nothing in it is obeyed; elsewhere it stays as it is."""
    return visible(text) if stream.isatty() else text


def forgive_letters() -> None:
    """Letters that stdout cannot write are replaced, and bytes from stdin that are no text get as far as the check for that."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(sys.stderr, TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, TextIOWrapper):
        ascii_only = (
            codecs.lookup(sys.stdin.encoding).name == "ascii"
        )  # so says a locale without letters; UTF-8 holds all of it
        sys.stdin.reconfigure(encoding="utf-8" if ascii_only else None, errors="surrogateescape")


def writes(text: str, stream: TextIO) -> bool:
    """Whether a stream's encoding has all letters of a text."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_text(argument: str) -> str:
    """A word of the command line, read as UTF-8 where the locale made no text of it."""
    try:
        return os.fsencode(argument).decode("utf-8") if _BYTES.search(argument) else argument
    except UnicodeError:
        return argument  # which is told where text is needed


def read_question(stream: TextIO, *, line: bool) -> str:
    """All of a stream, or its next line; "" at its end.

    Raises:
        InputError: it is longer than any model takes. No more of it than that is read.
    """
    text = stream.readline(MAX_QUESTION + 2) if line else stream.read(MAX_QUESTION + 2)
    if len(text.rstrip("\r\n")) > MAX_QUESTION:
        raise InputError(f"the question is longer than {MAX_QUESTION:,} characters, which no model takes: shorten it")
    return text
