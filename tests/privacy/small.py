"""A LLaMA of a few thousand words, calibrated and shared in memory, for tests that look at transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.models.config import ModelSpec
from engine.parties.pack import NodePack
from engine.provision.calibrate import measured, provisional
from engine.provision.masking import in_memory

CONTEXT = 96


@dataclass(frozen=True)
class Shared:
    """A shared model: public metadata, both model seeds, both nodes' packs, and the weights that nobody may see."""

    spec: ModelSpec
    seeds: tuple[bytes, bytes]
    packs: list[NodePack]
    weights: dict[str, NDArray[np.float64]]


@cache
def small(layers: int = 2, embedding: float = 1.0, scores: float = 1.0) -> Shared:
    """Grouped queries, sizes that are no powers of two, a vocabulary that does not fill its words; rows of the embedding and
    scores are as many times larger as is asked for.
    """
    source = np.random.default_rng(20260101)
    shape = {
        "name": "private",
        "vocab": 131,
        "d_model": 18,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 6,
        "d_ffn": 22,
        "rope_theta": 1e4,
        "rms_eps": 1e-5,
        "context": CONTEXT,
        "prefix": (1, 5, 7),
    }
    spec = provisional(shape, layers)
    weights = {}
    for name, (outer, inner) in spec.tensors().items():
        spread = embedding if name == "embed" else (3.0 if name == "head" else 1.0) / np.sqrt(inner)
        weights[name] = source.standard_normal((outer, inner)) * spread
        if name.endswith("qkv"):
            weights[name][: (4 + 2) * 6] *= np.sqrt(scores)
    texts = [source.integers(0, spec.vocab, 60) for _ in range(4)]
    spec = measured(spec, weights.__getitem__, texts, lambda _: None)
    seeds, packs = in_memory(spec, weights.__getitem__)
    return Shared(spec, seeds, packs, weights)


def prompt(length: int, seed: int) -> list[int]:
    """A made-up prompt."""
    return [int(t) for t in np.random.default_rng(seed).integers(0, small().spec.vocab, length)]
