"""A step whose wrap alarm rises every time ends, and says which window is to blame as far as that can be known."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.parties.dealer import Dealer
from engine.parties.retry import MOST_REDONE, given_up
from engine.parties.trio import Trio
from engine.provision.calibrate import measured, provisional
from engine.provision.check import check
from engine.provision.masking import in_memory
from tests.engine.trio import PREFIX, SHAPE, VOCAB, Real, prompt, random_weights

TEXTS = [prompt(60, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def model() -> tuple[ModelSpec, dict[str, Real]]:
    bare = provisional({**SHAPE, "name": "small", "prefix": PREFIX}, 2)
    weights = random_weights(bare, np.random.default_rng(4))
    return measured(bare, weights.__getitem__, TEXTS, lambda done: None), weights


def parties(spec: ModelSpec, weights: dict[str, Real]) -> Trio:
    seeds, packs = in_memory(spec, weights.__getitem__)
    return Trio(spec, seeds, packs, prefix=len(spec.prefix), context=64)


def test_the_third_alarm_of_one_step_ends_it(model: tuple[ModelSpec, dict[str, Real]], monkeypatch: pytest.MonkeyPatch) -> None:
    trio, spec = parties(*model), model[0]
    rising = iter([True] * (MOST_REDONE - 1) + [False] + [True] * MOST_REDONE)
    monkeypatch.setattr(Dealer, "wrapped", lambda *words: next(rising))
    assert trio.step([1, 2]).shape == (1, VOCAB)
    assert trio.redone == MOST_REDONE - 1
    with pytest.raises(ModelError, match="3 times in a row in one step") as error:
        trio.step([3])
    assert next(rising, None) is None
    layer, _, window = spec.tightest.partition(".")
    assert (window, f"layer {layer}'s attention scores" in str(error.value)) == ("score", True)


def test_nothing_is_guessed_without_figures(model: tuple[ModelSpec, dict[str, Real]]) -> None:
    assert "likely" not in given_up(model[0].model_copy(update={"tightest": ""}))


def test_a_check_of_scores_far_beyond_their_window_ends_and_names_the_layer(model: tuple[ModelSpec, dict[str, Real]]) -> None:
    """Packs whose second layer's queries are thirty times what was calibrated: the alarm rises at every try."""
    spec, weights = model
    queries = spec.heads * spec.head_dim
    sharp = weights["1.qkv"].copy()
    sharp[:queries] *= 30
    changed = weights | {"1.qkv": sharp}
    with pytest.raises(ModelError, match=r"in one step.*the plaintext.*layer 1's attention scores.* go from .* log2 units"):
        check(lambda context: parties(spec, changed), changed.__getitem__, spec, TEXTS)
