"""Whole binary frames, without the protocol's machinery: hundreds a token, each of whose instructions is read from far memory.

Rule 1. Only what leaves no doubt is read here: one unfragmented binary frame after the other, masked as it must be, within the
        limit. A control frame is given to the protocol once it is whole, so that the protocol stands between frames again;
        anything else, and all that comes behind it, is the protocol's.
Rule 2. A length is checked as soon as it is known: nothing is held for a frame that will be refused, and little for one that is
        only announced. The first message may have a limit of its own.
Rule 3. Pings and pongs are cheap to send and dear to read: beyond an allowance nothing more is read.
"""

from __future__ import annotations

import os
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, Side
from websockets.server import ServerProtocol

from engine.link.frames import Data
from engine.link.keepalive import Allowance

try:
    from websockets.speedups import apply_mask
except ImportError:  # not compiled for this machine
    from websockets.utils import apply_mask

_BINARY, _CONTROL = 0x82, (0x88, 0x89, 0x8A)  # with FIN, without extensions
_MASKED = 0x80
_CONTROL_BYTES = 125
_UNKNOWN, _NOT_OURS = 0, -1
_CONTROLS_AT_ONCE, _CONTROLS_A_SECOND = 24, 4.0  # honest parties ping once a second, and answer as often
_AT_ONCE = 2 << 20  # room for a frame that has only been announced; for more, half of it must have come


def binary_frame(data: Data, *, masked: bool) -> bytes:
    """The frame of a message (RFC 6455, section 5.2)."""
    size, flag = len(data), _MASKED if masked else 0
    if size < 126:
        head = bytes((_BINARY, flag | size))
    elif size < 1 << 16:
        head = bytes((_BINARY, flag | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_BINARY, flag | 127)) + size.to_bytes(8, "big")
    if not masked:
        return b"".join((head, data))
    key = os.urandom(4)
    return b"".join((head, key, apply_mask(data, key)))


class FrameSplitter:
    """Cuts the bytes behind a handshake into messages; `clean`: the handshake ended where its last bytes did.

    A message has at most `max_size` bytes, the first one `first_size`.
    """

    def __init__(
        self, protocol: ClientProtocol | ServerProtocol, max_size: int, *, clean: bool, first_size: int | None = None
    ) -> None:
        self._controls = Allowance(_CONTROLS_AT_ONCE, _CONTROLS_A_SECOND)
        self.flooded = False  #: whether there were more control frames than that: what came behind them is thrown away
        self._protocol, self._max_size = protocol, max_size
        self._limit = protocol.max_message_size = max_size if first_size is None else first_size
        self._masked = _MASKED if protocol.side is Side.SERVER else 0
        self._ours = clean
        self.alone = False  #: whether the protocol had no part in what was taken last
        self._head = b""  # of a frame whose size is not known yet
        self._frame = bytearray()  # room for one that is not whole
        self._needed = self._body = self._filled = 0

    def take(self, data: memoryview) -> list[bytes | Event]:
        """Whole messages, and what the protocol makes of everything else, in order."""
        self.alone = True
        if self._head:
            data, self._head = memoryview(self._head + data), b""
        found: list[bytes | Event] = []
        if self._needed:
            data = data[self._hold(data) :]
            if self._filled < self._needed:
                return found
            frame, self._frame, self._needed = memoryview(self._frame), bytearray(), 0
            found += self._whole(frame, self._body)
        while data and self._ours and not self.flooded:
            size, body = self._measure(data)
            if size == _NOT_OURS:
                self._ours = False
            elif size == _UNKNOWN:
                self._head = bytes(data)
                return found
            elif size > len(data):
                self._needed, self._body, self._filled = size, body, 0
                self._hold(data)
                return found
            else:
                found += self._whole(data[:size], body)
                data = data[size:]
        return found + self._fed(data) if data and not self.flooded else found

    def lift(self) -> None:
        """The first message is over."""
        self._limit = self._protocol.max_message_size = self._max_size

    def _hold(self, data: memoryview) -> int:
        """Keep what belongs to the frame that is not whole; how many bytes that is."""
        count = min(len(data), self._needed - self._filled)
        end = self._filled + count
        if end > len(self._frame):
            room = bytearray(min(self._needed, max(_AT_ONCE, 2 * end)))
            room[: self._filled] = memoryview(self._frame)[: self._filled]
            self._frame = room
        self._frame[self._filled : end] = data[:count]
        self._filled = end
        return count

    def _whole(self, frame: memoryview, body: int) -> list[bytes | Event]:
        if frame[0] == _BINARY:
            self.lift()
            return [self._message(frame, body)]
        return self._fed(frame)

    def _measure(self, data: memoryview) -> tuple[int, int]:
        """The size of the frame that begins here, and where its body does."""
        if len(data) < 2:
            return _UNKNOWN, 0
        kind, size = data[0], data[1] & 127
        if data[1] & _MASKED != self._masked or not (kind == _BINARY or kind in _CONTROL and size <= _CONTROL_BYTES):
            return _NOT_OURS, 0
        body = 2 if size < 126 else 4 if size == 126 else 10
        if len(data) < body:
            return _UNKNOWN, 0
        if size >= 126:
            size = int.from_bytes(data[2:body], "big")
        if size > self._limit:
            return _NOT_OURS, 0
        if self._masked:
            body += 4
        return body + size, body

    def _message(self, frame: memoryview, body: int) -> bytes:
        return apply_mask(frame[body:], bytes(frame[body - 4 : body])) if self._masked else bytes(frame[body:])

    def _fed(self, data: memoryview) -> list[bytes | Event]:
        self.alone = False
        # A view does where bytes are asked for: the protocol appends it to its own buffer.
        self._protocol.receive_data(cast(bytes, data))
        events = self._protocol.events_received()
        controls = sum(isinstance(event, Frame) and event.opcode in (Opcode.PING, Opcode.PONG) for event in events)
        self.flooded = self.flooded or not all(self._controls.spend() for _ in range(controls))
        return list(events)
