"""Drafts over real sockets: the text is the plain one whatever becomes of them, and nothing of a rejected one stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, pairwise, takewhile
from typing import Any

import numpy as np
import pytest

from app.local_party import NodeConversation, PromptProgress
from app.local_party.dealing import BLOCK_ROWS, FIRST_ROWS, REJECTED_ROWS
from engine.errors import InputError, SessionStopped
from engine.generate.sampling import Chooser, make_chooser
from engine.parties.dealer import Dealer
from engine.step import Step
from tests.models.shared_small import LOGIT_ERROR, PREFIX, Logits, SharedSmall, greedy, share_small
from tests.party_node.rig import Pair, identities

CIRCLE = [40, 41, 42, 43, 44, 45]
OTHER = [50, 51, 52]
PROMPT = [*PREFIX, *CIRCLE, *CIRCLE]
LETTERS = (40, 41)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SharedSmall:
    return share_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def pair(small: SharedSmall) -> Iterator[Pair]:
    with Pair(small, identities()) as pair:
        yield pair


@pytest.fixture
def conversation(pair: Pair) -> Iterator[NodeConversation]:
    with pair.open() as conversation:
        yield conversation


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What the dealer asks the nodes for, step by step."""
    seen: list[Step] = []
    request = Dealer.request

    def noting(self: Dealer, tokens: Sequence[int], answers: int = 1) -> Step:
        seen.append(request(self, tokens, answers))
        return seen[-1]

    monkeypatch.setattr(Dealer, "request", noting)
    return seen


@dataclass
class Says:
    """Chooses the tokens of `text` behind `prompt` whatever the logits, and keeps those for `assert_right`."""

    text: Sequence[int]
    prompt: Sequence[int] = field(default_factory=lambda: PROMPT)
    seen: list[Logits] = field(default_factory=list)

    def __call__(self, logits: Logits, context: Sequence[int]) -> int:
        made = len(context) - len(self.prompt)
        assert made == len(self.seen)  # each token is chosen once
        self.seen.append(logits)
        return self.text[made]

    def assert_right(self, small: SharedSmall) -> None:
        """The logits behind every token are the plaintext's."""
        whole = [*self.prompt, *self.text[: len(self.seen) - 1]]
        behind = small.plain().run(whole)[len(self.prompt) - 1 :]
        assert np.abs(np.stack(self.seen) - behind).max() < LOGIT_ERROR


def assert_goes_on_plainly(small: SharedSmall, conversation: NodeConversation, context: Sequence[int]) -> None:
    """A further question, and its answer without drafts."""
    says = Says([9, 8, 7], [*context, 60, 61])
    assert list(conversation.generate(says.prompt, max_tokens=3, choose=says)) == says.text
    says.assert_right(small)
    assert conversation.statistics.drafted == 0


def held(conversation: NodeConversation) -> list[int]:
    """The tokens that the client believes the nodes hold; their own positions say whether that is so."""
    session = conversation.session
    assert session is not None
    assert [link.session.position for link in session.links] == [len(session.tokens)] * 2
    return session.tokens


# A small alphabet, chosen by the real logits


@dataclass(frozen=True)
class Letters:
    """A chooser's choice among two tokens: such a text repeats itself."""

    choose: Chooser

    def __call__(self, logits: Logits, context: Sequence[int]) -> int:
        only = np.full_like(logits, -1e3)
        only[list(LETTERS)] = logits[list(LETTERS)]
        return self.choose(only, context)

    def plain(self, small: SharedSmall, prompt: Sequence[int], length: int) -> list[int] | None:
        """The plaintext's choice; None if the engine's error could change it."""
        plain, text, margin = small.plain(), list(prompt), np.zeros(small.vocab)
        margin[list(LETTERS)] = LOGIT_ERROR, -LOGIT_ERROR
        logits = plain.run(text)[-1]
        for _ in range(length):
            choices = {self(changed, text) for changed in (logits - margin, logits, logits + margin)}
            if len(choices) > 1:
                return None
            text += choices
            logits = plain.run(text[-1:])[-1]
        return text[len(prompt) :]


@pytest.mark.parametrize("choose", [greedy, *(make_chooser(temperature=0.8, seed=seed) for seed in (1, 2, 3))])
def test_the_text_with_drafts_is_the_text_without(small: SharedSmall, conversation: NodeConversation, choose: Chooser) -> None:
    """Greedy and sampled, token for token, where the plaintext's choices are no close calls; accepted and rejected drafts."""
    letters, length = Letters(choose), 40
    prompts = ([*small.prompt(3, seed), *LETTERS, *LETTERS, *LETTERS] for seed in count())
    prompt, want = next((p, text) for p in prompts if (text := letters.plain(small, p, length)))
    for drafts in (4, 0, 3):
        assert list(conversation.generate(prompt, max_tokens=length, choose=letters, drafts=drafts)) == want
        figures = conversation.statistics
        assert figures.decode.tokens == length - 1
        assert figures.decode.steps == length - 1 - figures.accepted
        if drafts:
            assert 0 < figures.accepted < figures.drafted
            assert figures.decode.lost_rows >= figures.drafted - figures.accepted
        else:
            assert (figures.drafted, figures.accepted, figures.decode.lost_rows) == (0, 0, 0)


# A text of our own


def test_accepted_and_rejected_drafts(small: SharedSmall, conversation: NodeConversation, steps: list[Step]) -> None:
    says = Says([*CIRCLE, *OTHER, *CIRCLE, *CIRCLE[:4], *OTHER, 7])
    whole = [*PROMPT, *says.text]
    for made, token in enumerate(conversation.generate(PROMPT, max_tokens=len(says.text), choose=says, drafts=4), 1):
        assert token == says.text[made - 1]
        assert held(conversation) == whole[: len(held(conversation))]  # a rejected draft is gone before a token is out
        assert len(held(conversation)) >= len(PROMPT) + made - 1
    says.assert_right(small)
    figures = conversation.statistics
    assert 0 < figures.accepted < figures.drafted == sum(step.answers - 1 for step in steps)
    assert figures.decode.tokens == len(says.text) - 1
    rows = [row for step in steps for row in range(step.first_row, step.first_row + len(step.deltas))]
    assert all(one < other for one, other in pairwise(rows))  # no serial number twice
    assert_goes_on_plainly(small, conversation, whole)


@pytest.mark.parametrize("stop", range(6))
def test_a_stop_token_inside_accepted_drafts_ends_the_answer(
    small: SharedSmall, conversation: NodeConversation, stop: int
) -> None:
    says = Says([*CIRCLE, *CIRCLE])
    made = list(conversation.generate(PROMPT, max_tokens=12, choose=says, drafts=4, stop_tokens={CIRCLE[stop]}))
    assert made == CIRCLE[: stop + 1]
    assert held(conversation) == [*PROMPT, *made][: len(held(conversation))]
    assert_goes_on_plainly(small, conversation, [*PROMPT, *made])


@pytest.mark.parametrize("most", range(1, 8))
def test_an_answer_of_so_many_tokens_ends_inside_the_drafts(
    small: SharedSmall, conversation: NodeConversation, most: int
) -> None:
    says = Says([*CIRCLE, *CIRCLE])
    assert list(conversation.generate(PROMPT, max_tokens=most, choose=says, drafts=4)) == says.text[:most]
    assert len(held(conversation)) == len(PROMPT) + most - 1  # not one row that the answer had no use for
    assert_goes_on_plainly(small, conversation, [*PROMPT, *says.text[:most]])


@pytest.mark.parametrize("room", range(1, 7))
def test_an_answer_ends_where_the_context_is_full(pair: Pair, room: int) -> None:
    with pair.open(context=len(PROMPT) + room) as conversation:
        for drafts in (4, 0):
            says = Says([*CIRCLE, *CIRCLE])
            assert list(conversation.generate(PROMPT, max_tokens=12, choose=says, drafts=drafts)) == says.text[: room + 1]
            assert held(conversation) == [*PROMPT, *CIRCLE, *CIRCLE][: len(PROMPT) + room]


def test_a_stop_while_drafts_are_verified(small: SharedSmall, conversation: NodeConversation, steps: list[Step]) -> None:
    def stop_there(progress: PromptProgress) -> None:
        if steps and steps[-1].answers > 1 and progress.section == 2:
            conversation.stop()

    says, made = Says([*CIRCLE, *CIRCLE]), []
    with pytest.raises(SessionStopped):
        made.extend(conversation.generate(PROMPT, max_tokens=12, choose=says, drafts=4, on_progress=stop_there))
    assert steps[-1].answers > 1
    assert conversation.status.states == {"node1": "connected", "node2": "connected"}
    assert held(conversation) == [*PROMPT, *CIRCLE, *CIRCLE][: len(held(conversation))]
    again = Says([*CIRCLE, *OTHER])
    assert list(conversation.generate(PROMPT, max_tokens=9, choose=again, drafts=4)) == again.text
    again.assert_right(small)
    assert_goes_on_plainly(small, conversation, [*PROMPT, *again.text])


def test_a_stop_between_tokens_of_one_step(small: SharedSmall, conversation: NodeConversation) -> None:
    answer = conversation.generate(PROMPT, max_tokens=12, choose=Says([*CIRCLE, *CIRCLE]), drafts=4)
    assert list(islice(answer, 3)) == CIRCLE[:3]
    assert len(held(conversation)) > len(PROMPT) + 3  # the next tokens are there
    conversation.stop()
    with pytest.raises(SessionStopped):
        next(answer)
    assert_goes_on_plainly(small, conversation, [*PROMPT, *CIRCLE[:3]])


def test_an_answer_that_is_left_between_tokens_of_one_step(small: SharedSmall, conversation: NodeConversation) -> None:
    answer = conversation.generate(PROMPT, max_tokens=12, choose=Says([*CIRCLE, *CIRCLE]), drafts=4)
    assert list(islice(answer, 3)) == CIRCLE[:3]
    answer.close()
    assert_goes_on_plainly(small, conversation, [*PROMPT, *CIRCLE[:3]])


def test_the_alarm_makes_the_drafts_step_anew(
    small: SharedSmall, conversation: NodeConversation, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted, wrapped = iter([True, True]), Dealer.wrapped

    def alarm(self: Dealer, *words: Any) -> bool:
        return wrapped(self, *words) or (steps[-1].answers > 1 and next(planted, False))

    monkeypatch.setattr(Dealer, "wrapped", alarm)
    says = Says([*CIRCLE, *OTHER, *CIRCLE])
    assert list(conversation.generate(PROMPT, max_tokens=15, choose=says, drafts=4)) == says.text
    says.assert_right(small)
    figures = conversation.statistics
    assert figures.redone == 2
    assert figures.decode.tokens == 14
    assert figures.decode.lost_rows >= sum(step.answers for step in steps[1:3])
    assert 0 < figures.accepted < figures.drafted
    assert_goes_on_plainly(small, conversation, [*PROMPT, *says.text])


def test_a_step_takes_as_many_drafts_as_its_block_has_rows(pair: Pair, steps: list[Step]) -> None:
    text = [*CIRCLE * 5]
    with pair.open(queue_bytes=300_000, context=100) as conversation:  # four rows fit
        assert list(conversation.generate(PROMPT, max_tokens=30, choose=Says(text), drafts=16)) == text
        assert conversation.statistics.accepted == conversation.statistics.drafted > 0
    assert {1, 2, 3, 4} >= {step.answers for step in steps} > {1}


def test_blocks_behind_a_rejected_draft_begin_small_whatever_the_text(
    conversation: NodeConversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes follow from what the nodes see: session, rewinds, rejected drafts."""
    dealt: list[int | str] = []
    deal, rewind = Dealer.deal, Dealer.rewind
    monkeypatch.setattr(Dealer, "deal", lambda self, rows: (dealt.append(rows), deal(self, rows))[1])
    monkeypatch.setattr(Dealer, "rewind", lambda self, position: (dealt.append("rewind"), rewind(self, position))[1])
    for other in (50, 60):
        says = Says([*CIRCLE, other, other, other, *CIRCLE, *CIRCLE, 7])
        assert list(conversation.generate(PROMPT, max_tokens=22, choose=says, drafts=4)) == says.text
    parts = [takewhile(lambda item: item != "rewind", dealt[at + 1 :]) for at, item in enumerate(dealt) if item == "rewind"]
    found = [list(islice(part, 4)) for part in parts]
    usual, rejected = ([min(first << i, BLOCK_ROWS) for i in range(4)] for first in (FIRST_ROWS, REJECTED_ROWS))
    assert all(part in (usual[: len(part)], rejected[: len(part)]) for part in found)
    assert sum(part[:1] == [REJECTED_ROWS] for part in found) >= 4
    assert sum(part[:1] == [FIRST_ROWS] for part in found) == 1  # the second question's


@pytest.mark.parametrize("drafts", [-1, 17])
def test_too_many_drafts_are_refused_before_anything_is_sent(conversation: NodeConversation, drafts: int) -> None:
    with pytest.raises(InputError, match=f"drafts is {drafts}"):
        conversation.generate(PROMPT, max_tokens=5, choose=greedy, drafts=drafts)
    assert conversation.statistics.prefill.steps == 0
