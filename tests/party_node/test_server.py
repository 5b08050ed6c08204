"""Who may come in, how many, and how a node leaves."""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from threading import Event, Thread

import pytest

from engine.errors import LinkError
from engine.link import Identity, make_identity
from engine.link.keepalive import PATIENCE_SECONDS, PING_SECONDS
from party_node.limits import Limits
from tests.models.shared_small import SharedSmall, greedy
from tests.party_node.rig import QUICK, SOON, Pair, RawClient, identities


@pytest.fixture(scope="module")
def stranger() -> Identity:
    return make_identity("stranger")


def refused(pair: Pair, path: str, identity: Identity) -> None:
    with pytest.raises(LinkError):
        pair.call(1, path, identity)


def test_a_strangers_certificate_opens_nothing(small: SharedSmall, stranger: Identity) -> None:
    with Pair(small, identities()) as pair:
        for path in ("/session", "/peer"):
            refused(pair, path, stranger)
    refusals = [entry for entry in pair.nodes[0].log.entries if entry["event"] == "caller refused"]
    assert refusals
    assert all("certificate is not the pinned one" in entry["why"] for entry in refusals)


def test_a_certificate_opens_its_own_path_only(pair: Pair) -> None:
    refused(pair, "/peer", pair.who.client)
    refused(pair, "/session", pair.who.nodes[1])
    refused(pair, "/", pair.who.client)
    refused(pair, "/session", pair.who.nodes[0])  # not even the node's own


def test_plain_bytes_and_silence_cost_a_handshakes_time_at_most(pair: Pair) -> None:
    with (
        socket.create_connection(("127.0.0.1", pair.ports[0]), SOON) as talkative,
        socket.create_connection(("127.0.0.1", pair.ports[0]), SOON) as silent,
    ):
        talkative.sendall(b"GET / HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        for caller in (silent, talkative):
            with suppress(ConnectionResetError):
                while caller.recv(1000):  # TLS may say why
                    continue
        assert time.monotonic() - began < QUICK.handshake_seconds + SOON


def silent(pair: Pair, host: str, said: bytes = b"") -> socket.socket:
    """A stranger's connection from this address, who says no more than that."""
    caller = socket.create_connection(("127.0.0.1", pair.ports[0]), SOON, source_address=(host, 0))
    caller.sendall(said)
    return caller


HALF = {"nothing": b"", "half a TLS record": b"\x16\x03\x01\x02\x00\x01", "noise": b"\x16\x03"}


@pytest.mark.parametrize("said", HALF)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["the client's own address", "another address"])
def test_strangers_that_hold_every_place_keep_nobody_out(small: SharedSmall, host: str, said: str) -> None:
    with Pair(small, identities(), replace(QUICK, handshake_seconds=60.0)) as pair, ExitStack() as held:
        callers = [held.enter_context(silent(pair, host, HALF[said])) for _ in range(3 * QUICK.handshakes)]
        for caller in callers[: 2 * QUICK.handshakes]:
            with suppress(ConnectionResetError):
                assert caller.recv(1) == b""  # these gave way
        began = time.monotonic()
        with pair.open() as conversation:
            assert len(list(conversation.generate(small.prompt(3), max_tokens=2, choose=greedy))) == 2
        assert time.monotonic() - began < 2 * SOON
        refusals = [entry for entry in pair.nodes[0].log.entries if entry["event"] == "caller refused"]
        assert {entry["why"] for entry in refusals} == {"gave way: all places for handshakes were taken"}
        assert len(refusals) < 2 * QUICK.handshakes


def test_who_holds_most_gives_way_first(small: SharedSmall) -> None:
    with Pair(small, identities(), replace(QUICK, handshake_seconds=60.0)) as pair, ExitStack() as held:
        alone = held.enter_context(silent(pair, "127.0.0.3"))
        many = [held.enter_context(silent(pair, "127.0.0.2")) for _ in range(3 * QUICK.handshakes)]
        with suppress(ConnectionResetError):
            assert many[2 * QUICK.handshakes].recv(1) == b""
        alone.setblocking(False)
        with pytest.raises(BlockingIOError):  # the oldest of all, and still there
            alone.recv(1)


def test_the_oldest_link_without_a_session_gives_way(small: SharedSmall) -> None:
    with Pair(small, identities(), replace(QUICK, handshake_seconds=60.0)) as pair, pair.open() as conversation:
        list(conversation.generate(small.prompt(3), max_tokens=1, choose=greedy))
        links = [pair.call(1) for _ in range(QUICK.connections)]  # one of them had no place
        try:
            with pytest.raises(LinkError):
                links[0].receive(SOON)
            pair.nodes[0].log.wait(why="too many connections")
            assert list(conversation.generate(small.prompt(3), max_tokens=1, choose=greedy))
        finally:
            for link in links:
                link.abort()


def test_where_no_thread_can_be_started_callers_are_refused_and_sessions_go_on(
    small: SharedSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pair(small, identities()) as pair, pair.open() as conversation:
        list(conversation.generate(small.prompt(3), max_tokens=1, choose=greedy))

        def start(thread: Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr("party_node.server.Thread.start", start)
            link = pair.call(1)
            with pytest.raises(LinkError):
                link.receive(SOON)
            link.abort()
            pair.nodes[0].log.wait(event="caller refused", why="no thread can be started")
        assert list(conversation.generate(small.prompt(3), max_tokens=1, choose=greedy))
        with pair.open() as other:
            assert list(other.generate(small.prompt(3), max_tokens=1, choose=greedy))


@pytest.mark.parametrize("missing", [errno.EMFILE, errno.ENOMEM, errno.EINVAL])
def test_a_loop_that_cannot_accept_neither_spins_nor_ends(small: SharedSmall, missing: int) -> None:
    class Poor:
        """A listening socket that wakes the loop and gives it nothing."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.asked, self.is_poor = sock, 0, True

        def accept(self) -> object:
            self.asked += 1
            if self.is_poor:
                raise OSError(missing, os.strerror(missing))
            return self.sock.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.sock, name)

    made: list[Poor] = []

    def listening(sock: socket.socket) -> object:
        """Node 1's, which is made first, is a poor one."""
        if made:
            return sock
        made.append(Poor(sock))
        return made[0]

    with Pair(small, identities(), listening=listening) as pair:
        log, poor = pair.nodes[0].log, made[0]
        with socket.create_connection(("127.0.0.1", pair.ports[0]), SOON):
            began = time.monotonic()
            log.wait(why=os.strerror(missing))
            log.wait_for(lambda entry: "unsaid" in entry and entry["why"] == os.strerror(missing), "it again")
            seconds = time.monotonic() - began
            assert poor.asked < 2 * (seconds + 1) / 0.02
            assert len([entry for entry in log.entries if entry.get("why") == os.strerror(missing)]) <= seconds + 2
        poor.is_poor = False
        with pair.open() as conversation:
            assert list(conversation.generate(small.prompt(3), max_tokens=1, choose=greedy))


def test_what_is_due_every_day_is_done_though_nobody_calls(small: SharedSmall) -> None:
    done = Event()
    with Pair(small, identities(), daily=done.set, day_seconds=0.01):
        assert done.wait(SOON)


def test_stop_ends_sessions_and_threads(small: SharedSmall) -> None:
    with Pair(small, identities()) as pair, pair.open() as conversation:
        answer = conversation.generate(small.prompt(5), max_tokens=200, choose=greedy)
        next(answer)
        pair.nodes[0].stop()
        pair.nodes[1].stop()
        with pytest.raises(LinkError):
            list(answer)
    for node in pair.nodes:
        assert node.log.entries[-1]["left"] == 0


def test_the_log_says_what_happens_and_not_what_is_said(small: SharedSmall) -> None:
    with Pair(small, identities()) as pair, pair.open() as conversation:
        list(conversation.generate(small.prompt(30), max_tokens=4, choose=greedy))
    for node in pair.nodes:
        opened, ended, stopping, stopped = node.log.entries
        assert [entry["event"] for entry in (opened, ended, stopping, stopped)] == [
            *("session opened", "session ended", "stopping", "stopped")
        ]
        assert ended["rows"] == 33
        always = {"event", "level", "timestamp", "role"}
        assert set(opened) == always | {"session", "context", "prefix"}
        assert set(ended) == always | {"session", "rows", "seconds"}
        assert set(stopping) | set(stopped) == always | {"connections", "left"}


def test_a_client_that_answers_no_ping_is_let_go_after_the_nodes_own_patience(small: SharedSmall) -> None:
    with Pair(small, identities(), replace(QUICK, silence_seconds=0.1)) as pair:
        client = RawClient(pair)
        began = time.monotonic()
        for link, session in zip(client.links, client.sessions, strict=True):
            link.send(session.send_hello())  # and nobody reads the answer
        found = pair.nodes[0].log.wait(event="client lost")
        assert time.monotonic() - began < PING_SECONDS + PATIENCE_SECONDS
        client.abort()
    assert found["why"].startswith("no sign of life")


def test_a_node_is_more_patient_than_a_client() -> None:
    assert Limits().silence_seconds > PATIENCE_SECONDS
