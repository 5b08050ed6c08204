"""The small model through real processes and sockets: the plaintext's own answers, rewinds, stops, several at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Event

import pytest

from app.demo.demo import Demo, demo
from app.local_party import NodeConversation, PromptProgress, dealing
from engine.errors import InputError, SessionStopped
from tests.models.shared_small import CONTEXT, PREFIX, Follow, SharedSmall, greedy

TOKENS = 32


@pytest.fixture(scope="module")
def parties(small: SharedSmall) -> Iterator[Demo]:
    with demo(small.directory) as running:
        yield running


@pytest.fixture
def conversation(parties: Demo) -> Iterator[NodeConversation]:
    with parties.open_conversation() as conversation:
        yield conversation


@pytest.fixture(scope="module")
def session_rounds(small: SharedSmall) -> int:
    return 2 + 20 * small.client.spec.layers + 4


@pytest.mark.parametrize("length", [1, 17, 100])
def test_the_answer_is_the_plaintexts(small: SharedSmall, conversation: NodeConversation, length: int) -> None:
    prompt = small.prompt(length)
    follow = Follow(*small.answer(prompt, TOKENS))
    made = list(conversation.generate(prompt, max_tokens=TOKENS, choose=follow))
    assert len(made) == TOKENS
    assert not follow.wrong


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux has affinities")
def test_the_nodes_have_cores_of_their_own(parties: Demo) -> None:
    """Else Linux puts both, which answer each other, on one."""
    one, two = (os.sched_getaffinity(pid) for pid in parties.pids)
    assert one.isdisjoint(two) or len(os.sched_getaffinity(0)) == 1


@pytest.mark.parametrize("piece", [1000, 4096])
def test_material_in_pieces_is_put_together(
    small: SharedSmall, parties: Demo, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A section of the real model comes in dozens of pieces; the small one's too, if they are small."""
    monkeypatch.setattr(dealing, "PIECE_BYTES", piece)
    prompt = small.prompt(17)
    follow = Follow(*small.answer(prompt, TOKENS))
    with parties.open_conversation() as conversation:
        assert len(list(conversation.generate(prompt, max_tokens=TOKENS, choose=follow))) == TOKENS
    assert not follow.wrong


def test_a_custom_beginning_uses_one_prefix_token(small: SharedSmall, conversation: NodeConversation) -> None:
    prompt = small.prompt(12, prefix=PREFIX[:1])
    follow = Follow(*small.answer(prompt, TOKENS))
    assert len(list(conversation.generate(prompt, max_tokens=TOKENS, choose=follow))) == TOKENS
    assert not follow.wrong
    assert conversation.statistics.prefill.tokens == 12


def test_after_a_rewind_only_what_is_new_is_computed(small: SharedSmall, conversation: NodeConversation) -> None:
    prompt = small.prompt(20)
    first = list(conversation.generate(prompt, max_tokens=6, choose=greedy))
    edited = [*prompt[:15], *small.prompt(4, seed=2)[3:]]
    follow = Follow(*small.answer(edited, TOKENS))
    assert len(list(conversation.generate(edited, max_tokens=TOKENS, choose=follow))) == TOKENS
    assert not follow.wrong
    assert conversation.statistics.prefill.tokens == 4
    assert list(conversation.generate(prompt, max_tokens=6, choose=greedy)) == first


def test_the_next_question_computes_only_itself(small: SharedSmall, conversation: NodeConversation) -> None:
    prompt = small.prompt(9)
    prompt += conversation.generate(prompt, max_tokens=3, choose=greedy)
    prompt += [7, 8, 9]
    follow = Follow(*small.answer(prompt, 5))
    assert len(list(conversation.generate(prompt, max_tokens=5, choose=follow))) == 5
    assert not follow.wrong
    assert conversation.statistics.prefill.tokens == 4  # the last token of the answer was not computed yet


@pytest.mark.parametrize("length", [5, 197])
def test_rounds_do_not_depend_on_the_context(
    small: SharedSmall, conversation: NodeConversation, session_rounds: int, length: int
) -> None:
    list(conversation.generate(small.prompt(length), max_tokens=3, choose=greedy))
    figures = conversation.statistics
    assert figures.decode.rounds == 2 * session_rounds
    assert figures.prefill.rounds == figures.prefill.steps * session_rounds
    assert figures.prefill.steps == {5: 1, 197: 5}[length]  # passes of 16, 32 and then 64 rows


def test_an_answer_ends_at_a_stop_token_and_where_the_context_is_full(
    small: SharedSmall, conversation: NodeConversation
) -> None:
    prompt = small.prompt(CONTEXT - 6)
    whole = list(conversation.generate(prompt, max_tokens=100, choose=greedy))
    assert len(prompt) + len(whole) == CONTEXT + 1
    stopped = list(conversation.generate(prompt, max_tokens=100, choose=greedy, stop_tokens=whole[1:2]))
    assert stopped == whole[: whole.index(whole[1]) + 1]


@pytest.mark.parametrize("section", [0, 2])
def test_a_stop_in_the_prompt_ends_the_step_at_both_nodes(
    small: SharedSmall, conversation: NodeConversation, section: int
) -> None:
    def stop_there(progress: PromptProgress) -> None:
        if progress.rows_done and progress.section == section and not progress.preparing:
            conversation.stop()

    prompt = small.prompt(100)
    with pytest.raises(SessionStopped):
        list(conversation.generate(prompt, max_tokens=5, choose=greedy, on_progress=stop_there))
    assert conversation.status.states == {"node1": "connected", "node2": "connected"}
    follow = Follow(*small.answer(prompt, 8))
    assert len(list(conversation.generate(prompt, max_tokens=8, choose=follow))) == 8
    assert not follow.wrong
    assert conversation.statistics.prefill.tokens < 100  # what was computed before the stop stays


def test_a_stop_from_another_thread_at_any_time(small: SharedSmall, conversation: NodeConversation) -> None:
    prompt = small.prompt(40)
    with ThreadPoolExecutor(1) as other:
        for moment in range(6):
            answer = conversation.generate(prompt, max_tokens=50, choose=greedy)
            list(islice(answer, moment))
            stopping = other.submit(conversation.stop)
            with suppress(SessionStopped):
                list(answer)
            stopping.result(10)
    follow = Follow(*small.answer(prompt, 8))
    assert len(list(conversation.generate(prompt, max_tokens=8, choose=follow))) == 8
    assert not follow.wrong


def test_two_sessions_at_once(small: SharedSmall, parties: Demo) -> None:
    prompts = [small.prompt(20, seed) for seed in (5, 6)]
    answers = [small.answer(prompt, 12) for prompt in prompts]

    def ask(index: int) -> list[int]:
        follow = Follow(*answers[index])
        with parties.open_conversation() as conversation:
            assert len(list(conversation.generate(prompts[index], max_tokens=12, choose=follow))) == 12
        return follow.wrong

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, (0, 1))) == [[], []]


def test_a_session_that_ended_leaves_no_thread_and_no_descriptor(small: SharedSmall, parties: Demo) -> None:
    def held() -> list[int]:
        return [len(os.listdir(Path("/proc", str(pid), what))) for pid in parties.pids for what in ("task", "fd")]

    def settled() -> list[int]:
        """What the nodes hold once it has not changed for half a second; they end a session when the client is gone."""
        calm, seen = 0, held()
        for _ in range(200):
            Event().wait(0.1)
            now = held()
            calm, seen = (calm + 1 if now == seen else 0), now
            if calm == 5:
                break
        return seen

    parties.open_conversation().close()
    before = settled()
    for _ in range(3):
        with parties.open_conversation() as conversation:
            assert next(conversation.generate(small.prompt(5), max_tokens=2, choose=greedy)) >= 0
            assert held() > before
    assert settled() == before


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ([], "no tokens"),
        (PREFIX[:1], "no tokens"),
        ([*PREFIX, 307], "token 307 is not in the model's vocabulary of 307"),
        ([*PREFIX, -1], "token -1"),
        ([1] * (CONTEXT + 1), "257 tokens long and the context has room for 256"),
        ([9, 9, 9], "does not begin as this model's conversations do"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused_before_anything_is_sent(
    conversation: NodeConversation, prompt: list[int], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        conversation.generate(prompt, max_tokens=5, choose=greedy)
    assert conversation.statistics.prefill.steps == 0
