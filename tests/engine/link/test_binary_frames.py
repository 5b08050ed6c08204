"""The fast path: frames that are the library's, and memory only for what comes."""

from __future__ import annotations

import tracemalloc

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from engine.link.binary_frames import FrameSplitter, binary_frame

LIMIT = 70_000
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, LIMIT)


def splitter(*, masked: bool = False, limit: int = LIMIT) -> FrameSplitter:
    return FrameSplitter(masked=masked, limit=limit)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_is_the_librarys(size: int, masked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    made = binary_frame(body[:size], masked=masked)
    uri = WebSocketURI(True, "here", 1, "/", "")
    protocol = ServerProtocol(state=OPEN) if masked else ClientProtocol(uri, state=OPEN)
    protocol.receive_data(made)
    (frame,) = protocol.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.BINARY, body[:size], True)
    if not masked:
        assert made == Frame(Opcode.BINARY, body[:size]).serialize(mask=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("piece", [3, 16_384])
def test_a_message_is_cut_out_however_it_comes(size: int, masked: bool, piece: int) -> None:
    body = bytes([size % 251]) * size
    sent, split = memoryview(binary_frame(body, masked=masked) * 2), splitter(masked=masked)
    found = [part for at in range(0, len(sent), piece) for part in split.split(sent[at : at + piece])]
    assert found == [body, body]


def test_a_control_frame_is_handed_on_whole_and_messages_go_on_behind_it() -> None:
    ping, message = Frame(Opcode.PING, b"?").serialize(mask=False), binary_frame(b"x", masked=False)
    split = splitter()
    assert [bytes(part) for part in split.split(memoryview(ping + message + ping[:1]))] == [ping, b"x"]
    assert [type(part) for part in split.split(memoryview(ping[1:] + message))] == [memoryview, bytes]


@pytest.mark.parametrize(
    "other",
    [
        b"\x81\x01x",  # text
        b"\x02\x01x",  # a fragment
        b"\x89\x7e\0\x7e",  # a ping that is too long
        b"\x82\x81maskx",  # masked
        b"\x82\x7f" + (LIMIT + 1).to_bytes(8, "big"),
    ],
)
def test_anything_else_is_handed_on_with_all_behind_it(other: bytes) -> None:
    message = binary_frame(b"x", masked=False)
    split = splitter()
    assert [bytes(part) for part in split.split(memoryview(message + other + message))] == [b"x", other + message]
    assert [bytes(part) for part in split.split(memoryview(message))] == [message]


def test_the_limit_may_change_between_two_messages() -> None:
    split = splitter(limit=1)
    found = split.split(memoryview(binary_frame(b"x", masked=False) + binary_frame(b"long", masked=False)))
    assert next(found) == b"x"
    split.limit = 4
    assert next(found) == b"long"


def test_a_long_frame_takes_memory_as_it_comes() -> None:
    size, piece = 40 << 20, bytes(range(256)) * 256
    frame = memoryview(Frame(Opcode.BINARY, piece * (size // len(piece))).serialize(mask=False))
    split = splitter(limit=size)
    tracemalloc.start()
    try:
        assert list(split.split(frame[:20])) == []
        assert tracemalloc.get_traced_memory()[0] < 3 << 20
        for at in range(20, 10 << 20, len(piece)):
            assert list(split.split(frame[at : at + len(piece)])) == []
        assert tracemalloc.get_traced_memory()[0] < 21 << 20
    finally:
        tracemalloc.stop()
    (message,) = split.split(frame[at + len(piece) :])
    assert message == frame[10:]
    assert list(split.split(frame[:15])) == []
