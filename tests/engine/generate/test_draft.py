from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.generate.draft import LONGEST, MAX_DRAFTS, SHORTEST, accepted, check_drafts, choose_along, look_up
from engine.generate.sampling import Chooser, Logits, make_chooser

Model = Callable[[Sequence[int]], Logits]
Walk = Callable[..., list[int]]

texts = st.integers(1, 4).flatmap(lambda letters: st.lists(st.integers(0, letters), max_size=40))
counts = st.integers(1, MAX_DRAFTS)


@given(texts, counts)
def test_what_followed_the_latest_longest_repetition_is_drafted(text: list[int], count: int) -> None:
    ends = {
        (size, after)
        for size in range(SHORTEST, LONGEST + 1)
        for after in range(size, len(text))
        if text[after - size : after] == text[-size:]
    }
    drafts = look_up(text, count)
    assert bool(drafts) == bool(ends)
    if ends:
        _, after = max(ends)
        assert len(drafts) == count
        assert drafts[: len(text) - after] == text[after : after + count]
        whole = text + drafts
        assert all(whole[i] == whole[i - len(text) + after] for i in range(len(text), len(whole)))  # round in a circle


@given(texts, counts)
def test_a_longer_draft_begins_like_a_shorter_one(text: list[int], count: int) -> None:
    assert look_up(text, MAX_DRAFTS)[:count] == look_up(text, count)


def test_a_text_without_a_repetition_has_no_drafts() -> None:
    assert look_up(range(1000), 4) == []
    assert look_up([], 4) == []


@pytest.mark.parametrize("count", [-1, MAX_DRAFTS + 1])
def test_more_drafts_than_a_step_takes_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"drafts is {count}"):
        check_drafts(count)


@given(st.lists(st.integers(0, 2), min_size=6, max_size=6), st.lists(st.integers(0, 2), max_size=5))
def test_the_walk_ends_with_the_first_token_that_was_not_drafted(said: list[int], drafts: list[int]) -> None:
    right = next((i for i, draft in enumerate(drafts) if draft != said[i]), len(drafts))
    chosen = choose_along(np.zeros((1 + len(drafts), 3)), drafts, [7, 7], lambda _, context: said[len(context) - 2])
    assert chosen == said[: right + 1]
    assert accepted(drafts, chosen) == right


def test_the_walk_ends_with_a_stop_token() -> None:
    chosen = choose_along(np.zeros((4, 9)), [5, 6, 7], [1], lambda _, context: 4 + len(context), {6})
    assert chosen == [5, 6]
    assert accepted([5, 6, 7], chosen) == 2


# Equal in distribution

SAMPLES = 6000
"""Texts of each kind, of `LENGTH` tokens over three letters."""
LENGTH = 7
LIMIT = 76.2
"""Chi-square with 26 degrees of freedom (27 endings of three tokens), α = 1e-6."""
START = [0, 1, 2, 0, 1, 2, 0, 1, 2]
TABLE = np.random.Generator(np.random.PCG64(5)).normal(0, 0.7, (3, 3, 3))


def model(context: Sequence[int]) -> Logits:
    """A language of its own: the logits follow from the last two tokens."""
    return np.asarray(TABLE[context[-2], context[-1]])


def plainly(choose: Chooser) -> list[int]:
    text = list(START)
    while len(text) < len(START) + LENGTH:
        text.append(choose(model(text), text))
    return text


def drafted(choose: Chooser, walk: Walk = choose_along) -> list[int]:
    text = list(START)
    while (left := len(START) + LENGTH - len(text)) > 0:
        drafts = look_up(text, min(4, left - 1)) if left > 1 else []
        logits = np.stack([model([*text, *drafts[:i]]) for i in range(len(drafts) + 1)])
        text += walk(logits, drafts, text, choose)
    return text


def believing(logits: Logits, drafts: Sequence[int], tokens: Sequence[int], choose: Chooser) -> list[int]:
    """Takes every draft unseen: what the test must notice."""
    return [*drafts, choose(logits[-1], [*tokens, *drafts])]


def endings(write: Callable[[Chooser], list[int]], first_seed: int) -> Counter[tuple[int, ...]]:
    seeds = range(first_seed, first_seed + SAMPLES)
    return Counter(tuple(write(make_chooser(temperature=0.9, seed=seed))[-3:]) for seed in seeds)


def chi_square(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> float:
    """Of two samples of the same size."""
    return sum((one[key] - other[key]) ** 2 / (one[key] + other[key]) for key in one | other)


def test_drafts_do_not_change_a_seeds_text() -> None:
    for seed in range(300):
        choose = make_chooser(temperature=0.9, seed=seed)
        assert drafted(choose) == plainly(choose)


def test_drafted_texts_are_distributed_as_plain_ones() -> None:
    """Other seeds for each kind, so that the samples are independent."""
    plain = endings(plainly, 0)
    assert len(plain) == 27
    assert chi_square(plain, endings(drafted, SAMPLES)) < LIMIT
    assert chi_square(plain, endings(partial(drafted, walk=believing), SAMPLES)) > 2 * LIMIT
