"""Who may come in, how many, and how a node leaves."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from engine.errors import LinkError
from engine.link import Identity, make_identity
from engine.link.connection import PATIENCE_SECONDS, PING_SECONDS
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
    entries = pair.nodes[0].log.entries
    assert [entry["event"] for entry in entries[:2]] == ["caller refused"] * 2
    assert all("certificate is not the pinned one" in entry["why"] for entry in entries[:2])


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


def test_too_many_callers_are_turned_away_at_once(pair: Pair) -> None:
    callers = [socket.create_connection(("127.0.0.1", pair.ports[1]), SOON) for _ in range(QUICK.connections + 1)]
    try:
        assert callers[-1].recv(1) == b""
        pair.nodes[1].log.wait(why="too many connections")
    finally:
        for caller in callers:
            caller.close()
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:  # the silent ones are let go in the order in which they came
        try:
            pair.open().close()
            return
        except LinkError:
            continue
    pytest.fail("the node serves nobody any more")


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
