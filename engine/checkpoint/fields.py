"""Typed reads of a checkpoint's metadata (config.json, GGUF keys), which nobody has checked yet.

Every read names its limits, so that no number of the file reaches an allocation before it was
compared with one.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path

from engine.errors import ModelError

__all__ = ["Fields", "read_bounded", "read_json", "read_text", "require_file"]


class Fields:
    """The keys of one mapping; a read that fails raises `ModelError` with the key and the file.

    A key that is absent or null takes ``default``; without a default it is an error.
    """

    def __init__(self, values: Mapping[str, object], path: Path, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """An integer from ``least`` to ``most``."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, f"an integer from {least} to {most}", value)
        return value

    def number(self, key: str, least: float, most: float, default: float | None = None) -> float:
        """A finite float from ``least`` to ``most``."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, f"a number from {least:g} to {most:g}", value)
        if not least <= value <= most:  # nor is NaN
            raise self._wrong(key, f"a number from {least:g} to {most:g}", value)
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def token_ids(self, key: str, vocab: int) -> tuple[int, ...]:
        """No, one or several token ids below ``vocab``."""
        value = self.values.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for index in ids:
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < vocab:
                raise self._wrong(key, f"a token id below {vocab}", index)
        return tuple(ids)

    def strings(self, key: str) -> list[str]:
        """A list of strings; empty when the key is absent."""
        values = self.values.get(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._wrong(key, "a list of strings", values)
        return values

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers; empty when the key is absent."""
        values = self.values.get(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise self._wrong(key, "a list of numbers", values)
        return values

    def integers(self, key: str) -> list[int]:
        """A list of integers; empty when the key is absent."""
        values = self.values.get(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            raise self._wrong(key, "a list of integers", values)
        return values

    def section(self, key: str) -> Fields | None:
        """A mapping inside this one, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        return Fields(value, self.path, f"{self.prefix}{key}.")

    def error(self, what: str) -> ModelError:
        """An error about these fields."""
        return ModelError(what, self.path)

    def _value(self, key: str, default: object) -> object:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.error(f"{self.prefix}{key} is missing")
        return value

    def _wrong(self, key: str, wanted: str, value: object) -> ModelError:
        shown = "a list" if isinstance(value, list) else repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return self.error(f"{self.prefix}{key} must be {wanted}, not {shown}")


def require_file(path: Path) -> None:
    """Refuse what is no plain file: to open a pipe waits for ever, and a device has no end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", path) from error
    if not stat.S_ISREG(mode):
        raise ModelError("is not a file" if not stat.S_ISDIR(mode) else "is a directory, not a file", path)


def read_bounded(path: Path, most: int) -> bytes:
    """A file of at most ``most`` bytes; `ModelError` for everything else."""
    require_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", path) from error
    if len(data) > most:
        raise ModelError(f"longer than {most} bytes", path)
    return data


def read_text(path: Path, most: int) -> str:
    """A UTF-8 file of at most ``most`` bytes; `ModelError` for everything else."""
    try:
        return read_bounded(path, most).decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"not UTF-8 text (byte {error.start})", path) from error


def read_json(path: Path, most: int) -> Fields:
    """The object of a JSON file of at most ``most`` bytes."""
    text = read_text(path, most)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ModelError(f"not JSON ({error.msg}, {where})", path) from error
    except (ValueError, RecursionError) as error:
        raise ModelError("not JSON that can be read (too deep or too large a number)", path) from error
    if not isinstance(value, dict):
        raise ModelError("not a JSON object", path)
    return Fields(value, path)
