"""Nodes that break the protocol: the person reads which one and how, the nodes are told, and a new session works."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import pytest

from app.local_party import NodeConversation
from app.local_party.session import warm_up
from engine.errors import LinkError, ProtocolError, TrineError
from engine.link import Connection, FrameType, accept, encode, server_tls
from engine.link.frames import Frame
from engine.session import Bye, Hello, NodeSession, PeerError, State
from engine.session.messages import answer_parts
from engine.step import Answer, Step
from tests.models.shared_small import Follow, SharedSmall, greedy, share_small
from tests.party_node.rig import SOON, Identities, Pair, endpoints, identities, terms

Script = Callable[["FakeNode"], None]
F = FrameType


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SharedSmall:
    shared = share_small(tmp_path_factory.mktemp("small"))
    warm_up(shared.client)  # compiling takes longer than a node waits
    return shared


@pytest.fixture(scope="module")
def who() -> Identities:
    return identities()


class FakeNode:
    """A node that says what a test tells it to, in the one session that it serves; it computes nothing."""

    def __init__(self, small: SharedSmall, who: Identities, role: int, stack: ExitStack) -> None:
        self.small, self.role = small, role
        self._who = who
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._stack = stack
        self.port = self._listener.getsockname()[1]
        self.step: Step | None = None
        self.told: object = None  #: how the client ended the session

    def serve(self, script: Script) -> None:
        tls = server_tls(self._who.nodes[self.role - 1], [self._who.client.certificate])
        doors = {"/session": {self._who.client.fingerprint}}
        self._listener.settimeout(SOON)
        try:
            plain = self._listener.accept()[0]
        except TimeoutError:  # the other node was called first, and that was enough
            return
        self.link: Connection = accept(plain, tls, doors)
        self._stack.callback(self.link.abort)
        own = terms(self.small, self._who, self.role)
        self.session = NodeSession(own, self._section_bytes)
        script(self)
        self.link.abort()  # else the client lingers

    def greet(self) -> bool:
        """Up to READY, unless the client leaves before, because of the other node."""
        if not isinstance(self.hear(Hello), Hello):
            return False
        self.link.send(self.session.send_welcome())
        self.link.send(self.session.send_ready())
        return True

    def hear(self, *kinds: type) -> object:
        """The next of these."""
        while True:
            try:
                event = self.session.receive(self.link.receive(SOON))
            except LinkError as error:
                event = error
            except ProtocolError:
                assert self.session.state is State.CLOSED  # this node has left; what was on its way still comes
                continue
            if isinstance(event, Step):
                self.step = event
            if isinstance(event, kinds):
                return event
            if isinstance(event, LinkError | Bye | PeerError):
                self.told = event
                return event

    def until_told(self) -> None:
        self.hear()

    def _section_bytes(self, first_row: int, section: int) -> int:
        from engine.models.planning import plans
        from engine.rows.run import Rows

        rows = Rows(first_row, 3 + first_row - 1, 16 if first_row == 1 else 32)
        return plans(self.small.client.spec)[section].dealt_bytes(rows, self.role)


@pytest.fixture
def nodes(small: SharedSmall, who: Identities) -> Iterator[tuple[FakeNode, FakeNode]]:
    with ExitStack() as stack:
        yield FakeNode(small, who, 1, stack), FakeNode(small, who, 2, stack)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def ask(
    small: SharedSmall,
    who: Identities,
    nodes: tuple[FakeNode, FakeNode],
    scripts: tuple[Script, Script],
    threads: ThreadPoolExecutor,
) -> TrineError:
    """What becomes of a question; both nodes have ended their scripts."""
    serving: list[Future[None]] = [threads.submit(node.serve, script) for node, script in zip(nodes, scripts, strict=True)]
    began = time.monotonic()
    ports = [node.port for node in nodes]
    with pytest.raises(TrineError) as raised, NodeConversation.open(endpoints(who, ports), small.client) as conversation:
        list(conversation.generate(small.prompt(5), max_tokens=3, choose=greedy))
    assert time.monotonic() - began < SOON
    for served in serving:
        served.result(SOON)
    return raised.value


def honest(node: FakeNode) -> None:
    if node.greet():
        node.until_told()


def says(bad: Callable[[FakeNode], bytes], *, when: type | None = Step) -> Script:
    """Honest until the client's first message of that kind."""

    def script(node: FakeNode) -> None:
        if when is None:
            node.hear(Hello)
        else:
            node.greet()
            node.hear(when)
        node.link.send(bad(node))
        node.until_told()

    return script


def framed(node: FakeNode, kind: FrameType, payload: bytes = b"", sequence: int = 2) -> bytes:
    return encode(Frame(kind, node.session.session or b"", sequence, payload))


BAD: dict[str, tuple[str, Callable[[FakeNode], bytes]]] = {
    "cut off": ("truncated", lambda node: framed(node, F.READY)[:9]),
    "another version": ("wrong-version", lambda node: b"\3" + framed(node, F.READY)[1:]),
    "an unknown type": ("unknown-type", lambda node: b"\1\xee" + framed(node, F.READY)[2:]),
    "another session": ("wrong-session", lambda node: encode(Frame(F.READY, bytes(16), 2, b""))),
    "a repeated message": ("out-of-order", lambda node: framed(node, F.READY, sequence=1)),
    "too long": (
        "oversized",
        lambda node: encode(Frame(F.READY, node.session.session or b"", 2, bytes(70_000)), dict.fromkeys(F, 1 << 20)),
    ),
    "out of place": ("out-of-place", lambda node: framed(node, F.READY)),
    "an answer cut off": ("wrong-length", lambda node: framed(node, F.ANSWER, bytes(20))),
    "an answer to another step": (
        "out-of-range",
        lambda node: framed(node, F.ANSWER, answer(node, first_row=7)),
    ),
}


def answer(node: FakeNode, first_row: int = 1, fill: bytes = b"\0") -> bytes:
    length = 3 * node.small.vocab if node.role == 1 else 32
    return b"".join(answer_parts(Answer(first_row, 1, 79, 1000, 0, fill * length)))


@pytest.mark.parametrize("role", [1, 2])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_message_in_a_step(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor, case: str, role: int
) -> None:
    code, bad = BAD[case]
    scripts = (says(bad), honest) if role == 1 else (honest, says(bad))
    error = ask(small, who, nodes, scripts, threads)
    assert isinstance(error, ProtocolError)
    assert error.code == code
    assert error.text.startswith(f"node {role}")
    told, other = nodes[role - 1].told, nodes[2 - role].told
    assert isinstance(told, PeerError)
    assert told.code == code
    assert isinstance(other, Bye | PeerError | LinkError)


def test_answers_that_differ(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor
) -> None:
    script = says(lambda node: framed(node, F.ANSWER, answer(node)))
    error = ask(small, who, nodes, (script, script), threads)
    assert isinstance(error, ProtocolError)
    assert error.code == "answers-differ"
    for node in nodes:
        assert isinstance(node.told, PeerError)
        assert node.told.code == "answers-differ"


def test_a_node_that_says_why_it_gives_up(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor
) -> None:
    script = says(lambda node: node.session.send_error(ProtocolError("failed", "on \x1b[31mfire")))
    error = ask(small, who, nodes, (honest, script), threads)
    assert isinstance(error, ProtocolError)
    assert (error.code, error.text) == ("failed", "node 2 says: on [31mfire")


def test_a_node_that_leaves(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor
) -> None:
    error = ask(small, who, nodes, (honest, says(lambda node: node.session.send_bye())), threads)
    assert isinstance(error, LinkError)
    assert str(error) == "node 2: left the session"


def test_a_node_of_another_model(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor
) -> None:
    def other_model(node: FakeNode) -> bytes:
        return node.session.send_welcome().replace(small.client.spec.digest().encode(), b"0" * 64)

    error = ask(small, who, nodes, (honest, says(other_model, when=None)), threads)
    assert isinstance(error, ProtocolError)
    assert error.code == "wrong-program"


def test_a_node_that_nobody_runs(small: SharedSmall, who: Identities) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        ports = [closed.getsockname()[1]] * 2
    with pytest.raises(LinkError, match="^node 2: cannot be reached"):
        NodeConversation.open(endpoints(who, ports), small.client)


def test_the_alarm_makes_the_step_anew(small: SharedSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    """One planted wrap, in the prompt and in the answer: the text is the same, and two steps were redone."""
    from engine.parties.dealer import Dealer

    planted, wrapped = iter([True, False, False, True, False, False]), Dealer.wrapped
    with Pair(small, identities()) as pair, pair.open() as conversation:
        prompt = small.prompt(12)
        want = list(conversation.generate(prompt, max_tokens=3, choose=greedy))
        monkeypatch.setattr(Dealer, "wrapped", lambda *words: wrapped(*words) or next(planted, False))
        list(conversation.generate([*prompt[:5], 9], max_tokens=1, choose=greedy))
        assert conversation.statistics.redone == 1
        assert list(conversation.generate(prompt, max_tokens=3, choose=greedy)) == want
        assert conversation.statistics.redone == 1
        monkeypatch.setattr(Dealer, "wrapped", lambda *words: True)
        with pytest.raises(ProtocolError, match="rose 3 times in a row in one step"):
            list(conversation.generate([*prompt[:5], 9], max_tokens=1, choose=greedy))
        assert conversation.statistics.redone == 3


def test_a_small_queue_and_a_small_context(small: SharedSmall) -> None:
    """A prompt of any length fits any queue; the queue's bound is kept at every step."""
    follow = Follow(*small.answer(small.prompt(60), 4))
    with Pair(small, identities()) as pair, pair.open(queue_bytes=300_000, context=100) as conversation:
        assert len(list(conversation.generate(small.prompt(60), max_tokens=4, choose=follow))) == 4
        assert not follow.wrong
        assert conversation.statistics.prefill.steps > 15  # passes of the four rows that fit


def test_a_stop_that_nobody_asked_for(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor
) -> None:
    script = says(lambda node: framed(node, F.STOPPED, bytes(8)))
    error = ask(small, who, nodes, (script, script), threads)
    assert isinstance(error, ProtocolError)
    assert error.code == "out-of-place"


def test_one_node_is_ready_before_the_others_welcome(
    small: SharedSmall, who: Identities, nodes: tuple[FakeNode, FakeNode], threads: ThreadPoolExecutor
) -> None:
    first_is_ready = Event()

    def early(node: FakeNode) -> None:  # node 2 is called first: it has the larger fingerprint
        node.greet()
        first_is_ready.set()
        node.until_told()

    def late(node: FakeNode) -> None:
        node.hear(Hello)
        assert first_is_ready.wait(SOON)
        node.link.send(node.session.send_welcome())
        node.link.send(node.session.send_ready())
        node.hear(Step)
        node.link.send(node.session.send_bye())
        node.until_told()

    assert str(ask(small, who, nodes, (late, early), threads)) == "node 1: left the session"
