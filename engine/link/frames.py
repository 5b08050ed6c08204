"""Messages as bytes and back, without I/O.

A frame is a header of 26 bytes and a payload:

    version u8 = 1 | type u8 | session 16 bytes | sequence u64, little-endian | payload

Rule 1. A reader takes nothing for granted: length, version, type, payload length, session and
        sequence are checked in this order, each with a code of its own, before the payload is seen.
Rule 2. Sequence numbers count from 0 in each direction of a link, without gap or repeat, so a
        message that was lost or doubled is noticed at once.
Rule 3. After an error a reader refuses everything: what follows cannot be trusted to be aligned.
Rule 4. No representation of a frame shows its payload.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from engine.errors import ProtocolError

VERSION = 1
SESSION_BYTES = 16
_HEADER = struct.Struct(f"<BB{SESSION_BYTES}sQ")
HEADER_BYTES = _HEADER.size

Data = bytes | bytearray | memoryview
"""What a payload may be; a decoded one is a view of the message, not a copy."""


class FrameType(enum.IntEnum):
    """Every kind of message, on the links D-E1, D-E2 and E1-E2."""

    HELLO = 1
    WELCOME = 2
    READY = 3
    BLOCK = 4
    MATERIAL = 5
    STEP = 6
    PROGRESS = 7
    ANSWER = 8
    REWIND = 9
    STOP = 10
    STOPPED = 11
    ERROR = 12
    BYE = 13
    PEER_HELLO = 14
    ROUND = 15


HELLO_LIMIT = 16 << 10
CONTROL_LIMIT = 64 << 10
BULK_LIMIT = 64 << 20
MAX_MESSAGE = HEADER_BYTES + BULK_LIMIT
"""The longest message in bytes, for the websocket's own limit."""

_HELLOS = (FrameType.HELLO, FrameType.WELCOME, FrameType.PEER_HELLO)
_BULK = (FrameType.MATERIAL, FrameType.STEP, FrameType.ANSWER, FrameType.ROUND)
LIMITS: Mapping[FrameType, int] = MappingProxyType(
    dict.fromkeys(FrameType, CONTROL_LIMIT) | dict.fromkeys(_HELLOS, HELLO_LIMIT) | dict.fromkeys(_BULK, BULK_LIMIT)
)
"""The longest payload in bytes, by type."""

_TYPES: Mapping[int, FrameType] = MappingProxyType({int(kind): kind for kind in FrameType})


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; `session` has 16 bytes, `sequence` counts from 0 in each direction."""

    type: FrameType
    session: bytes
    sequence: int
    payload: Data = field(repr=False)


def encode(frame: Frame, limits: Mapping[FrameType, int] = LIMITS) -> bytes:
    """The bytes of a frame; ValueError where the caller broke a limit."""
    if len(frame.session) != SESSION_BYTES:
        raise ValueError(f"a session has {SESSION_BYTES} bytes, not {len(frame.session)}")
    if len(frame.payload) > limits[frame.type]:
        raise ValueError(f"{frame.type.name} of {len(frame.payload)} bytes is over its limit")
    header = _HEADER.pack(VERSION, frame.type, frame.session, frame.sequence)
    return b"".join((header, frame.payload))


def decode(data: Data, limits: Mapping[FrameType, int] = LIMITS) -> Frame:
    """The frame in `data`, whose payload is a view of it.

    Raises ProtocolError truncated, wrong-version, unknown-type or oversized.
    """
    if len(data) < HEADER_BYTES:
        raise ProtocolError("truncated", f"{len(data)} bytes, a header has {HEADER_BYTES}")
    version, number, session, sequence = _HEADER.unpack_from(data)
    if version != VERSION:
        raise ProtocolError("wrong-version", f"{version}, not {VERSION}")
    kind = _TYPES.get(number)
    if kind is None:
        raise ProtocolError("unknown-type", str(number))
    payload = memoryview(data)[HEADER_BYTES:]
    if len(payload) > limits[kind]:
        raise ProtocolError("oversized", f"{kind.name} of {len(payload)} bytes")
    return Frame(kind, session, sequence, payload)


class FrameWriter:
    """Numbers and encodes what one side of a link sends in one session."""

    def __init__(self, session: bytes, *, limits: Mapping[FrameType, int] = LIMITS) -> None:
        self.session = session
        self.sequence = 0
        self._limits = limits

    def write(self, kind: FrameType, *parts: Data) -> bytes:
        """The next frame, its payload being the parts one after the other."""
        data = b"".join((_HEADER.pack(VERSION, kind, self.session, self.sequence), *parts))
        if (size := len(data) - HEADER_BYTES) > self._limits[kind]:
            raise ValueError(f"{kind.name} of {size} bytes is over its limit")
        self.sequence += 1
        return data


class FrameReader:
    """Decodes and checks what one side of a link receives in one session.

    With `session` None the first frame decides it: the side that is called learns it from HELLO.
    """

    def __init__(self, session: bytes | None = None, *, limits: Mapping[FrameType, int] = LIMITS) -> None:
        self.session = session
        self.sequence = 0
        self._limits = limits
        self._error: ProtocolError | None = None

    def read(self, data: Data) -> Frame:
        """The next frame; raises what `decode` does, and wrong-session or out-of-order."""
        if self._error is not None:
            raise self._error
        try:
            frame = self._checked(decode(data, self._limits))
        except ProtocolError as error:
            self._error = error
            raise
        self.session = frame.session
        self.sequence += 1
        return frame

    def payload(self, data: Data, kind: FrameType) -> memoryview:
        """The next frame's payload, if it is of this kind; raises what `read` does, and out-of-place."""
        fits = self._error is None and self.session is not None and len(data) <= HEADER_BYTES + self._limits[kind]
        if fits and data[:HEADER_BYTES] == _HEADER.pack(VERSION, kind, self.session, self.sequence):  # all that `read` looks at
            self.sequence += 1
            return memoryview(data)[HEADER_BYTES:]
        frame = self.read(data)
        if frame.type is not kind:
            raise ProtocolError("out-of-place", f"{frame.type.name} in place of {kind.name}")
        return memoryview(frame.payload)

    def _checked(self, frame: Frame) -> Frame:
        if self.session is not None and frame.session != self.session:
            raise ProtocolError("wrong-session", frame.type.name)
        if frame.sequence != self.sequence:
            raise ProtocolError("out-of-order", f"{frame.sequence} in place of {self.sequence}")
        return frame
