"""A LLaMA of one layer with random weights, shared in memory: what the other examples compute with."""

from dataclasses import dataclass, field

import numpy as np

from engine.models.config import ModelSpec
from engine.parties.pack import NodePack
from engine.provision.calibrate import measured, provisional
from engine.provision.masking import in_memory
from engine.ring.fixed import Real

SIZES = {
    **{"vocab": 101, "d_model": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "d_ffn": 48, "context": 64},
    **{"name": "example", "rope_theta": 1e4, "rms_eps": 1e-5, "prefix": (1,)},
}


@dataclass(frozen=True)
class SmallModel:
    """Metadata that all parties know, the owner's weights, the dealer's two seeds, and a pack for each evaluator."""

    spec: ModelSpec
    weights: dict[str, Real] = field(repr=False)
    seeds: tuple[bytes, bytes] = field(repr=False)
    packs: list[NodePack] = field(repr=False)


def small_model() -> SmallModel:
    """Draw the weights, measure which windows the model needs on some text, and mask it under two fresh seeds."""
    draw = np.random.default_rng(7)
    spec = provisional(SIZES, layers=1)
    weights = {name: draw.standard_normal(shape) / np.sqrt(shape[1]) for name, shape in spec.tensors().items()}
    texts = [draw.integers(0, spec.vocab, 60).tolist() for _ in range(3)]
    spec = measured(spec, weights.__getitem__, texts, lambda tokens_done: None)
    seeds, packs = in_memory(spec, weights.__getitem__)
    return SmallModel(spec, weights, seeds, packs)
