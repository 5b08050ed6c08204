"""What the three processes of a benchmark say to each other, on links of the engine: one byte of kind, then the rest."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.step import Step

ANNOUNCE, MATERIAL, STEP, REWIND, FIGURES, RESET, END = b"AMSRFZE"
PREPARED, DONE, TOLD = b"PDT"
_BLOCK = struct.Struct("<QQQ")
_STEP = struct.Struct("<QIIIII")
_DONE = struct.Struct("<Qdd")


@dataclass(frozen=True, slots=True)
class Steps:
    """`repeat` steps of `request.deltas.size` rows each; `kappa2` holds the rows of all of them."""

    request: Step
    repeat: int


def announce(first: int, count: int, position: int) -> bytes:
    """Rows that are being dealt."""
    return bytes([ANNOUNCE]) + _BLOCK.pack(first, count, position)


def parse_announce(data: memoryview) -> tuple[int, int, int]:
    """(first, count, position)."""
    first, count, position = _BLOCK.unpack(data)
    return first, count, position


def material(first: int, section: int, dealt: bytes) -> bytes:
    """A dealt section."""
    return b"".join((bytes([MATERIAL]), _BLOCK.pack(first, section, 0), dealt))


def parse_material(data: memoryview) -> tuple[int, int, memoryview]:
    """(first, section, dealt)."""
    first, section, _ = _BLOCK.unpack(data[: _BLOCK.size])
    return first, section, data[_BLOCK.size :]


def steps(request: Step, repeat: int = 1, *, kappa: bool = True) -> bytes:
    """Steps to run one after the other."""
    words = request.kappa2 if kappa else np.empty((0, request.kappa2.shape[1]), np.int64)
    count = request.deltas.size
    head = _STEP.pack(request.first_row, request.first_position, request.answers, count, repeat, request.kappa2.shape[1])
    return b"".join((bytes([STEP]), head, request.deltas.tobytes(), np.ascontiguousarray(words).tobytes()))


def parse_steps(data: memoryview) -> Steps:
    """What `steps` packed."""
    first, position, answers, count, repeat, width = _STEP.unpack(data[: _STEP.size])
    at = _STEP.size + 4 * count
    deltas = np.frombuffer(data[_STEP.size : at], np.uint32)
    words = np.frombuffer(bytes(data[at:]), np.int64).reshape(-1, width)
    return Steps(Step(first, position, answers, deltas, words), repeat)


def rewind(position: int) -> bytes:
    """Cut the context."""
    return bytes([REWIND]) + _BLOCK.pack(position, 0, 0)


def done(row: int, began: float, ended: float, answer: bytes) -> bytes:
    """A step ended: its last row, when it began and ended (monotonic seconds of this machine), the answer."""
    return b"".join((bytes([DONE]), _DONE.pack(row, began, ended), answer))


def parse_done(data: memoryview) -> tuple[int, float, float, memoryview]:
    """(last row, began, ended, answer)."""
    row, began, ended = _DONE.unpack(data[: _DONE.size])
    return row, began, ended, data[_DONE.size :]


def told(figures: dict[str, Any]) -> bytes:
    """A node's figures."""
    return bytes([TOLD]) + json.dumps(figures).encode()
