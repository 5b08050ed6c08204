"""The splitter hears what the library's own parser hears, however the bytes are cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Event, Side
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from engine.link.whole import FrameSplitter, binary_frame

LIMIT = 70_000
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, LIMIT)

Protocol = ClientProtocol | ServerProtocol
Opened = Callable[[], Protocol]
Said = list[tuple[Opcode, bytes]]
Heard = tuple[list[object], object]


def client() -> ClientProtocol:
    protocol = ClientProtocol(WebSocketURI(True, "here", 1, "/", ""), max_size=LIMIT, state=OPEN)
    assert protocol.side is Side.CLIENT
    return protocol


def server() -> ServerProtocol:
    return ServerProtocol(max_size=LIMIT, state=OPEN)


def heard(
    protocol: ClientProtocol | ServerProtocol, data: bytes, cuts: list[int], *, clean: bool = True
) -> tuple[list[object], object]:
    """Messages and events in order, and the protocol's complaint."""
    splitter = FrameSplitter(protocol, LIMIT, clean=clean)
    found: list[bytes | Event] = []
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start < stop and protocol.parser_exc is None:
            found += splitter.take(memoryview(data)[start:stop])
    return [_plain(event) for event in found], type(protocol.parser_exc)


def _plain(event: bytes | Event) -> object:
    """As an event of the library would say it."""
    if isinstance(event, bytes):
        return (Opcode.BINARY, event, True)
    assert isinstance(event, Frame)
    return (event.opcode, bytes(event.data), event.fin)


frames = st.one_of(
    st.builds(lambda size, fill: (Opcode.BINARY, bytes([fill]) * size), st.sampled_from(SIZES), st.integers(0, 255)),
    st.builds(lambda data: (Opcode.BINARY, data), st.binary(max_size=300)),
    st.builds(lambda data: (Opcode.PING, data), st.binary(max_size=125)),
    st.builds(lambda data: (Opcode.PONG, data), st.binary(max_size=125)),
)


@pytest.mark.parametrize("open_", [client, server])
@given(data=st.data(), said=st.lists(frames, max_size=5))
@settings(max_examples=60, deadline=None)
def test_messages_and_control_frames_come_in_order(
    open_: Opened, data: st.DataObject, said: list[tuple[Opcode, bytes]]
) -> None:
    masked = open_ is server
    sent = b"".join(Frame(opcode, body).serialize(mask=masked) for opcode, body in said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    got, complaint = heard(open_(), sent, cuts)
    assert got == [(opcode, body, True) for opcode, body in said]
    assert complaint is type(None)


@pytest.mark.parametrize("open_", [client, server])
@given(data=st.data(), said=st.lists(frames, max_size=2), noise=st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_of_any_bytes_it_hears_what_the_library_hears(open_: Opened, data: st.DataObject, said: Said, noise: bytes) -> None:
    """Text, fragments, wrong masks, reserved bits, frames that are too long: with the library's own complaint."""
    sent = b"".join(Frame(opcode, body).serialize(mask=open_ is server) for opcode, body in said) + noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    assert heard(open_(), sent, cuts) == heard(open_(), sent, cuts, clean=False)


@pytest.mark.parametrize("open_", [client, server])
def test_nothing_is_held_for_a_frame_that_is_too_long(open_: Opened) -> None:
    masked = open_ is server
    head = bytes((0x82, (0x80 if masked else 0) | 127)) + (LIMIT + 1).to_bytes(8, "big") + bytes(4 * masked)
    got, complaint = heard(open_(), head, [])
    assert (got, complaint) == heard(open_(), head, [], clean=False)
    assert complaint is not type(None)


def test_a_long_frame_takes_memory_as_it_comes() -> None:
    size, piece = 40 << 20, bytes(range(256)) * 256
    frame = memoryview(Frame(Opcode.BINARY, piece * (size // len(piece))).serialize(mask=False))
    splitter = FrameSplitter(client(), size, clean=True)
    tracemalloc.start()
    try:
        assert splitter.take(frame[:20]) == []
        assert tracemalloc.get_traced_memory()[0] < 3 << 20
        for at in range(20, 10 << 20, len(piece)):
            assert splitter.take(frame[at : at + len(piece)]) == []
        assert tracemalloc.get_traced_memory()[0] < 21 << 20
    finally:
        tracemalloc.stop()
    (message,) = splitter.take(frame[at + len(piece) :])
    assert message == frame[10:]
    assert splitter.take(frame[:15]) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_is_the_librarys(size: int, masked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    made = binary_frame(body[:size], masked=masked)
    protocol = server() if masked else client()
    protocol.receive_data(made)
    assert [_plain(event) for event in protocol.events_received()] == [(Opcode.BINARY, body[:size], True)]
    if not masked:
        assert made == Frame(Opcode.BINARY, body[:size]).serialize(mask=False)
