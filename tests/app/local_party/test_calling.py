"""Calling nodes that are busy, silent or far: what is asked again, in which order, and that a stop ends every wait."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import pytest

from app.chat.chat import Chat, Settings
from app.local_party import Endpoints, NodeConversation, PromptProgress, conversation
from app.local_party.calling import call, order
from app.local_party.inbox import Inbox
from app.local_party.session import Halt, Session, warm_up
from engine.errors import LinkError, ProtocolError, SessionStopped
from engine.link import pair
from engine.parties.evaluator import Evaluator
from engine.session import Stopped
from party_node.session import ServedSession
from tests.app.scripted import chat_tokenizer
from tests.models.shared_small import Follow, SharedSmall, greedy, share_small
from tests.party_node.rig import QUICK, SOON, Pair, endpoints, identities


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SharedSmall:
    shared = share_small(tmp_path_factory.mktemp("small"))
    warm_up(shared.client)  # compiling takes longer than a node waits
    return shared


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def unopened(parties: Endpoints, small: SharedSmall) -> NodeConversation:
    return NodeConversation(parties, small.client, context=small.client.spec.context, queue_bytes=1 << 30)


def asking(conversation: NodeConversation, small: SharedSmall, threads: ThreadPoolExecutor) -> Future[list[int]]:
    answer = conversation.generate(small.prompt(5), max_tokens=3, choose=greedy)
    return threads.submit(lambda: list(answer))


@contextmanager
def silent_nodes() -> Iterator[list[int]]:
    """Ports that take connections and never say a word."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in (1, 2)]


def stopped_soon(chat: NodeConversation, job: Future[list[int]], *, asked: bool = True) -> None:
    began = time.monotonic()
    if asked:
        chat.stop()
    with pytest.raises(SessionStopped):
        job.result(SOON)
    assert time.monotonic() - began < conversation.STOP_SECONDS + 2.0


def test_the_node_that_is_called_by_the_other_comes_first() -> None:
    who = identities()  # node 1 has the smaller fingerprint, and calls
    assert order(endpoints(who, [1, 2])) == (2, 1)
    turned = endpoints(who, [1, 2])
    assert order(Endpoints(turned.identity, (turned.nodes[1], turned.nodes[0]))) == (1, 2)


def test_a_call_brings_what_was_made_or_what_went_wrong() -> None:
    link, _ = pair()
    assert call(lambda: link, Inbox(), Event()) is link

    def fails() -> Any:
        raise LinkError("cannot be reached", "node 1")

    with pytest.raises(LinkError, match="cannot be reached"):
        call(fails, Inbox(), Event())


@pytest.mark.parametrize("answered", [False, True])
def test_a_call_that_was_stopped_hangs_up_when_it_is_answered(threads: ThreadPoolExecutor, answered: bool) -> None:
    inbox, stopping, go, (link, other) = Inbox(), Event(), Event(), pair()

    def make() -> Any:
        assert go.wait(SOON)
        return link

    calling = threads.submit(call, make, inbox, stopping)
    if answered:
        go.set()
    stopping.set()
    inbox.wake()
    with pytest.raises(SessionStopped):
        calling.result(SOON)
    go.set()
    with pytest.raises(LinkError):
        other.receive(SOON)


def test_a_stop_ends_a_call_that_nobody_answers(small: SharedSmall, threads: ThreadPoolExecutor) -> None:
    with silent_nodes() as ports, unopened(endpoints(identities(), ports), small) as chat:
        stopped_soon(chat, asking(chat, small, threads))


def test_a_stop_ends_the_first_connecting_of_a_chat(small: SharedSmall, threads: ThreadPoolExecutor) -> None:
    begun = Event()
    with silent_nodes() as ports:

        def make() -> NodeConversation:
            begun.set()
            return unopened(endpoints(identities(), ports), small)

        chat = Chat(make, chat_tokenizer(), Settings(), 100)
        job = threads.submit(chat.open)
        assert begun.wait(SOON)
        chat.stop()
        with pytest.raises(SessionStopped):
            job.result(SOON)
    assert chat.conversation is None


def busy_twice(monkeypatch: pytest.MonkeyPatch, seconds: float, times: int = 2) -> list[float]:
    """The next sessions are refused so often; when they were asked for."""
    asked: list[float] = []
    honest = conversation.open_session

    def refusing(*words: Any, **options: Any) -> Session:
        asked.append(time.monotonic())
        if len(asked) <= times:
            raise ProtocolError("busy", "node 2 says: 4 sessions", seconds)
        return honest(*words, **options)

    monkeypatch.setattr(conversation, "open_session", refusing)
    return asked


def test_busy_nodes_are_asked_again_when_they_say(small: SharedSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = busy_twice(monkeypatch, 0.2)
    with Pair(small, identities()) as running, running.open() as chat:
        assert len(list(chat.generate(small.prompt(5), max_tokens=2, choose=greedy))) == 2
    assert len(asked) == 3
    assert all(later - earlier >= 0.2 for earlier, later in zip(asked, asked[1:], strict=False))


def test_a_node_that_is_busy_for_long_is_said_to_be(small: SharedSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that never says when, which is not asked again at all."""
    asked = busy_twice(monkeypatch, conversation.RETRY_SECONDS + 1)
    with pytest.raises(ProtocolError, match=r"4 sessions; ask again in 76 s"):
        NodeConversation.open(endpoints(identities(), [1, 2]), small.client)
    assert len(asked) == 1


def test_a_node_that_says_at_once_is_not_asked_all_the_time(small: SharedSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "RETRY_SECONDS", 0.5)
    asked = busy_twice(monkeypatch, 0.0, times=10**6)
    with pytest.raises(ProtocolError, match="busy"):
        NodeConversation.open(endpoints(identities(), [1, 2]), small.client)
    assert len(asked) <= 6


def test_a_stop_ends_the_wait_for_busy_nodes(
    small: SharedSmall, monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    asked = busy_twice(monkeypatch, 60.0)
    with unopened(endpoints(identities(), [1, 2]), small) as chat:
        job = asking(chat, small, threads)
        stopped_soon(chat, job)
    assert len(asked) <= 1


# A stop that does not come through


def slow_stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Both nodes hear the stop when this is called, and not before."""
    go = Event()
    honest = ServedSession._stop

    def later(self: ServedSession, evaluator: Evaluator) -> None:
        assert go.wait(20)
        honest(self, evaluator)

    monkeypatch.setattr(ServedSession, "_stop", later)
    return go.set


def test_a_stop_that_takes_long_goes_on_behind_the_persons_back(
    small: SharedSmall, monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    """The person has the prompt back at once; the same session answers the next question."""
    monkeypatch.setattr(conversation, "SETTLE_SECONDS", 20.0)
    follow = Follow(*small.answer(small.prompt(6), 3))
    with Pair(small, identities(), QUICK) as running, running.open() as chat:
        come_through = slow_stop(monkeypatch)
        session = chat.session
        stopping_in_the_prompt(chat, small, threads)
        come_through()
        assert len(list(chat.generate(small.prompt(6), max_tokens=3, choose=follow))) == 3
        assert not follow.wrong
        assert chat.session is session


def test_a_stop_that_never_comes_through_costs_the_session_and_nothing_else(
    small: SharedSmall, monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr(conversation, "SETTLE_SECONDS", 0.2)
    follow = Follow(*small.answer(small.prompt(6), 3))
    with Pair(small, identities(), QUICK) as running, running.open() as chat:
        come_through = slow_stop(monkeypatch)
        session = chat.session
        stopping_in_the_prompt(chat, small, threads)
        try:
            assert len(list(chat.generate(small.prompt(6), max_tokens=3, choose=follow))) == 3
        finally:
            come_through()
        assert not follow.wrong
        assert chat.session is not session


def stopping_in_the_prompt(chat: NodeConversation, small: SharedSmall, threads: ThreadPoolExecutor) -> None:
    """While both nodes compute a pass of it."""

    def look(step: PromptProgress) -> None:
        if not step.preparing:
            chat.stop()

    answer = chat.generate(small.prompt(100), max_tokens=3, choose=greedy, on_progress=look)
    stopped_soon(chat, threads.submit(lambda: list(answer)), asked=False)


def test_a_stop_behind_a_line_that_takes_nothing_cuts_it(
    small: SharedSmall, monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    """Whatever the worker waits for below, deaf to the stop: a lock, a full socket, a node that froze."""
    stuck = Event()

    def waits(self: Session, *words: object) -> None:
        stuck.set()
        while True:  # until the links are cut
            self._inbox.take(lambda: False)

    follow = Follow(*small.answer(small.prompt(6), 3))
    with Pair(small, identities(), QUICK) as running, running.open() as chat:
        with monkeypatch.context() as planted:
            planted.setattr(Session, "_step", waits)
            job = asking(chat, small, threads)
            assert stuck.wait(SOON)
            stopped_soon(chat, job)
        assert "lost" not in chat.status.states.values()
        assert len(list(chat.generate(small.prompt(6), max_tokens=3, choose=follow))) == 3
        assert not follow.wrong


def test_stopped_is_said_of_both_nodes_before_a_stop_is_over() -> None:
    halt = Halt(4, 9, [1], {}, told={1, 2})
    halt.hear(1, Stopped(9))
    assert not halt.over
    halt.hear(2, Stopped(9))
    assert halt.over
