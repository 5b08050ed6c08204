"""What a node sees is uniform, alone and together with what it holds, and tells nothing of the prompt: statistics.

The exact tests (test_pads.py) prove more than this; statistics would also notice what nobody thought of. They see of a
prompt of 24 tokens, all answered, that is computed again and again in fresh rows and with fresh keys: every byte by chi²,
every bit, words near zero, each against the node's own words of that gate, its own message and the repetition before;
equal words; sums and differences of any two. The family-wise error is 10^-6 in each test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.privacy.mutants import alter_kappa, planted
from tests.privacy.session import Session
from tests.privacy.small import prompt, small
from tests.privacy.views import View, near_pairs, watched

ALPHA = 1e-6
TOKENS = 24
PAIRED = 1500  # neighbouring words of which all pairs are looked at
RARE = {"answer.0:16", "embedding.sigma dealt", "embedding.u dealt"}
"""Types of one to three elements a token: 20,000 and 61,000 elements in the long run, where all others have 10^5."""


def views_of(passes: int, a_key: int, keep: int = 1_000_000) -> dict[int, View]:
    """Both nodes' views of as many passes of one prompt, `a_key` of them in each session."""
    views = {role: View(role, keep=keep) for role in (1, 2)}
    tokens, session = prompt(TOKENS, 77), Session(small())
    for number in range(passes):
        if number and number % a_key == 0:
            session = Session(small())
        session.rewind(len(small().spec.prefix))
        session.deal(TOKENS)
        for view in views.values():
            view.begin()
        with watched(views):
            session.step(tokens, answers=TOKENS)
    return views


def strange(views: dict[int, View]) -> list[str]:
    """What is not as uniform, independent words are."""
    found = []
    for role, view in views.items():
        found += [f"E{role}: {kind}, p < {p:.0e}" for p, kind in view.worst() if p < ALPHA]
        words = np.concatenate(view.words)
        if words.size != np.unique(words).size:
            found.append(f"E{role}: equal words")
        for start in range(0, words.size - PAIRED, words.size // 3):
            if any(near_pairs(words[start : start + PAIRED])):
                found.append(f"E{role}: words whose sum or difference is small or comes again")
    return found


def test_both_views_are_uniform() -> None:
    views = views_of(12, 3)
    assert len(views[1].histograms) > 150
    assert len(views[2].histograms) > 200
    assert not strange(views)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_both_views_are_uniform_over_a_hundred_thousand_elements_of_each_type() -> None:
    views = views_of(850, 50, keep=4_000_000)
    few = {k for v in views.values() for k, h in v.histograms.items() if h.elements < 100_000 and "~" not in k}
    assert few == RARE
    assert not strange(views)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("drop_kappa", "multiply.0"),
        ("mask_of_32_bits", "lookup.0"),
        ("clear_low_bit", "lookup_wide.0"),
        ("roots_that_everybody_knows", "lookup_wide.points dealt"),
        ("one_element_in_1000", "lookup.0"),
        ("truncation_under_the_old_share", "rescale.lam dealt ~ rescale.lam dealt"),
        ("reuse_after_rewind", "equal words"),
        ("same_keys_after_restart", "equal words"),
        ("constant_stream", "equal words"),
    ],
)
def test_statistics_see_the_planted_leak(name: str, seen: str) -> None:
    with planted(name):
        found = strange(views_of(20, 4))
    assert any(seen in line for line in found), found


# A classifier that guesses which of two prompts a node saw

Features = NDArray[np.float64]


def features_of(tokens: list[int], samples: int) -> list[Features]:
    """Both nodes' features, one row a pass: the mean of each bit of each type, alone and against the node's own words."""
    session = Session(small(1))
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    rows: list[list[Features]] = [[], []]
    for _ in range(samples):
        views = {role: View(role) for role in (1, 2)}
        session.rewind(len(small(1).spec.prefix))
        with watched(views):
            session.step(tokens)
        for role, view in views.items():
            counts = np.concatenate([histogram.counts for _, histogram in sorted(view.histograms.items(), key=lambda h: h[0])])
            rows[role - 1].append((counts @ bits / counts.sum(axis=1, keepdims=True)).ravel())
    return [np.array(part) for part in rows]


def fit(x: Features, y: Features) -> Callable[[Features], NDArray[np.bool_]]:
    """A ridge classifier, linear in thousands of features: solved among the samples, which are fewer."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    design = (x - mean) / spread
    gram = design @ design.T
    dual = np.linalg.solve(gram + np.trace(gram) / len(gram) * np.eye(len(gram)), 2.0 * y - 1.0)
    weights = design.T @ dual
    return lambda new: ((new - mean) / spread @ weights) > 0


def deviations(samples: int) -> list[float]:
    """By how many standard deviations each node's guesses beat chance, on passes that the fit did not see."""
    one, two = features_of([3, 3], samples), features_of([90, 41], samples)
    y = np.repeat([0.0, 1.0], samples)
    seen = np.arange(2 * samples) % 2 == 0
    found = []
    for a, b in zip(one, two, strict=True):
        x = np.concatenate([a, b])
        hits = int((fit(x[seen], y[seen])(x[~seen]) == y[~seen].astype(bool)).sum())
        found.append(float((2 * hits - samples) / np.sqrt(samples)))
    return found


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_classifier_does_not_tell_two_prompts_apart() -> None:
    """700 passes to learn from and 700 to guess: at 10^-6 it must guess 59 % right, so it would notice (with a probability
    of 0.8) an advantage of 11 points over a half.
    """
    assert max(deviations(700)) < 4.75


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_classifier_tells_two_prompts_apart_where_masks_are_missing() -> None:
    with pytest.MonkeyPatch.context() as patch:
        alter_kappa(patch, "embedding", "star", np.zeros_like)
        assert min(deviations(100)) > 4.75
