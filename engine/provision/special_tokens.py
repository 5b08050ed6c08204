"""The special tokens that a chat template may name, in the clients' file: special_tokens.json, with a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from engine.checkpoint.fields import read_json

__all__ = ["TOKENS_FILE", "TEXT_VERSION", "read_special_tokens", "write_special_tokens"]

TOKENS_FILE = "special_tokens.json"
TEXT_VERSION = 1
"""Of what the tokenizer, the template and these tokens together mean: special tokens are control tokens, and no others."""
_MOST = 1 << 20


def write_special_tokens(tokens: Mapping[str, str], directory: Path) -> None:
    """Write `tokens` (name in a template, such as bos_token → text)."""
    (directory / TOKENS_FILE).write_text(json.dumps({"version": TEXT_VERSION, "tokens": dict(tokens)}, indent=1), "utf-8")


def read_special_tokens(directory: Path) -> dict[str, str]:
    """The tokens; `ModelError` if it is not such a file, or of another version."""
    file = read_json(directory / TOKENS_FILE, _MOST)
    version = file.integer("version", 0, 1 << 31)
    if version != TEXT_VERSION:
        what = f"is of version {version}, this program reads version {TEXT_VERSION}"
        raise file.error(f"{what}: share the model again with `trine-model share`")
    tokens = file.section("tokens")
    if tokens is None:
        raise file.error("tokens is missing")
    return {name: tokens.text(name) for name in tokens.values}
