"""Peers that send much and say nothing: they are ended in time, and nobody else waits for them."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from types import SimpleNamespace

import pytest
from websockets.frames import Frame, Opcode

from engine.errors import LinkError, ProtocolError, TrineError
from engine.link import Connection
from engine.link.keepalive import FLOOR_BYTES, Allowance, Keepalive

Ends = Callable[..., tuple[Connection, Connection]]
Serve = Callable[..., tuple[int, Future[Connection]]]
Raw = Callable[..., ssl.SSLSocket]
SOON = 5.0


def masked(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


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
    """Where all frames are the library's."""
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    server._splitter._ours = False
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
    assert server._sock.fileno() == -1


def test_a_record_in_more_packets_than_anybody_needs_is_refused(
    serve: Serve, raw: Raw, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.link.connection._EMPTY_RECORDS", 20)
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    reading = threads.submit(server.receive, None)
    socket.socket.send(sock, b"\x17\x03\x03\x40\x00")  # beneath TLS: the head of a record of 16 kB
    with suppress(OSError):
        while not reading.done():
            seen = server._empty
            socket.socket.send(sock, b"x")
            while server._empty == seen and not reading.done():
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


@pytest.mark.parametrize("ours", [True, False])
def test_the_messages_after_the_first_have_theirs(serve: Serve, raw: Raw, ours: bool) -> None:
    port, answer = serve(first_size=2000, max_size=3000)
    sock = raw(port)
    server = answer.result(20)
    server._splitter._ours = ours
    for size in (2000, 3000):
        sock.sendall(masked(Opcode.BINARY, bytes(size)))
        assert len(server.receive(20)) == size
    sock.sendall(masked(Opcode.BINARY, bytes(3001)))
    with pytest.raises(ProtocolError):
        server.receive(20)


# Slow peers: time is what the test says it is


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], float]:
    """Advances the time of `Keepalive`, and says how late it is."""
    now = 1000.0

    def advance(seconds: float) -> float:
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr("engine.link.keepalive.time", SimpleNamespace(monotonic=lambda: now))
    return advance


def minded(keepalive: Keepalive, now: float) -> str | None:
    verdict = keepalive.verdict(now, 0.0)
    keepalive.wants_ping(now)
    return verdict


@pytest.mark.parametrize("rate", [FLOOR_BYTES, 16_000, 60_000])
def test_a_long_message_on_a_slow_line_is_a_sign_of_life(clock: Callable[[float], float], rate: int) -> None:
    keepalive = Keepalive(1.0, 3.0)
    for _ in range(500):  # a TLS record is nothing until it is whole
        now = clock(16_384 / rate / 4)
        assert minded(keepalive, now) is None
        keepalive.lives(16_384 / 4 / FLOOR_BYTES)


@pytest.mark.parametrize("piece", [1, 100, 1000])
def test_a_trickle_is_none(clock: Callable[[float], float], piece: int) -> None:
    keepalive = Keepalive(1.0, 3.0)
    for second in range(1, 12):
        if (verdict := minded(keepalive, clock(1.0))) is not None:
            assert "too slow: less than 4 kB a second" in verdict
            assert second >= 4
            return
        keepalive.lives(piece / FLOOR_BYTES)
    pytest.fail("a trickle keeps a connection")


def test_a_peer_that_froze_within_a_message_was_not_slow(clock: Callable[[float], float]) -> None:
    keepalive = Keepalive(1.0, 3.0)
    clock(0.5)
    keepalive.lives(1 / FLOOR_BYTES)
    assert keepalive.wants_ping(clock(1.0))
    verdict = keepalive.verdict(clock(3.0), 0.0)
    assert verdict is not None
    assert verdict.startswith("no sign of life")


def test_an_allowance_comes_back_with_time(clock: Callable[[float], float]) -> None:
    allowance = Allowance(3, 2.0)
    assert [allowance.spend() for _ in range(4)] == [True, True, True, False]
    clock(1.0)
    assert [allowance.spend() for _ in range(3)] == [True, True, False]
    clock(100.0)
    assert [allowance.spend() for _ in range(4)] == [True, True, True, False]
