"""One side of a link without a socket: bytes and the time go in, messages, bytes and failures come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from engine.errors import LinkError, ProtocolError, TrineError
from engine.link import LinkOptions
from engine.link.protocol import LinkProtocol, WebSocket

LIMIT = 70_000
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, LIMIT)
START = 1000.0
SIDES = ["client", "server"]
Said = list[tuple[Opcode, bytes]]


def websocket(side: str, max_size: int = LIMIT) -> WebSocket:
    """The library's protocol behind its handshake."""
    if side == "server":
        return ServerProtocol(max_size=max_size, state=OPEN)
    return ClientProtocol(WebSocketURI(True, "here", 1, "/", ""), max_size=max_size, state=OPEN)


def link(side: str = "client", **options: Any) -> LinkProtocol:
    return LinkProtocol(websocket(side), LinkOptions(**({"max_size": LIMIT} | options)), START)


def frame(side: str, opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """What the peer of this side says."""
    return Frame(opcode, data, fin).serialize(mask=side == "server")


def hear(protocol: LinkProtocol, data: bytes, cuts: Sequence[int] = (), now: float = START) -> None:
    """Give it bytes, cut there, until it fails."""
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start < stop and protocol.error is None:
            protocol.receive_data(memoryview(data)[start:stop], now)


def said(protocol: LinkProtocol, side: str) -> Said:
    """The frames that it wants to send beside messages, as its peer reads them."""
    if not protocol.has_data_to_send:
        return []
    data = protocol.data_to_send()
    assert not protocol.has_data_to_send
    return read(data, side)


def read(data: bytes, side: str) -> Said:
    """The frames that a side has said, as its peer reads them."""
    peer = websocket("server" if side == "client" else "client")
    peer.receive_data(data)
    return [(event.opcode, bytes(event.data)) for event in peer.events_received() if isinstance(event, Frame)]


def state(protocol: LinkProtocol, side: str) -> tuple[list[bytes], str, Said]:
    return [bytes(message) for message in protocol.messages], str(protocol.error), said(protocol, side)


def broken(protocol: LinkProtocol) -> ProtocolError:
    assert isinstance(protocol.error, ProtocolError)
    return protocol.error


def lost(protocol: LinkProtocol) -> str:
    assert isinstance(protocol.error, LinkError)
    return protocol.error.what


# Messages


@pytest.mark.parametrize("side", SIDES)
def test_what_one_side_sends_the_other_takes(side: str) -> None:
    here, there = link(side), link("server" if side == "client" else "client")
    messages = [bytes([size % 251]) * size for size in SIZES]
    hear(there, b"".join(map(here.send_message, messages)))
    assert state(there, side) == (messages, "None", [])


frames = st.one_of(
    st.builds(lambda size, fill: (Opcode.BINARY, bytes([fill]) * size), st.sampled_from(SIZES), st.integers(0, 255)),
    st.builds(lambda data: (Opcode.BINARY, data), st.binary(max_size=300)),
    st.builds(lambda data: (Opcode.PING, data), st.binary(max_size=125)),
    st.builds(lambda data: (Opcode.PONG, data), st.binary(max_size=125)),
)


@pytest.mark.parametrize("side", SIDES)
@given(data=st.data(), spoken=st.lists(frames, max_size=5))
@settings(max_examples=60, deadline=None)
def test_messages_come_in_order_and_pings_are_answered(side: str, data: st.DataObject, spoken: Said) -> None:
    sent = b"".join(frame(side, opcode, body) for opcode, body in spoken)
    protocol = link(side)
    hear(protocol, sent, sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6))))
    messages = [body for opcode, body in spoken if opcode is Opcode.BINARY]
    pongs = [(Opcode.PONG, body) for opcode, body in spoken if opcode is Opcode.PING]
    assert state(protocol, side) == (messages, "None", pongs)


@pytest.mark.parametrize("side", SIDES)
@given(data=st.data(), spoken=st.lists(frames, max_size=2), noise=st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_of_any_bytes_it_hears_what_the_library_hears(side: str, data: st.DataObject, spoken: Said, noise: bytes) -> None:
    """Text, fragments, wrong masks, reserved bits, closes, frames that are too long: the same error, and the same last word."""
    sent = b"".join(frame(side, opcode, body) for opcode, body in spoken) + noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    protocol = link(side)
    hear(protocol, sent, cuts)
    assert state(protocol, side) == heard_by_the_library(side, sent, cuts)


def heard_by_the_library(side: str, data: bytes, cuts: Sequence[int]) -> tuple[list[bytes], str, Said]:
    """Messages, failure and answers where `websockets` alone reads it all, until the first failure."""
    library, messages, sent = websocket(side), list[bytes](), b""
    error: TrineError | None = None
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start < stop and error is None:
            library.receive_data(data[start:stop])
            sent += b"".join(library.data_to_send())
            for event in library.events_received():
                assert isinstance(event, Frame)
                if error is None and event.opcode is Opcode.BINARY and event.fin:
                    messages.append(bytes(event.data))
                else:
                    error = error or failure(event)
            if library.parser_exc is not None:
                code = "oversized" if isinstance(library.parser_exc, PayloadTooBig) else "malformed"
                error = error or ProtocolError(code, f"websocket: {library.parser_exc}")
    return messages, str(error), read(sent, side)


def failure(event: Frame) -> TrineError | None:
    """What a frame that is not a message means."""
    if event.opcode in (Opcode.PING, Opcode.PONG):
        return None
    if event.opcode is Opcode.CLOSE:
        return LinkError("the other side closed the connection")
    return ProtocolError("malformed", f"a {event.opcode.name} frame")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame("server", Opcode.TEXT, b"text"), "malformed"),
        (frame("server", Opcode.BINARY, b"part", fin=False), "malformed"),
        (frame("server", Opcode.CONT, b"part"), "malformed"),
        (b"\x83\x80aaaa", "malformed"),
        (b"\x82\x03abc", "malformed"),  # not masked
        (frame("server", Opcode.BINARY, bytes(2001)), "oversized"),
        (b"\x82\xff" + (2**62).to_bytes(8, "big") + b"mask", "oversized"),
    ],
    ids=["text", "unfinished", "continuation", "ping", "unmasked", "long", "huge"],  # a mask is another in each process
)
def test_what_is_no_message_is_refused_and_what_came_before_is_kept(data: bytes, code: str) -> None:
    good = frame("server", Opcode.BINARY, b"good")
    protocol = link("server", max_size=2000)
    hear(protocol, good + data + good)
    assert broken(protocol).code == code
    assert list(protocol.messages) == [b"good"]


@pytest.mark.parametrize("side", SIDES)
def test_a_frame_that_is_too_long_is_refused_by_its_head(side: str) -> None:
    protocol = link(side)
    flag = 0x80 if side == "server" else 0
    hear(protocol, bytes((0x82, flag | 127)) + (LIMIT + 1).to_bytes(8, "big"))
    assert broken(protocol).code == "oversized"
    assert [Close.parse(data).code for _, data in said(protocol, side)] == [1009]


def test_a_close_is_answered_and_nothing_is_heard_behind_it() -> None:
    protocol = link()
    close = frame("client", Opcode.CLOSE, b"\x03\xe8")
    hear(protocol, frame("client", Opcode.BINARY, b"x") + close + frame("client", Opcode.BINARY, b"y"))
    assert (list(protocol.messages), lost(protocol)) == ([b"x"], "the other side closed the connection")
    assert said(protocol, "client") == [(Opcode.CLOSE, b"\x03\xe8")]


def test_a_close_says_that_it_is_in_good_order() -> None:
    protocol = link()
    protocol.send_close()
    assert said(protocol, "client") == [(Opcode.CLOSE, b"\x03\xe8")]
    assert protocol.error is None


def test_an_end_is_a_failure_and_the_first_failure_stays() -> None:
    protocol = link()
    protocol.receive_eof()
    assert lost(protocol) == "the other side hung up"
    for _ in range(2000):
        protocol.receive_nothing()
    assert lost(protocol) == "the other side hung up"


# The first message


@pytest.mark.parametrize("size", [2001, 64 << 20, 1 << 62])
def test_a_first_message_is_refused_at_its_own_limit_when_it_is_announced(size: int) -> None:
    protocol = link("server", max_size=64 << 20, first_size=2000)
    hear(protocol, b"\x82\xff" + size.to_bytes(8, "big") + b"mask")
    assert broken(protocol).code == "oversized"


def test_the_messages_after_the_first_have_theirs() -> None:
    protocol = link("server", max_size=3000, first_size=2000)
    for size in (2000, 3000):
        hear(protocol, frame("server", Opcode.BINARY, bytes(size)))
        assert len(protocol.messages.popleft()) == size
    hear(protocol, frame("server", Opcode.BINARY, bytes(3001)))
    assert broken(protocol).code == "oversized"


# Floods


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_pings_and_pongs_beyond_the_allowance_are_a_failure(opcode: Opcode) -> None:
    control = frame("server", opcode)
    protocol = link("server")
    hear(protocol, control * 24)
    assert protocol.error is None
    hear(protocol, control * 5, now=START + 1)  # four have come back
    assert broken(protocol).text == "pings and pongs without end"


def test_behind_a_flood_nothing_is_read() -> None:
    protocol = link("server")
    hear(protocol, frame("server", Opcode.PING) * 1000 + frame("server", Opcode.BINARY, b"x"))
    assert not protocol.messages
    assert len(said(protocol, "server")) == 25


def test_honest_pings_and_pongs_are_no_flood() -> None:
    """Those of ten seconds, held back by a line and let go at once."""
    protocol = link("server")
    hear(protocol, (frame("server", Opcode.PING) + frame("server", Opcode.PONG)) * 10 + frame("server", Opcode.BINARY, b"x"))
    assert (protocol.error, list(protocol.messages)) == (None, [b"x"])


def test_records_without_data_are_borne_for_a_while() -> None:
    protocol = link()
    for _ in range(1000):
        protocol.receive_nothing()
    hear(protocol, b"\x82")
    for _ in range(1000):
        protocol.receive_nothing()
    assert protocol.error is None
    protocol.receive_nothing()
    assert broken(protocol).text == "records without data"


# Signs of life


def test_a_second_of_silence_is_a_ping_and_more_is_the_end() -> None:
    protocol = link()
    protocol.look(START + 0.9, 0.0, all_sent=True)
    assert said(protocol, "client") == []
    protocol.look(START + 1.0, 0.0, all_sent=True)
    assert said(protocol, "client") == [(Opcode.PING, b"")]
    protocol.look(START + 4.0, 0.0, all_sent=True)
    assert lost(protocol) == "no sign of life for 4 s"


@pytest.mark.parametrize("opcode", [Opcode.BINARY, Opcode.PING, Opcode.PONG])
def test_a_message_a_ping_and_a_pong_are_signs_of_life(opcode: Opcode) -> None:
    protocol = link()
    protocol.look(START + 1.0, 0.0, all_sent=True)
    hear(protocol, frame("client", opcode), now=START + 3.9)
    protocol.look(START + 4.0, 0.0, all_sent=True)
    assert protocol.error is None


def test_who_only_hears_says_that_it_lives() -> None:
    """It hears too much to ask, and its answers to pings may be stuck."""
    protocol = link()
    for tenth in range(1, 41):
        hear(protocol, frame("client", Opcode.BINARY, b"material"), now=START + tenth / 10)
        protocol.look(START + tenth / 10, 0.0, all_sent=True)
    assert said(protocol, "client") == [(Opcode.PONG, b"")] * 4


def test_what_waits_to_leave_is_the_sign_of_life() -> None:
    protocol = link()
    protocol.look(START + 1.0, 0.0, all_sent=False)
    assert said(protocol, "client") == []
    protocol.look(START + 4.0, 0.0, all_sent=False)  # which the peer has not taken
    assert lost(protocol) == "no sign of life for 4 s"


def test_a_trickle_is_no_sign_of_life() -> None:
    protocol = link()
    hear(protocol, b"\x82\x7e\x80\x00", now=START + 0.1)
    for tenth in range(1, 50):
        now = START + tenth / 10
        hear(protocol, b"x", now=now)
        protocol.look(now, 0.0, all_sent=True)
        if protocol.error is not None:
            assert lost(protocol) == "the line is too slow: less than 4 kB a second came"
            return
    pytest.fail("a trickle keeps a link")


def test_who_was_woken_late_does_not_blame_the_peer() -> None:
    protocol = link()
    protocol.look(START + 1.0, 0.0, all_sent=True)
    protocol.look(START + 50.0, 46.0, all_sent=True)
    assert protocol.error is None


# What nobody sees


def test_nothing_is_shown() -> None:
    protocol = link("server")
    hear(protocol, frame("server", Opcode.BINARY, b"canary") + frame("server", Opcode.TEXT, b"canary"))
    assert "canary" not in repr(protocol) + str(protocol.error) + repr(protocol.error)
