"""The special tokens that a chat template may name, in the clients' file: special_tokens.json, with a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from engine.checkpoint.fields import read_json

__all__ = ["NAME", "VERSION", "read_special_tokens", "write_special_tokens"]

NAME = "special_tokens.json"
VERSION = 1
"""Of what the tokenizer, the template and these tokens together mean: special tokens are control tokens, and no others."""
_MOST = 1 << 20


def write_special_tokens(tokens: Mapping[str, str], directory: Path) -> None:
    """Write `tokens` (name in a template, such as bos_token → text)."""
    (directory / NAME).write_text(json.dumps({"version": VERSION, "tokens": dict(tokens)}, indent=1), "utf-8")


def read_special_tokens(directory: Path) -> dict[str, str]:
    """The tokens; `ModelError` if it is not such a file, or of another version."""
    file = read_json(directory / NAME, _MOST)
    version = file.integer("version", 0, 1 << 31)
    if version != VERSION:
        what = f"is of version {version}, this program reads version {VERSION}: share the model again with `trine-model share`"
        raise file.error(what)
    tokens = file.section("tokens")
    if tokens is None:
        raise file.error("tokens is missing")
    return {name: tokens.text(name) for name in tokens.values}
