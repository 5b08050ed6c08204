"""Another node that breaks the protocol: the client learns the code, and the node serves the next session."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from engine.errors import LinkError
from engine.link import Connection, Frame, FrameType, LinkOptions, client_tls, connect, decode, encode
from engine.models.planning import plans
from engine.rows.run import Rows
from engine.session import ClientSession, PeerSession, Ready, Stopped, Welcome
from engine.session.keys import fresh
from engine.session.messages import STEP_HEAD, parse_step
from engine.step import Answer
from tests.models.shared_small import PREFIX, SharedSmall
from tests.party_node.rig import QUICK, SOON, Identities, RunningNode, error_code, identities, terms

START = len(PREFIX)
F = FrameType


@pytest.fixture(scope="module")
def who() -> Identities:
    made = identities()
    return Identities(made.client, (made.nodes[1], made.nodes[0]))  # node 1 has the larger fingerprint: it is called


@pytest.fixture(scope="module")
def node(small: SharedSmall, who: Identities) -> Iterator[tuple[RunningNode, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    running = RunningNode(small, who, 1, listener, 1, QUICK)
    yield running, port
    running.stop()


class Bench:
    """Node 1 between an honest client and another node whose every byte is ours."""

    def __init__(self, small: SharedSmall, who: Identities, port: int, stack: ExitStack) -> None:
        self.small, self.who, self.port, self._stack = small, who, port, stack
        self.session = fresh(16)
        self.client = self._dial("/session", who.client)
        self.talk = ClientSession(terms(small, who, 1), self.session)
        self.client.send(self.talk.send_hello())
        assert isinstance(self.hear(), Welcome)

    def hear(self) -> Any:
        """What the node says to its client."""
        return self.talk.receive(self.client.receive(SOON))

    def call(self) -> Connection:
        """The other node's link."""
        return self._dial("/peer", self.who.nodes[1])

    def peer(self, **changes: Any) -> PeerSession:
        client = self.small.client
        honest = {"program": client.spec.digest(), "model": client.model_digest, "epoch": 0, "role": 2, "start_id": "5" * 32}
        honest["client"] = self.who.client.fingerprint
        return PeerSession(changes.pop("session", self.session), **(honest | changes))

    def join(self) -> tuple[Connection, PeerSession]:
        """The other node, up to READY."""
        link, peer = self.call(), self.peer()
        peer.receive_hello(link.exchange(peer.send_hello(), SOON))
        assert isinstance(self.hear(), Ready)
        return link, peer

    def step(self, count: int = 1) -> None:
        """Rows, material that is all zeros, and a step on them."""
        self.client.send(self.talk.send_block(1, count, START))
        spec = self.small.client.spec
        for section, plan in enumerate(plans(spec)):
            zeros = bytes(plan.dealt_bytes(Rows(1, START, count), 1))
            self.client.send(self.talk.send_material(1, section, zeros, len(zeros)))
        nothing = parse_step(STEP_HEAD.pack(1, count, START, 1) + bytes(4 * count), context=256, vocab=spec.vocab, width=0)
        self.client.send(self.talk.send_step(nothing))

    def _dial(self, path: str, identity: Any) -> Connection:
        tls = client_tls(identity, self.who.nodes[0].certificate)
        link = connect("127.0.0.1", self.port, path, tls, options=LinkOptions(ping_interval=None))
        self._stack.callback(link.abort)
        return link


@pytest.fixture
def bench(small: SharedSmall, who: Identities, node: tuple[RunningNode, int]) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(small, who, node[1], stack)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("wrong-program", {"program": "0" * 64}),
        ("wrong-model", {"model": "0" * 64}),
        ("wrong-epoch", {"epoch": 1}),
        ("wrong-role", {"role": 1}),
        ("wrong-start", {"start_id": "0" * 32}),
        ("wrong-client", {"client": "0" * 64}),
    ],
)
def test_a_greeting_that_differs(bench: Bench, code: str, changes: dict[str, Any]) -> None:
    bench.call().send(bench.peer(**changes).send_hello())
    assert error_code(bench.client) == code


def test_a_greeting_for_a_session_that_nobody_called_for(bench: Bench) -> None:
    link = bench.call()
    link.send(bench.peer(session=bytes(16)).send_hello())
    assert error_code(bench.client) == "no-peer"
    with pytest.raises(LinkError):
        link.receive(SOON)


@pytest.mark.parametrize("bad", [b"", b"\1\x0e", encode(Frame(F.ROUND, bytes(16), 0, b"\0"))])
def test_what_is_no_greeting_is_refused_at_once(bench: Bench, bad: bytes) -> None:
    link = bench.call()
    link.send(bad)
    with pytest.raises(LinkError):
        link.receive(SOON)
    bench.join()  # the session still waits for the real one


ROUNDS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "cut off": ("truncated", lambda theirs: theirs[:20]),
    "too short": ("wrong-length", lambda theirs: theirs[:-1]),
    "too long": ("wrong-length", lambda theirs: theirs + b"x"),
    "an unknown flag": ("out-of-range", lambda theirs: theirs[:26] + b"\7" + theirs[27:]),
    "a stop with a payload": ("wrong-length", lambda theirs: theirs[:26] + b"\1" + theirs[27:]),
    "a repeated message": ("out-of-order", lambda theirs: theirs[:18] + bytes(8) + theirs[26:]),
    "another version": ("wrong-version", lambda theirs: b"\2" + theirs[1:]),
    "another session": ("wrong-session", lambda theirs: theirs[:2] + bytes(16) + theirs[18:]),
    "a greeting": ("out-of-place", lambda theirs: theirs[:1] + bytes([F.PEER_HELLO]) + theirs[2:]),
}


@pytest.mark.parametrize("case", ROUNDS)
def test_a_bad_round(bench: Bench, node: tuple[RunningNode, int], case: str) -> None:
    code, bad = ROUNDS[case]
    link, _ = bench.join()
    bench.step()
    theirs = bytes(link.receive(SOON))
    began = time.monotonic()
    link.send(bad(theirs))
    assert error_code(bench.client) == code
    with pytest.raises(LinkError):
        link.receive(SOON)
    assert time.monotonic() - began < SOON
    assert "Traceback" not in node[0].log.getvalue()


def test_a_node_that_leaves_in_a_round(bench: Bench) -> None:
    link, _ = bench.join()
    bench.step()
    link.receive(SOON)
    link.abort()
    assert error_code(bench.client) == "no-peer"


def test_a_stop_is_answered_in_the_round_that_it_meets(bench: Bench) -> None:
    link, peer = bench.join()
    bench.step()
    first = peer.receive_round(link.receive(SOON), 48 * 8)
    assert first is not None
    bench.client.send(bench.talk.send_stop())
    flagged = False
    while not flagged:  # the node may be a round ahead of STOP
        link.send(peer.send_round(bytes(first)))
        reply = decode(link.receive(SOON))
        flagged = reply.payload[:1] == b"\1"
        first = memoryview(reply.payload)[1:]
    link.send(encode(Frame(F.ROUND, bench.session, peer.rounds + 1, b"\0rest")))
    assert isinstance(bench.hear(), Stopped)


def test_the_other_nodes_stop_waits_for_the_clients(bench: Bench) -> None:
    link, peer = bench.join()
    bench.step()
    link.receive(SOON)
    link.send(peer.send_round(b"", stop=True))  # it heard STOP first
    bench.client.send(bench.talk.send_stop())
    assert isinstance(bench.hear(), Stopped)
    bench.client.send(bench.talk.send_block(2, 1, START))  # the session goes on
    bench.client.send(bench.talk.send_bye())
    with pytest.raises(LinkError):
        bench.client.receive(SOON)


def test_an_echo_is_an_answer(bench: Bench) -> None:
    """The rounds' lengths and number do not depend on what the other node says."""
    link, peer = bench.join()
    bench.step()
    spec = bench.small.client.spec
    for _ in range(2 + 20 * spec.layers + 4):
        theirs = link.receive(SOON)
        link.send(peer.send_round(bytes(theirs[27:])))
    answer = bench.hear()
    assert isinstance(answer, Answer)
    assert answer.rounds == 2 + 20 * spec.layers + 4
    assert len(answer.data) == 3 * spec.vocab


def test_a_node_that_cannot_be_called(small: SharedSmall) -> None:
    who = identities()  # node 1 has the smaller fingerprint: it calls, and nobody listens there
    listener = socket.create_server(("127.0.0.1", 0))
    running = RunningNode(small, who, 1, listener, 1, QUICK)
    try:
        with ExitStack() as stack:
            bench = Bench(small, who, listener.getsockname()[1], stack)
            assert error_code(bench.client) == "no-peer"
    finally:
        running.stop()
