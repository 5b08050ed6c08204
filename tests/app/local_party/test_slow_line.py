"""A thin line to a node: the answer comes and is right, it is seen that it comes, or one sentence names the line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest

from app.local_party import NodeConversation, PromptProgress, dealing, node_link, session
from app.local_party.session import warm_up
from engine.errors import LinkError, SessionStopped
from tests.models.shared_small import Follow, SharedSmall, greedy, share_small
from tests.party_node.lines import ThinLine
from tests.party_node.rig import QUICK, SOON, Identities, Pair, endpoints, identities

PATIENT = replace(QUICK, handshake_seconds=SOON, pairing_seconds=SOON, round_seconds=60.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SharedSmall:
    shared = share_small(tmp_path_factory.mktemp("small"))
    warm_up(shared.client)  # compiling takes longer than a node waits
    return shared


@pytest.fixture(scope="module")
def who() -> Identities:
    return identities()


@pytest.fixture(scope="module")
def pair(small: SharedSmall, who: Identities) -> Iterator[Pair]:
    with Pair(small, who, PATIENT) as pair:
        yield pair


def through(pair: Pair, line: ThinLine) -> NodeConversation:
    """A session whose client's lines are thin."""
    ports = [line.to(port) for port in pair.ports]
    return NodeConversation.open(endpoints(pair.who, ports), pair.small.client)


def answers(small: SharedSmall, conversation: NodeConversation, seen: list[PromptProgress]) -> None:
    follow = Follow(*small.answer(small.prompt(8), 2))
    assert len(list(conversation.generate(small.prompt(8), max_tokens=2, choose=follow, on_progress=seen.append))) == 2
    assert not follow.wrong


@pytest.mark.long
def test_behind_a_buffer_of_seconds(small: SharedSmall, pair: Pair) -> None:
    """What the client asks the nodes is stuck behind its material for longer than it bears silence: they speak unasked."""
    with ThinLine(rate=400_000, room=4 << 20) as line, through(pair, line) as conversation:
        answers(small, conversation, [])
        states = conversation.status.states
    assert states == {"node1": "connected", "node2": "connected"}


def test_on_a_thin_line_it_is_seen_that_the_answer_comes(
    small: SharedSmall, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.1)
    seen: list[PromptProgress] = []
    with ThinLine(rate=300_000, room=1 << 16) as line, through(pair, line) as conversation:
        answers(small, conversation, seen)
    waited = [progress.fraction for progress in seen if progress.preparing]
    assert len(set(waited)) > 3
    assert max(waited) > 0.1


def test_a_line_that_is_too_slow_is_named(small: SharedSmall, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node lives, and is not called silent; the person may ask again."""
    monkeypatch.setattr(session, "LINE_SECONDS", 0.5)
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.1)
    with ThinLine(rate=20_000, room=1 << 16) as line, through(pair, line) as conversation:
        began = time.monotonic()
        says = r"^node [12]: the line to it is too slow: 64 kB took more than 0.5 s, and a token needs \d+ kB"
        with pytest.raises(LinkError, match=says):
            list(conversation.generate(small.prompt(8), max_tokens=2, choose=greedy))
        assert time.monotonic() - began < SOON + 5


def test_a_stop_on_a_slow_line_gives_the_prompt_back(small: SharedSmall, pair: Pair) -> None:
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(1))
        line = stack.enter_context(ThinLine(rate=30_000, room=1 << 16))
        conversation = stack.enter_context(through(pair, line))
        begun: list[PromptProgress] = []
        answer = conversation.generate(small.prompt(8), max_tokens=2, choose=greedy, on_progress=begun.append)
        job = threads.submit(lambda: list(answer))
        conversation.stop()
        began = time.monotonic()
        with pytest.raises(SessionStopped):
            job.result(SOON)
        assert time.monotonic() - began < 1.0 + SOON / 2


def test_no_piece_keeps_a_step_waiting_for_more_than_about_a_second() -> None:
    """On the slowest line that is promised; and what the line takes nothing of is said within ten."""
    assert dealing.PIECE_BYTES / 60_000 < 1.2
    assert node_link.LINE_SECONDS < 10


@pytest.mark.long
def test_60_kilobytes_a_second(small: SharedSmall, pair: Pair) -> None:
    with ThinLine(rate=60_000, room=1 << 16) as line, through(pair, line) as conversation:
        answers(small, conversation, [])
