"""The link between the nodes falls silent without an end: it is noticed whatever they do, and nothing else is taken for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from app.local_party import NodeConversation, PromptProgress
from app.local_party.dealing import DealingThread
from engine.errors import ProtocolError, SessionStopped
from engine.link.keepalive import PING_SECONDS
from engine.parties.evaluator import Evaluator
from party_node.limits import Limits
from tests.models.shared_small import Follow, SharedSmall, greedy
from tests.party_node.lines import Line
from tests.party_node.rig import QUICK, SOON, Pair, identities

SILENCE = 1.0
WATCHFUL = replace(QUICK, peer_silence_seconds=SILENCE, handshake_seconds=SOON, round_seconds=60.0)
NOTICED = PING_SECONDS + SILENCE + PING_SECONDS + SOON
"""The limits' own sum, and some for a loaded machine."""


@pytest.fixture
def line() -> Iterator[Line]:
    with Line() as line:
        yield line


@pytest.fixture
def pair(small: SharedSmall, line: Line) -> Iterator[Pair]:
    with Pair(small, identities(), WATCHFUL, line.to) as pair:
        yield pair


def in_the_prompt(act: Callable[[], None]) -> Callable[[PromptProgress], None]:
    happened = Event()

    def look(progress: PromptProgress) -> None:
        if not progress.preparing and not happened.is_set():
            happened.set()
            act()

    return look


def answers(small: SharedSmall, conversation: NodeConversation) -> None:
    """The next question, right."""
    follow = Follow(*small.answer(small.prompt(6, 3), 3))
    assert len(list(conversation.generate(small.prompt(6, 3), max_tokens=3, choose=follow))) == 3
    assert not follow.wrong


def test_in_a_step(small: SharedSmall, pair: Pair, line: Line) -> None:
    with pair.open() as conversation:
        began = time.monotonic()
        with pytest.raises(ProtocolError, match=r"no-peer: node [12] says: .*no sign of life"):
            list(conversation.generate(small.prompt(100), max_tokens=3, choose=greedy, on_progress=in_the_prompt(line.swallow)))
        assert time.monotonic() - began < NOTICED
        answers(small, conversation)
    assert line.calls == 2


def test_between_questions(small: SharedSmall, pair: Pair, line: Line) -> None:
    """Both nodes give the session up; nobody loses a question, for the next one opens a new one."""
    with pair.open() as conversation:
        answers(small, conversation)
        line.swallow()
        for node in pair.nodes:
            assert node.log.wait(code="no-peer")["why"].startswith("the other node: no sign of life")
        answers(small, conversation)
    assert line.calls == 2


@pytest.mark.long
def test_a_stop_does_not_wait_for_it(small: SharedSmall, line: Line) -> None:
    with Pair(small, identities(), replace(WATCHFUL, peer_silence_seconds=60.0), line.to) as pair, pair.open() as conversation:
        stopped: list[float] = []

        def stop() -> None:
            line.swallow()
            conversation.stop()
            stopped.append(time.monotonic())

        with pytest.raises(SessionStopped):
            list(conversation.generate(small.prompt(100), max_tokens=3, choose=greedy, on_progress=in_the_prompt(stop)))
        assert time.monotonic() - stopped[0] < 1.0 + SOON / 2
        answers(small, conversation)


@pytest.mark.parametrize("role", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_node_that_computes_for_long_is_not_silent(
    small: SharedSmall, pair: Pair, monkeypatch: pytest.MonkeyPatch, role: int
) -> None:
    """The other one waits for its round, longer than it bears silence."""
    over, slow = Event(), [True]
    honest = Evaluator._pass

    def computes(self: Evaluator, *words: Any) -> Any:
        if self.role == role and slow:
            slow.clear()
            over.wait(PING_SECONDS + 2 * SILENCE)
        return honest(self, *words)

    monkeypatch.setattr(Evaluator, "_pass", computes)
    with pair.open() as conversation:
        began = time.monotonic()
        answers(small, conversation)
        assert time.monotonic() - began > PING_SECONDS + 2 * SILENCE
    assert not [entry for node in pair.nodes for entry in node.log.entries if "code" in entry]


@pytest.mark.long
def test_a_node_that_waits_for_its_clients_material_is_not_silent(
    small: SharedSmall, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, slow = Event(), [True]
    honest = DealingThread._give_way

    def deals(self: DealingThread) -> None:
        honest(self)
        if self._step_rows and slow:  # a step runs, and this section of its block is still to come
            slow.clear()
            over.wait(PING_SECONDS + 2 * SILENCE)

    monkeypatch.setattr(DealingThread, "_give_way", deals)
    with pair.open() as conversation:
        answers(small, conversation)
        answers(small, conversation)
    assert not [entry for node in pair.nodes for entry in node.log.entries if "code" in entry]


def test_it_is_noticed_and_told_within_7_seconds() -> None:
    limits = Limits()
    assert PING_SECONDS + limits.peer_silence_seconds + PING_SECONDS <= 6  # and half a second of the client's own


@pytest.mark.long
def test_with_the_limits_as_they_are(small: SharedSmall, line: Line) -> None:
    with ExitStack() as stack:
        pair = stack.enter_context(Pair(small, identities(), Limits(), line.to))
        conversation = stack.enter_context(pair.open())
        threads = stack.enter_context(ThreadPoolExecutor(1))
        silent: list[float] = []

        def swallow() -> None:
            line.swallow()
            silent.append(time.monotonic())

        answer = conversation.generate(small.prompt(100), max_tokens=3, choose=greedy, on_progress=in_the_prompt(swallow))
        with pytest.raises(ProtocolError, match="no-peer"):
            threads.submit(lambda: list(answer)).result(60)
        assert time.monotonic() - silent[0] < 7.0
        answers(small, conversation)
