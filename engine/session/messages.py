"""The binary messages of a session: dataclasses, and their payloads as bytes. `Step` and `Answer` are engine/step.py's.

All numbers are little-endian. Each parser raises only ProtocolError: wrong-length where the bytes
do not fit the message, out-of-range where a number does not.

Rule 1. Lengths are exact, and checked before anything is read or made from them.
Rule 2. A big payload is never copied: `Material.data` and `Answer.data` are views of the message.
Rule 3. No representation shows what a message carries.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from engine.errors import ProtocolError
from engine.link.frames import BULK_LIMIT, Data
from engine.step import Answer, Step

OPENED_BYTES, ALARM_BYTES = 5, 2  # of a logit, and of an answered row, in the last round between the nodes
DIGEST_BYTES = 32
MAX_ANSWERS = 17
"""Of a step: one, and one more for each of 16 drafts."""

Parts = tuple[Data, ...]
"""A payload in pieces, so that a big one is copied once, into the frame."""


def _unpack(layout: struct.Struct, payload: Data, kind: str) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise ProtocolError("wrong-length", f"{kind} of {len(payload)} bytes, not {layout.size}")
    return layout.unpack(payload)


def _split(layout: struct.Struct, payload: Data, kind: str) -> tuple[tuple[int, ...], memoryview]:
    if len(payload) < layout.size:
        raise ProtocolError("wrong-length", f"{kind} of {len(payload)} bytes")
    return layout.unpack_from(payload), memoryview(payload)[layout.size :]


def _exact(data: memoryview, length: int, kind: str) -> None:
    if len(data) != length:
        raise ProtocolError("wrong-length", f"{kind} with {len(data)} bytes, not {length}")


@dataclass(frozen=True, slots=True)
class Block:
    """BLOCK: rows first_row … first_row + count - 1 are being dealt, for positions from first_position on."""

    layout: ClassVar = struct.Struct("<QII")
    first_row: int
    count: int
    first_position: int

    @classmethod
    def parse(cls, payload: Data) -> Block:
        """From a payload of 16 bytes."""
        return cls(*_unpack(cls.layout, payload, "BLOCK"))

    def parts(self) -> Parts:
        """The payload."""
        return (self.layout.pack(self.first_row, self.count, self.first_position),)


@dataclass(frozen=True, slots=True)
class Material:
    """MATERIAL: a piece of what is dealt to an evaluator for one section of the block that begins at first_row."""

    layout: ClassVar = struct.Struct("<QI")
    first_row: int
    section: int
    data: Data = field(repr=False)

    @classmethod
    def parse(cls, payload: Data) -> Material:
        """From a payload of 12 bytes and the data."""
        (first_row, section), data = _split(cls.layout, payload, "MATERIAL")
        return cls(first_row, section, data)

    def parts(self) -> Parts:
        """The payload."""
        return (self.layout.pack(self.first_row, self.section), self.data)


STEP_HEAD = struct.Struct("<QIII")


def parse_step(payload: Data, *, context: int, vocab: int, width: int) -> Step:
    """STEP, from a payload; `width` is d_model for the second evaluator and 0 for the first.

    At most `max_answers` rows are answered.
    """
    (first_row, count, position, answers), rest = _split(STEP_HEAD, payload, "STEP")
    if not 1 <= count <= context:
        raise ProtocolError("out-of-range", f"STEP with {count} rows, 1 to {context} are allowed")
    most = max_answers(vocab)
    if not 1 <= answers <= min(count, most):
        raise ProtocolError("out-of-range", f"STEP with {answers} answers for {count} rows, {most} at most")
    _exact(rest, count * (4 + 8 * width), "STEP")
    deltas = np.frombuffer(rest[: 4 * count], "<u4").astype(np.uint32)
    if int(deltas.max()) >= vocab:
        raise ProtocolError("out-of-range", "STEP with an index difference beyond the vocabulary")
    kappa2 = np.frombuffer(rest[4 * count :], "<i8").astype(np.int64).reshape(count, width)
    return Step(first_row, position, answers, deltas, kappa2)


def step_parts(step: Step) -> Parts:
    """The payload of STEP: its head, the index differences and κ2."""
    head = STEP_HEAD.pack(step.first_row, step.count, step.first_position, step.answers)
    return head, step.deltas.astype("<u4").tobytes(), step.kappa2.astype("<i8").tobytes()


@dataclass(frozen=True, slots=True)
class Progress:
    """PROGRESS: `rows_done` of `rows` are computed, and of the next pass `section` of `sections`."""

    layout: ClassVar = struct.Struct("<IIII")
    rows_done: int
    rows: int
    section: int
    sections: int

    @classmethod
    def parse(cls, payload: Data) -> Progress:
        """From a payload of 16 bytes."""
        self = cls(*_unpack(cls.layout, payload, "PROGRESS"))
        if self.rows_done > self.rows or self.section > self.sections:
            raise ProtocolError("out-of-range", "PROGRESS beyond its end")
        return self

    def parts(self) -> Parts:
        """The payload."""
        return (self.layout.pack(self.rows_done, self.rows, self.section, self.sections),)


ANSWER_HEAD = struct.Struct("<QIIQH")


def parse_answer(payload: Data, *, length: int) -> Answer:
    """ANSWER, from a payload whose data have `length` bytes: a view of them."""
    (first_row, count, rounds, peer_bytes, alarm), data = _split(ANSWER_HEAD, payload, "ANSWER")
    _exact(data, length, "ANSWER")
    return Answer(first_row, count, rounds, peer_bytes, alarm, data)


def answer_parts(answer: Answer) -> Parts:
    """The payload of ANSWER: its head and the data."""
    head = (answer.first_row, answer.count, answer.rounds, answer.peer_bytes, answer.alarm)
    return ANSWER_HEAD.pack(*head), answer.data


def max_answers(vocab: int) -> int:
    """How many answers a step may ask for: so many that ANSWER and the nodes' ROUND fit a frame, and `MAX_ANSWERS` at most."""
    return min(MAX_ANSWERS, (BULK_LIMIT - ANSWER_HEAD.size) // (vocab * OPENED_BYTES + ALARM_BYTES))


def answer_digest(alarm: int, logits: Data) -> bytes:
    """BLAKE2b-256 of a step's logits and alarm word: what the second evaluator sends in their place."""
    digest = hashlib.blake2b(logits, digest_size=DIGEST_BYTES)
    digest.update(alarm.to_bytes(2, "little"))
    return digest.digest()


def compare(first: Answer, second: Answer) -> None:
    """Check that both evaluators answered the same; ProtocolError answers-differ."""
    same_step = (first.first_row, first.count) == (second.first_row, second.count)
    if not same_step or answer_digest(first.alarm, first.data) != second.data:
        raise ProtocolError("answers-differ", f"row {first.first_row}")


@dataclass(frozen=True, slots=True)
class Rewind:
    """REWIND: cut the context to `position` tokens, the prefix included, and discard what is queued."""

    layout: ClassVar = struct.Struct("<I")
    position: int

    @classmethod
    def parse(cls, payload: Data) -> Rewind:
        """From a payload of 4 bytes."""
        return cls(*_unpack(cls.layout, payload, "REWIND"))

    def parts(self) -> Parts:
        """The payload."""
        return (self.layout.pack(self.position),)


@dataclass(frozen=True, slots=True)
class Stopped:
    """STOPPED: no step runs any more; the last one began with first_row (0: there was none)."""

    layout: ClassVar = struct.Struct("<Q")
    first_row: int

    @classmethod
    def parse(cls, payload: Data) -> Stopped:
        """From a payload of 8 bytes."""
        return cls(*_unpack(cls.layout, payload, "STOPPED"))

    def parts(self) -> Parts:
        """The payload."""
        return (self.layout.pack(self.first_row),)


@dataclass(frozen=True, slots=True)
class _Bare:
    """A message without payload."""

    @classmethod
    def parse(cls, payload: Data) -> Self:
        """From an empty payload."""
        if len(payload):
            raise ProtocolError("wrong-length", f"{cls.__name__.upper()} with {len(payload)} bytes")
        return cls()


class Ready(_Bare):
    """READY: the link between the nodes stands."""


class Stop(_Bare):
    """STOP: stop the running step."""


class Bye(_Bare):
    """BYE: the session is over."""
