"""The fast path of the websocket: whole binary frames, made and cut out by hand (RFC 6455, section 5.2).

A token takes hundreds of messages, and each instruction of a general parser is read from far memory between two of them.

Rule 1. Only what leaves no doubt is read here: one unfragmented binary frame after the other, masked as it must be, within the
        limit. A control frame is handed on once it is whole, so that whoever takes it stands between frames again;
        anything else is handed on with all that comes behind it.
Rule 2. A length is checked as soon as it is known: nothing is held for a frame that will be refused, and little for one that is
        only announced. The first message may have a limit of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from engine.link.frames import Data

try:
    from websockets.speedups import apply_mask
except ImportError:  # not compiled for this machine
    from websockets.utils import apply_mask

_BINARY, _CONTROL = 0x82, (0x88, 0x89, 0x8A)  # with FIN, without extensions
_MASKED = 0x80
_CONTROL_BYTES = 125
_UNKNOWN, _NOT_OURS = 0, -1
_AT_ONCE = 2 << 20  # room for a frame that has only been announced; for more, half of it must have come


def binary_frame(data: Data, *, masked: bool) -> bytes:
    """The frame of a message."""
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
    """Cuts the bytes behind a handshake into messages and what is not for it.

    Args:
        masked: whether the other side masks its frames, as a client must.
        limit: the longest message, in bytes, until `limit` is set to something else.
    """

    def __init__(self, *, masked: bool, limit: int) -> None:
        self.limit = limit
        self._masked = _MASKED if masked else 0
        self._ours = True  # until something comes that is not for it
        self._head = b""  # of a frame whose size is not known yet
        self._frame = bytearray()  # room for one that is not whole
        self._needed = self._body = self._filled = 0

    def split(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Messages (bytes), and views of all that is for a general parser, in order.

        Each is cut out only when it is asked for: `limit` may be set in between, and whoever has heard enough stops.
        A splitter that was stopped must not be used again. A view is good until the next step.
        """
        if self._head:
            data, self._head = memoryview(self._head + data), b""
        if self._needed:
            data = data[self._hold(data) :]
            if self._filled < self._needed:
                return
            frame, self._frame, self._needed = memoryview(self._frame), bytearray(), 0
            yield self._message(frame, self._body) if frame[0] == _BINARY else frame
        while data and self._ours:
            size, body = self._measure(data)
            if size == _NOT_OURS:
                self._ours = False
            elif size == _UNKNOWN:
                self._head = bytes(data)
                return
            elif size > len(data):
                self._needed, self._body, self._filled = size, body, 0
                self._hold(data)
                return
            else:
                yield self._message(data[:size], body) if data[0] == _BINARY else data[:size]
                data = data[size:]
        if data:
            yield data

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
        if size > self.limit:
            return _NOT_OURS, 0
        if self._masked:
            body += 4
        return body + size, body

    def _message(self, frame: memoryview, body: int) -> bytes:
        return apply_mask(frame[body:], bytes(frame[body - 4 : body])) if self._masked else bytes(frame[body:])
