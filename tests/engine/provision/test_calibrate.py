"""What calibration writes into a model's metadata is what the model does on text."""

from __future__ import annotations

import numpy as np
import pytest

from engine.models.config import Scales
from engine.parties.plain import Plain
from engine.parties.trio import Trio
from engine.provision.calibrate import WRAP_LIMIT, measured, observe, provisional
from engine.provision.masking import in_memory
from engine.provision.unseen_tokens import EXTREMES, SAMPLED, rows_of
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


def test_a_gate_of_18_bits_whose_arguments_reach_400_takes_fewer_and_is_right() -> None:
    """With 18 its window would end beyond the 40 bits that are opened: logits were off by hundreds of times their spread."""
    rng = np.random.default_rng(5)
    bare = provisional({**SHAPE, "name": "small", "prefix": PREFIX}, 2)
    bare = bare.model_copy(update={"weight_bits": bare.weight_bits | {"0.gate": 18}})
    weights = random_weights(bare, rng)
    weights["0.gate"][0] *= 150
    texts = [rng.integers(0, bare.vocab, 60).tolist() for _ in range(3)]
    seen, _ = observe(bare, weights.__getitem__, texts, lambda done: None)
    assert 350 < max(-seen.low[1, "silu"], seen.high[1, "silu"]) < 500

    spec = measured(bare, weights.__getitem__, texts, lambda done: None)

    window = spec.layer[0].silu.window
    assert (window.lo + window.n, spec.weight_bits["0.gate"]) == (40, 15)
    seeds, packs = in_memory(spec, weights.__getitem__)
    plain = Plain(spec, weights.__getitem__, context=64)
    plain.run(spec.prefix, answers=1)
    want = plain.run(texts[0][:30])
    got = Trio(spec, seeds, packs, prefix=len(spec.prefix), context=64).step(texts[0][:30], answers=30)
    assert np.sqrt(((got - want) ** 2).mean()) < 0.005 * want.std()


@pytest.mark.parametrize(("context", "bits"), [(256, 17), (2048, 17), (2049, 18), (16384, 20)])
def test_long_contexts_give_the_reciprocal_more_bits(context: int, bits: int) -> None:
    """One of its units is then the same part of a flat row's 1/Σ."""
    bare = provisional({**SHAPE, "name": "small", "prefix": PREFIX, "context": context}, 1)
    weights = random_weights(bare, np.random.default_rng(1))
    spec = measured(bare, weights.__getitem__, [list(range(40))], lambda done: None)
    assert spec.scales.reciprocal == bits
    assert spec.reciprocal.end >= context << spec.scales.probability


def test_the_first_norm_holds_every_row_and_unusual_tokens_are_few() -> None:
    bare = provisional({**SHAPE, "name": "small", "prefix": PREFIX}, 1)
    weights = random_weights(bare, np.random.default_rng(1))
    table = weights["embed"]
    table[200:260] = 0
    table[260:280] *= np.linspace(0.01, 20, 20)[:, None]

    rows = rows_of(bare, table)
    spec = measured(bare, weights.__getitem__, [list(range(10, 60))], lambda done: None)

    run = {token for text in rows.texts for token in text}
    assert len(run) <= 2 * EXTREMES + SAMPLED
    assert {260, 279} <= run
    assert len(run & set(range(200, 260))) < 20  # rows of one length stand for each other
    assert all(len(text) <= bare.context - len(PREFIX) for text in rows.texts)
    norm = spec.layer[0].attention_norm
    squares = (table**2).sum(axis=1) / 4.0**norm.exponent
    assert squares.max() * 2.0 ** (2 * spec.scales.norm) < norm.window.end
    least = squares[squares > 0].min() + spec.d_model * spec.rms_eps / 4.0**norm.exponent
    assert norm.window.low < least
