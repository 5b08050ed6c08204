from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.errors import InputError
from engine.generate.sampling import keep_top_k, keep_top_p, make_chooser, penalize_repetition

LOGITS = np.array([1.0, 3.0, 3.0, -2.0, 0.5])
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum()

some_logits = arrays(np.float64, st.integers(1, 40), elements=st.floats(-50, 50))


def draws(count: int, **options: float) -> Counter[int]:
    """How often each token is chosen at `count` positions."""
    choose = make_chooser(**{"temperature": 1.0, "seed": 7, **options})  # type: ignore[arg-type]
    return Counter(choose(LOGITS, range(position)) for position in range(count))


def test_greedy_takes_the_first_of_the_largest() -> None:
    assert make_chooser(temperature=0)(LOGITS, []) == 1


@given(some_logits, st.integers(0, 2**64 - 1), st.integers(0, 2**20))
def test_a_draw_is_a_function_of_seed_and_position(logits: np.ndarray, seed: int, position: int) -> None:
    one, other = (make_chooser(temperature=0.8, seed=seed) for _ in range(2))
    other(logits, range(position + 1))  # what was drawn before does not matter
    assert one(logits, range(position)) == other(logits, range(position))


def test_no_seed_means_another_answer_each_time() -> None:
    flat = np.zeros(1 << 16)
    assert len({make_chooser(temperature=1)(flat, []) for _ in range(8)}) > 1


def test_draws_follow_the_distribution() -> None:
    count = 20_000
    seen = draws(count)
    chi2 = sum((seen[i] - count * p) ** 2 / (count * p) for i, p in enumerate(PROBABILITIES))
    assert chi2 < 33.4  # 4 degrees of freedom, 1e-6


def test_noise_in_the_logits_changes_few_draws() -> None:
    source = np.random.Generator(np.random.PCG64(3))
    logits = source.normal(0, 3, 5000)
    noisy = logits + source.normal(0, 0.01, 5000)
    choose = make_chooser(temperature=1.0, seed=1)
    changed = sum(choose(logits, range(i)) != choose(noisy, range(i)) for i in range(1000))
    assert changed < 25  # the distributions differ by 0.4 % in total variation


@pytest.mark.parametrize(("seed", "later"), [(1, 1), (2, 0)], ids=["positions", "seeds"])
def test_draws_are_independent(seed: int, later: int) -> None:
    flat = np.zeros(4)
    one, other = make_chooser(temperature=1, seed=1), make_chooser(temperature=1, seed=seed)
    pairs = Counter((one(flat, range(i)), other(flat, range(i + later))) for i in range(3200))
    assert len(pairs) == 16
    assert sum((count - 200) ** 2 / 200 for count in pairs.values()) < 62  # 15 degrees of freedom, 1e-7


def test_draws_follow_the_temperature() -> None:
    count = 20_000
    sharp = np.exp(LOGITS / 0.5) / np.exp(LOGITS / 0.5).sum()
    seen = draws(count, temperature=0.5)
    chi2 = sum((seen[i] - count * p) ** 2 / (count * p) for i, p in enumerate(sharp))
    assert chi2 < 33.4


def test_a_tiny_temperature_is_greedy_but_for_ties() -> None:
    assert set(draws(200, temperature=1e-300)) == {1, 2}


def test_top_k_one_is_greedy() -> None:
    assert set(draws(200, top_k=1)) == {1}


def test_top_p_keeps_the_fewest_tokens_with_that_mass() -> None:
    assert set(draws(2000, top_p=0.4)) == {1}
    assert set(draws(2000, top_p=0.5)) == {1, 2}
    assert set(draws(2000, top_p=0.95)) == {0, 1, 2}
    assert set(draws(2000, top_p=0.99)) == {0, 1, 2, 4}


@given(some_logits, st.integers(1, 60))
def test_top_k_keeps_the_largest(logits: np.ndarray, count: int) -> None:
    kept = np.isfinite(keep_top_k(logits, count))
    assert kept.sum() == min(count, len(logits))
    assert not (~kept).any() or logits[kept].min() >= logits[~kept].max()


@given(some_logits, st.floats(0.01, 1, exclude_max=True))
def test_top_p_is_minimal(logits: np.ndarray, mass: float) -> None:
    kept = np.isfinite(keep_top_p(logits, mass))
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    inside = weights[kept].sum()
    assert inside >= mass - 1e-9
    assert inside - weights[kept].min() < mass + 1e-9
    assert (~kept).sum() == 0 or weights[kept].min() >= weights[~kept].max()


def test_the_penalty_lowers_what_was_said_whatever_its_sign() -> None:
    changed = penalize_repetition(LOGITS, [1, 3, 3, 9999], 2.0)
    assert changed.tolist() == [1.0, 1.5, 3.0, -4.0, 0.5]
    assert LOGITS[1] == 3.0
    assert make_chooser(repetition_penalty=2.0)(LOGITS, [1]) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.inf},
        {"seed": -1},
        {"seed": 1 << 64},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    name = next(iter(wrong)).replace("_", "[ -]")
    with pytest.raises(InputError, match=f"^{name} is "):
        make_chooser(**wrong)  # type: ignore[arg-type]
