"""A model's words, masked: m_W = W + λ_W1 + λ_W2 tensor by tensor, then the public prefix's keys and values."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.models.functions import tables
from engine.parties.masks import SeedStream
from engine.parties.pack import NodePack, node_pack
from engine.parties.plain import Plain
from engine.prf import require_apart
from engine.ring.fixed import Real, Ring, encode

MODEL_SEED_BYTES = 32


def fresh_seeds() -> tuple[bytes, bytes]:
    """The two model seeds. They are drawn for one model and never given from outside: two models masked by one stream
    would hand their difference to the nodes.
    """
    return os.urandom(MODEL_SEED_BYTES), os.urandom(MODEL_SEED_BYTES)


def refuse_equal(seeds: tuple[bytes, bytes], path: Path | None = None) -> None:
    """ModelError if the two model seeds, read from `path`, are the same or nearly so."""
    try:
        require_apart(seeds)
    except ValueError:
        text = "the model's two seeds are the same, or nearly so, and either node could read the weights: share the model again"
        raise ModelError(text, path) from None


def encoded(spec: ModelSpec, name: str, values: Real) -> Ring:
    """A program tensor in fixed point; the rows of v in a qkv matrix have bits of their own."""
    if name == "embed":
        return encode(values, spec.scales.residual)
    layer, _, part = name.partition(".")
    if part != "qkv":
        return encode(values, spec.weight_bits[name])
    split = (spec.heads + spec.kv_heads) * spec.head_dim
    v_bits = spec.weight_bits[f"{layer}.v"]
    return np.concatenate([encode(values[:split], spec.scales.query), encode(values[split:], v_bits)])


def masked_words(spec: ModelSpec, weights: Callable[[str], Real], seeds: tuple[bytes, bytes]) -> Iterator[tuple[str, Ring]]:
    """(name, masked words) of every tensor, then ``prefix.LAYER.0|1`` (keys, values), one in memory at a time.

    Raises:
        OverflowError: a weight does not fit its scale.
        ModelError: the seeds are the same, or nearly: either node would know both masks.
    """
    refuse_equal(seeds)
    streams = [SeedStream(seed, spec) for seed in seeds]
    for name, shape in spec.tensors().items():
        words = encoded(spec, name, weights(name))
        mask = np.empty(shape, np.int64)
        for stream in streams:
            stream.fill(name, mask)
            words += mask
        yield name, words
    plain = Plain(spec, weights, context=len(spec.prefix))
    plain.run(spec.prefix, answers=1)
    for layer in range(spec.layers):
        for which, cache in enumerate((plain.keys[layer], plain.values[layer])):
            bits = spec.scales.activation + (spec.layer[layer].value_extra if which else 0)
            words = encode(cache, bits)
            for stream in streams:
                words += stream.prefix(layer, which, words.shape)
            yield f"prefix.{layer}.{which}", words


def in_memory(spec: ModelSpec, weights: Callable[[str], Real]) -> tuple[tuple[bytes, bytes], list[NodePack]]:
    """(seeds, both nodes' packs) of a small model, without a disk: for tests and benchmarks."""
    seeds = fresh_seeds()
    words = dict(masked_words(spec, weights, seeds))
    masked = {name: words[name] for name in spec.tensors()}
    prefixes = [(words[f"prefix.{i}.0"], words[f"prefix.{i}.1"]) for i in range(spec.layers)]
    made = tables(spec)
    none = "0" * 64
    return seeds, [node_pack(r, spec, seeds[r - 1], masked, prefixes, made, (none, none)) for r in (1, 2)]
