"""Peers that send much and say nothing: they are ended in time, and nobody else waits for them."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event

import pytest
from websockets.frames import Opcode

from engine.errors import LinkError, ProtocolError, TrineError
from engine.link import Connection
from tests.engine.link.sockets import masked, send_beneath_tls, unread

Ends = Callable[..., tuple[Connection, Connection]]
Serve = Callable[..., tuple[int, Future[Connection]]]
Raw = Callable[..., ssl.SSLSocket]
SOON = 5.0


FLOODS = {
    "pongs": masked(Opcode.PONG),
    "pongs that say something": masked(Opcode.PONG, bytes(125)),
    "pings": masked(Opcode.PING),
    "pings that say something": masked(Opcode.PING, bytes(125)),
    "both": masked(Opcode.PING) + masked(Opcode.PONG),
    "empty fragments": masked(Opcode.BINARY, fin=False) + masked(Opcode.CONT, fin=False) * 1000,
    "empty fragments between pongs": masked(Opcode.PONG) + masked(Opcode.BINARY, fin=False) + masked(Opcode.PONG),
}


@contextmanager
def flooding(sock: ssl.SSLSocket, data: bytes, threads: ThreadPoolExecutor) -> Iterator[None]:
    """Send it again and again, as fast as it goes, until the other side ends that; nothing is read."""
    over = Event()

    def flood() -> None:
        with suppress(OSError):
            while not over.is_set():
                sock.sendall(data)

    job = threads.submit(flood)
    try:
        yield
    finally:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # wakes who sends
        job.result(20)


@pytest.mark.parametrize("what", FLOODS)
@pytest.mark.parametrize("timeout", [1.0, None], ids=["before the first message", "in a session"])
def test_a_flood_without_a_message_is_ended(
    serve: Serve, raw: Raw, threads: ThreadPoolExecutor, what: str, timeout: float | None
) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    with flooding(sock, FLOODS[what] * 100, threads):
        began = time.monotonic()
        with pytest.raises(TrineError):
            server.receive(timeout)
        assert time.monotonic() - began < SOON
        server.close(linger=0.1)
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("what", ["pongs", "pings"])
def test_a_flood_that_came_with_the_end_of_the_handshake_is_ended(
    serve: Serve, raw: Raw, threads: ThreadPoolExecutor, what: str
) -> None:
    port, answer = serve()
    sock = raw(port, early=FLOODS[what])
    server = answer.result(20)
    with flooding(sock, FLOODS[what] * 100, threads), pytest.raises(ProtocolError, match="without end"):
        server.receive(None)


def test_what_comes_does_not_postpone_a_deadline(serve: Serve, raw: Raw, threads: ThreadPoolExecutor) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    sock.sendall(b"\x82\xff" + (60 << 20).to_bytes(8, "big") + b"mask")
    with flooding(sock, bytes(1000), threads):
        began = time.monotonic()
        with pytest.raises(LinkError, match=r"no answer within 0\.2 s"):
            server.receive(0.2)
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("end", ["abort", "close"])
def test_who_is_flooded_can_be_ended_by_another_thread(serve: Serve, raw: Raw, threads: ThreadPoolExecutor, end: str) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    sock.sendall(b"\x82\xff" + (60 << 20).to_bytes(8, "big") + b"mask")
    reading = threads.submit(server.receive, None)
    with flooding(sock, bytes(65_536), threads):
        began = time.monotonic()
        getattr(server, end)()
        assert time.monotonic() - began < SOON
        with pytest.raises(LinkError, match="was closed"):
            reading.result(SOON)


def test_close_throws_away_a_flood_for_its_linger_only(serve: Serve, raw: Raw, threads: ThreadPoolExecutor) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    with flooding(sock, bytes(65_536), threads):
        began = time.monotonic()
        server.close(linger=0.2)
        assert time.monotonic() - began < SOON
    assert server.fileno() == -1


def test_a_record_in_more_packets_than_anybody_needs_is_refused(
    serve: Serve, raw: Raw, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.link.protocol.EMPTY_RECORDS", 20)
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    reading = threads.submit(server.receive, None)
    with suppress(OSError):
        send_beneath_tls(sock, b"\x17\x03\x03\x40\x00")  # the head of a record of 16 kB
        while not reading.done():
            send_beneath_tls(sock, b"x")
            while not reading.done() and unread(server):
                pass
    with pytest.raises(ProtocolError, match="records without data"):
        reading.result(20)


def test_honest_pings_and_pongs_are_no_flood(serve: Serve, raw: Raw) -> None:
    """Those of ten seconds, held back by a line and let go at once."""
    port, answer = serve()
    sock = raw(port)
    sock.sendall((masked(Opcode.PING) + masked(Opcode.PONG)) * 10 + masked(Opcode.BINARY, b"x"))
    assert answer.result(20).receive(20) == b"x"


# The first message


@pytest.mark.parametrize("size", [2001, 64 << 20, 1 << 62])
def test_a_first_message_is_refused_at_its_own_limit_when_it_is_announced(serve: Serve, raw: Raw, size: int) -> None:
    port, answer = serve(first_size=2000)
    raw(port).sendall(b"\x82\xff" + size.to_bytes(8, "big") + b"mask")
    with pytest.raises(ProtocolError) as caught:
        answer.result(20).receive(20)
    assert caught.value.code == "oversized"


def test_the_messages_after_the_first_have_theirs(serve: Serve, raw: Raw) -> None:
    port, answer = serve(first_size=2000, max_size=3000)
    sock = raw(port)
    server = answer.result(20)
    for size in (2000, 3000):
        sock.sendall(masked(Opcode.BINARY, bytes(size)))
        assert len(server.receive(20)) == size
    sock.sendall(masked(Opcode.BINARY, bytes(3001)))
    with pytest.raises(ProtocolError):
        server.receive(20)
