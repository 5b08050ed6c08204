"""What calibration writes into a model's metadata is what the model does on text."""

from __future__ import annotations

import numpy as np
import pytest

from engine.models.config import Scales
from engine.provision.calibrate import WRAP_LIMIT, measured, observe, provisional
from tests.engine.trio import PREFIX, SHAPE, random_weights

TINY = ("embed", "0.o", "0.down")


@pytest.mark.parametrize("tiny", [(), TINY], ids=["residuals of size 1", "small residuals"])
def test_the_wrap_budget_is_the_calibrated_models_own(tiny: tuple[str, ...]) -> None:
    """With the provisional exponents, all 0, products of small residuals would count less than they wrap."""
    rng = np.random.default_rng(9)
    bare = provisional({**SHAPE, "name": "small", "prefix": PREFIX}, 2)
    weights = random_weights(bare, rng)
    weights |= {name: weights[name] / 64 for name in tiny}
    texts = [rng.integers(0, bare.vocab, 40).tolist() for _ in range(3)]

    spec = measured(bare, weights.__getitem__, texts, lambda done: None)

    own, tokens = observe(spec, weights.__getitem__, texts[:1], lambda done: None)
    before, _ = observe(bare, weights.__getitem__, texts[:1], lambda done: None)
    assert spec.wrap_budget == pytest.approx(own.wraps / tokens, rel=1e-9)
    assert abs(before.wraps / own.wraps - 1) > 0.001  # what was counted once
    assert before.wraps < own.wraps or not tiny
    assert 0 < spec.wrap_budget < WRAP_LIMIT


@pytest.mark.parametrize("bits", [{"activation": 20}, {"rotary": 17}, {"activation": 14, "hidden": 14, "rsqrt": 16}])
def test_scales_whose_narrow_wires_would_lose_bits_are_refused(bits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exact modulo"):
        Scales(**bits)
