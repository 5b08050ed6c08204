"""The wrap budget counts what the parties really truncate: |z| of every truncation, from the dealer's ρ and the nodes' c."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from engine.gates import truncation
from engine.parties.plain import Plain
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.provision.calibrate import Seen
from engine.wire import Opening, Rho
from tests.privacy.session import Session
from tests.privacy.small import CONTEXT, Shared, prompt, small

TEXTS, MORE_TEXTS = 6, 36
"""A level that is taken for empty, once in 2^10, makes a row's numbers 16 times larger: what a few such rows put beyond the
bounds is looked at in six times as many texts.
"""
TOKENS = 60
LEAST, MOST = 0.8, 2.0
"""The budget's part of a truncation over the real |z|. Either is a mean over rows that differ by factors of 16."""

Sums = dict[tuple[int, str], float]


def real(model: Shared, tokens: list[int]) -> Sums:
    """Σ |z| of each truncation, in raw units."""
    rho: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
    sums: Sums = defaultdict(float)
    deal, evaluate = truncation.deal, truncation.evaluate

    def dealing(d: Dealing, z: Rho, bits: int, to: int, name: str, **options: Any) -> Any:
        rho[d.section, d.gate] = z.rho.copy()
        return deal(d, z, bits, to, name, **options)

    def evaluating(e: Evaluation, z: Opening, bits: int, to: int, name: str, **options: Any) -> Any:
        if e.role == 1:
            exact = z.c - rho[e.section, e.gate].reshape(z.c.shape)
            sums[e.section, name] += float(np.abs(exact.astype(np.float64)).sum())
        return evaluate(e, z, bits, to, name, **options)

    session = Session(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truncation, "deal", dealing)
        patch.setattr(truncation, "evaluate", evaluating)
        patch.setattr(truncation.truncate, "sides", (dealing, evaluating, truncation.clear))
        session.deal(len(tokens))
        session.step(tokens, answers=len(tokens))
    return sums


class Counted(Seen):
    """What is told to the observer, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: Sums = defaultdict(float)

    def truncated(self, section: int, name: str, values: Any, bits: int) -> None:
        super().truncated(section, name, values, bits)
        self.sums[section, name] += float(np.abs(values).sum()) * 2.0**bits


def observed(model: Shared, tokens: list[int]) -> Counted:
    plain, counted = Plain(model.spec, model.weights.__getitem__, context=CONTEXT), Counted()
    plain.run(model.spec.prefix, answers=1)
    plain.observer = counted
    plain.run(tokens)
    return counted


@pytest.mark.parametrize(("embedding", "scores"), [(1.0, 1.0), (20.0, 2.0), (0.05, 0.2)])
def test_each_truncations_part_is_that_of_the_parties_numbers(embedding: float, scores: float) -> None:
    model = small(2, embedding, scores)
    counted, summed, wraps = dict[tuple[int, str], float](), dict[tuple[int, str], float](), 0.0
    beyond: dict[tuple[int, str], float] = {}
    for texts in (range(TEXTS), range(TEXTS, MORE_TEXTS)):
        for text in texts:
            tokens = prompt(TOKENS, text)
            seen = observed(model, tokens)
            wraps += seen.wraps
            for found, sums in ((counted, seen.sums), (summed, real(model, tokens))):
                for place, value in sums.items():
                    found[place] = found.get(place, 0.0) + value
        assert counted.keys() == summed.keys()
        ratios = {place: counted[place] / summed[place] for place in counted}
        beyond = {place: ratio for place, ratio in ratios.items() if not LEAST < ratio < MOST}
        if not beyond:
            break
    assert beyond == {}
    total = sum(summed.values()) * 2.0**-64
    assert 0.9 * total < wraps < 1.5 * total
