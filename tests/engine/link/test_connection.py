"""The socket under a link: deadlocks, dead peers, broken peers, threads that leave."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest
from websockets.frames import Opcode

from engine.errors import LinkError, ProtocolError
from engine.link import Connection
from tests.engine.link.sockets import garble, masked, reset

Ends = Callable[..., tuple[Connection, Connection]]
Serve = Callable[..., tuple[int, Future[Connection]]]
Raw = Callable[..., ssl.SSLSocket]
BIG = 50_000_000


def test_two_peers_send_50_mb_to_each_other_at_once(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends()
    here, there = bytes(BIG), b"\1" * BIG
    other = threads.submit(server.exchange, there, 60)
    assert client.exchange(here, 60) == there
    assert other.result(60) == here


def test_two_readers_and_two_writers_move_much_at_once(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends()
    message = bytes(20_000_000)
    sending = [threads.submit(end.send, message) for end in (client, server)]
    reading = [threads.submit(end.receive, 60) for end in (client, server)]
    assert all(job.result(60) == message for job in reading)
    assert all(job.result(60) is None for job in sending)


def test_a_round_waits_for_its_own_bytes_too(ends: Ends, threads: ThreadPoolExecutor) -> None:
    # The answer is there long before the question has left.
    client, server = ends()
    server.send(b"answer")
    asking = threads.submit(client.exchange, bytes(BIG), 60)
    assert len(server.receive(60)) == BIG
    assert asking.result(60) == b"answer"


@pytest.mark.parametrize("bounded", [True, False])
def test_latency_matters(ends: Ends, monkeypatch: pytest.MonkeyPatch, bounded: bool) -> None:
    if not bounded:  # a system that cannot bound what its kernel holds back
        monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT", raising=False)
    client, server = ends()
    for end in (client, server):
        with socket.socket(fileno=os.dup(end.fileno())) as plain:
            assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Silence


def test_a_dead_peer_is_noticed(ends: Ends) -> None:
    begin = time.monotonic()  # before the client begins to count
    client, server = ends(client={"ping_interval": 0.05, "ping_timeout": 0.1})
    with pytest.raises(LinkError, match="no sign of life"):  # nobody reads at the server
        client.receive(20)
    assert 0.15 <= time.monotonic() - begin < 10
    assert server.messages_received == 0


def test_a_peer_that_answers_pings_is_alive(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends(client={"ping_interval": 0.02, "ping_timeout": 10})
    reading = threads.submit(server.receive, None)
    with pytest.raises(LinkError, match=r"no answer within 0\.3 s"):
        client.receive(0.3)
    with pytest.raises(LinkError):
        reading.result(20)


def test_without_pings_only_the_callers_timeout_counts(ends: Ends) -> None:
    client, _ = ends(client={"ping_interval": None})
    with pytest.raises(LinkError, match=r"no answer within 0\.05 s"):
        client.receive(0.05)


def test_a_late_reader_does_not_blame_the_peer(ends: Ends) -> None:
    # Between two calls nobody reads, so that nobody can have heard the peer.
    client, server = ends(client={"ping_interval": 0.01, "ping_timeout": 0.05})
    server.send(b"here I am")
    time.sleep(0.3)
    assert client.receive(20) == b"here I am"


def test_who_did_not_run_does_not_blame_the_peer(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no time for this process: 0.3 s pass between any two looks at the clock."""
    client, _ = ends(client={"ping_interval": 0.05, "ping_timeout": 0.1})
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 0.3 * next(looks))
    monkeypatch.setattr("engine.link.connection.time", clock)
    with pytest.raises(LinkError, match=r"no answer within 2 s"):  # not "no sign of life"
        client.receive(2.0)


def test_a_peer_that_takes_bytes_is_alive(serve: Serve, raw: Raw, threads: ThreadPoolExecutor) -> None:
    port, answer = serve(ping_interval=0.1, ping_timeout=0.3)
    sock = raw(port)
    server = answer.result(20)
    sending = threads.submit(server.send, bytes(BIG), 20)
    reading = threads.submit(server.receive, 1.5)
    while not reading.done():  # it reads and says nothing, not even an answer to a ping
        sock.recv(1 << 20)
        time.sleep(0.02)
    with pytest.raises(LinkError, match=r"no answer within 1\.5 s"):  # not "no sign of life"
        reading.result(20)
    with pytest.raises(LinkError, match=r"no answer within 1\.5 s"):
        sending.result(20)


def test_no_ping_is_queued_behind_a_long_message(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, _ = ends(client={"ping_interval": 0.05, "ping_timeout": 0.1})
    sending = threads.submit(client.send, bytes(BIG))
    while not client.messages_sent:
        pass
    with pytest.raises(LinkError, match="no sign of life"):
        client.receive(20)
    with pytest.raises(LinkError, match="no sign of life"):
        sending.result(20)


def test_without_any_limit_a_reader_waits_until_it_is_woken(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends(client={"ping_interval": None})
    reading = threads.submit(client.receive)
    while not reading.running():
        pass
    server.send(b"at last")
    assert reading.result(20) == b"at last"


# Peers that do not read


def test_who_sends_to_a_peer_that_does_not_read_is_released(ends: Ends) -> None:
    client, _ = ends()
    with pytest.raises(LinkError, match=r"took nothing for 0\.05 s"):
        client.send(bytes(BIG), timeout=0.05)


def test_abort_wakes_who_sends(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, _ = ends()
    sending = threads.submit(client.send, bytes(BIG), None)
    while not client.messages_sent:
        pass
    client.abort()
    with pytest.raises(LinkError, match="was closed"):
        sending.result(20)


def test_who_never_reads_what_many_send_is_let_go(ends: Ends) -> None:
    client, _ = ends(client={"ping_interval": None})
    with ThreadPoolExecutor(66) as many:
        sending = [many.submit(client.send, bytes(BIG), None)]
        while not client.messages_sent:
            pass
        sending += [many.submit(client.send, b"x", None) for _ in range(65)]
        for job in sending:
            with pytest.raises(LinkError, match="does not read"):
                job.result(20)


# Peers that send something else


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(Opcode.TEXT, b"text"), "malformed"),
        (masked(Opcode.BINARY, b"part", fin=False), "malformed"),
        (masked(Opcode.CONT, b"part"), "malformed"),
        (b"\x83\x80aaaa", "malformed"),
        (b"\x82\x03abc", "malformed"),  # not masked
        (masked(Opcode.BINARY, bytes(2001)), "oversized"),
        (b"\x82\xff" + (2**62).to_bytes(8, "big") + b"mask", "oversized"),
    ],
    ids=["text", "unfinished", "continuation", "ping", "unmasked", "long", "huge"],  # a mask is another in each process
)
def test_what_is_no_message_is_refused(serve: Serve, raw: Raw, data: bytes, code: str) -> None:
    port, answer = serve(max_size=2000)
    sock = raw(port)
    sock.sendall(masked(Opcode.BINARY, b"good") + data)
    server = answer.result(20)
    assert server.receive(20) == b"good"
    with pytest.raises(ProtocolError) as caught:
        server.receive(20)
    assert caught.value.code == code
    with pytest.raises(ProtocolError):
        server.send(b"x")


def test_pongs_and_pings_are_no_messages(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    sock = raw(port)
    sock.sendall(masked(Opcode.PONG, b"?") + masked(Opcode.PING, b"!") + masked(Opcode.BINARY, b"x"))
    assert answer.result(20).receive(20) == b"x"
    assert sock.recv(100) == b"\x8a\x01!"


def test_a_close_is_answered(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    sock = raw(port)
    sock.sendall(masked(Opcode.CLOSE, struct.pack("!H", 1000)))
    with pytest.raises(LinkError, match="closed the connection"):
        answer.result(20).receive(20)
    assert sock.recv(100)[:2] == b"\x88\x02"


def test_a_peer_that_vanishes_is_an_error(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    sock = raw(port)
    sock.sendall(masked(Opcode.BINARY, b"whole") + masked(Opcode.BINARY, bytes(100))[:50])
    sock.close()
    server = answer.result(20)
    assert server.receive(20) == b"whole"
    with pytest.raises(LinkError, match="hung up"):
        server.receive(20)


def test_a_reset_is_an_error(serve: Serve, raw: Raw, threads: ThreadPoolExecutor) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    reading = threads.submit(server.receive, None)
    reset(sock)
    with pytest.raises(LinkError, match="reset|hung up"):
        reading.result(20)
    with pytest.raises(LinkError):
        server.send(b"x")


def test_a_flipped_byte_is_an_error(ends: Ends) -> None:
    client, server = ends()
    garble(client)
    with pytest.raises(LinkError):
        server.receive(20)


def test_nothing_is_received_behind_an_error(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    raw(port).sendall(masked(Opcode.TEXT, b"text") + masked(Opcode.BINARY, b"x"))
    server = answer.result(20)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            server.receive(20)


def test_a_round_with_a_peer_that_is_gone_is_an_error(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    reset(sock)
    with pytest.raises(LinkError):
        server.exchange(b"x", 20)


# Ends


def test_who_is_closed_while_others_wait_leaves_no_descriptor(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends()
    inside = Event()

    def read() -> None:
        inside.set()
        client.receive(None)

    reading = threads.submit(read)
    assert inside.wait(20)
    threads.submit(server.abort).result(20)
    with pytest.raises(LinkError):
        reading.result(20)
    client.close()
    server.close()
    assert client.fileno() == server.fileno() == -1


def test_close_gives_up_on_a_peer_that_stays(ends: Ends) -> None:
    client, _ = ends()
    begin = time.monotonic()
    client.close(linger=0.1)
    assert 0.1 <= time.monotonic() - begin < 10


def test_close_lets_the_peer_finish(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends()
    server.send(bytes(100_000))  # never read: thrown away while closing
    client.send(b"last")
    closing = threads.submit(client.close, 20.0)
    assert server.receive(20) == b"last"
    with pytest.raises(LinkError, match="closed the connection"):
        server.receive(20)
    closing.result(20)


def test_close_waits_until_all_has_left(ends: Ends, threads: ThreadPoolExecutor) -> None:
    client, server = ends()
    sending = threads.submit(client.send, bytes(BIG))
    while not client.messages_sent:
        pass
    closing = threads.submit(client.close, 20.0)
    assert len(server.receive(20)) == BIG
    sending.exception(20)  # the close may have ended its wait
    with pytest.raises(LinkError, match="closed the connection"):
        server.receive(20)
    closing.result(20)


def test_close_bears_a_peer_that_is_gone(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    reset(sock)
    server.close()
    assert server.fileno() == -1


@pytest.mark.parametrize("meanwhile", ["reset", "garble"])
def test_close_bears_what_the_peer_does_meanwhile(serve: Serve, raw: Raw, threads: ThreadPoolExecutor, meanwhile: str) -> None:
    port, answer = serve()
    sock = raw(port)
    server = answer.result(20)
    closing = threads.submit(server.close, 20.0)
    assert sock.recv(100)[:1] == b"\x88"
    {"reset": reset, "garble": garble}[meanwhile](sock)
    closing.result(20)
    assert server.fileno() == -1


def test_the_first_error_stays(ends: Ends) -> None:
    client, _ = ends()
    for end in (lambda: None, client.close, client.abort):
        end()
        with pytest.raises(LinkError, match=r"no answer within 0\.01 s"):
            client.receive(0.01)


def test_nothing_is_shown_or_logged(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    client, server = ends()
    client.send(b"canary")
    assert server.receive(20) == b"canary"
    assert "canary" not in repr(client) + repr(server) + caplog.text
    assert not caplog.records
