"""The header of a GGUF file: its metadata and where its tensors lie.

The gguf package has a reader, but it believes the file: it loops over declared counts beyond the
end of the data (a short file that declares an array of 2^60 elements takes all memory), and it maps
every element of the vocabulary as an array of its own (2 s for 150,000 strings). So the header is
read here, each length compared with a limit and with what is left of the file before it is used;
block sizes and dequantisation are the gguf package's.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from engine.errors import ModelError

__all__ = ["GgufHeader", "TensorPlace", "read_header"]

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_ITEMS = 1 << 21
MAX_STRING = 1 << 24
MAX_NAME = 1 << 16
MAX_GGUF_HEADER = 1 << 27
"""Bytes: ten times the largest in use. As Python objects they take up to ten times as much memory."""
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.FLOAT64: "<f8",
    GGUFValueType.BOOL: "?",
}

T = TypeVar("T")


@dataclass(frozen=True)
class TensorPlace:
    """One tensor: its size as numpy has it (rows first), how it is stored, and where."""

    size: tuple[int, ...]
    stored: GGMLQuantizationType
    offset: int
    """Bytes from the beginning of the file."""
    length: int
    """Bytes."""


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (int, float, bool, str, or a list of one of them), tensors by name."""

    metadata: dict[str, object]
    tensors: dict[str, TensorPlace]


def read_header(path: Path) -> GgufHeader:
    """The checked header of a GGUF file; `ModelError` says what is wrong, and at which byte."""
    try:
        with path.open("rb") as file:
            return _Reader(file, path).header()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", path) from error


class _Reader:
    """Takes the header apart from front to back."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.end = os.fstat(file.fileno()).st_size
        self.at = 0

    def header(self) -> GgufHeader:
        if self.end < 4 or self.take(4) != b"GGUF":
            raise self.wrong("not a GGUF file", at=0)
        version = self.number("<I")
        if version not in (2, 3):
            raise self.wrong(f"GGUF version {version} is not supported (2 and 3 are)", at=4)
        tensors = self.count("<Q", MAX_TENSORS, "tensors")
        keys = self.count("<Q", MAX_KEYS, "keys")
        metadata = self.unique("key", keys, self.value)
        entries = self.unique("tensor", tensors, self.entry)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT:
            raise self.wrong("general.alignment is out of range")
        start = -(-self.at // alignment) * alignment
        places = {name: self.place(name, start, *entry) for name, entry in entries.items()}
        return GgufHeader(metadata, places)

    def unique(self, what: str, count: int, read: Callable[[], T]) -> dict[str, T]:
        """``count`` named things, each name once."""
        found: dict[str, T] = {}
        for _ in range(count):
            at = self.at
            name = self.string(MAX_NAME)
            if name in found:
                raise self.wrong(f"{what} {name[:80]} stands twice", at)
            found[name] = read()
        return found

    def value(self) -> object:
        kind = self.kind()
        return self.array() if kind == GGUFValueType.ARRAY else self.items(kind, 1)[0]

    def array(self) -> list[object]:
        kind = self.kind()
        if kind == GGUFValueType.ARRAY:
            raise self.wrong("an array of arrays is not supported")
        return self.items(kind, self.count("<Q", MAX_ITEMS, "array items"))

    def items(self, kind: GGUFValueType, count: int) -> list[object]:
        if kind == GGUFValueType.STRING:
            return [self.string(MAX_STRING) for _ in range(count)]
        dtype = np.dtype(_SCALARS[kind])
        data = self.take(count * dtype.itemsize)
        if kind == GGUFValueType.BOOL:
            return [byte != 0 for byte in data]
        values: list[object] = np.frombuffer(data, dtype).tolist()
        return values

    def entry(self) -> tuple[tuple[int, ...], GGMLQuantizationType, int]:
        """A tensor as declared: size (the file has the row's length first), storage, offset."""
        dimensions = self.count("<I", MAX_DIMENSIONS, "dimensions")
        size = tuple(self.number("<Q") for _ in range(dimensions))
        at = self.at
        number = self.number("<I")
        try:
            stored = GGMLQuantizationType(number)
        except ValueError as error:
            raise self.wrong(f"tensor type {number} is unknown", at) from error
        return size[::-1], stored, self.number("<Q")

    def place(
        self,
        name: str,
        start: int,
        size: tuple[int, ...],
        stored: GGMLQuantizationType,
        offset: int,
    ) -> TensorPlace:
        block, width = GGML_QUANT_SIZES[stored]
        row = size[-1] if size else 1
        if row % block:
            raise self.wrong(f"tensor {name[:80]}: rows of {row} do not divide into blocks of {block}")
        length = math.prod(size) // block * width
        if start + offset + length > self.end:
            raise self.wrong(f"tensor {name[:80]} ends beyond the file (truncated?)", self.end)
        return TensorPlace(size, stored, start + offset, length)

    def kind(self) -> GGUFValueType:
        at = self.at
        number = self.number("<I")
        try:
            return GGUFValueType(number)
        except ValueError as error:
            raise self.wrong(f"value type {number} is unknown", at) from error

    def string(self, most: int) -> str:
        at = self.at
        data = self.take(self.count("<Q", most, "bytes in a string"))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.wrong("a string is not UTF-8", at) from error

    def count(self, form: str, most: int, what: str) -> int:
        at = self.at
        number = self.number(form)
        if number > most:
            raise self.wrong(f"{number} {what} are more than {most}", at)
        return number

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, which the file must still have."""
        if self.at + count > MAX_GGUF_HEADER and count <= self.end - self.at:
            raise self.wrong(f"the header is longer than {MAX_GGUF_HEADER} bytes")
        data = self.file.read(count) if count <= self.end - self.at else b""
        if len(data) != count:
            raise self.wrong("the header ends beyond the file (truncated?)", self.end)
        self.at += count
        return data

    def wrong(self, what: str, at: int | None = None) -> ModelError:
        return ModelError(f"{what} (byte {self.at if at is None else at})", self.path)
