"""The shapes that are measured, their random weights, and the rows of the table."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.config import ModelSpec
from engine.provision.calibrate import calibrated, observe, provisional, weight_bits
from engine.ring.fixed import Real

ROOM = 256
"""Places of the caches behind a row's tokens: a decode row grows from its context while it is measured."""
MOST_PREFIX = 512
"""Public tokens that a model can have; a row behind more tokens computes the others first."""
KEPT_BYTES = 2 << 30
"""Of float32 weights; what is beyond is made again each time, as every pass reads all tensors in the same order."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A LLaMA's sizes. A `layer` shape is measured from residual to residual; its vocabulary only feeds the calibration."""

    title: str
    d_model: int
    d_ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    layer: bool = False
    context: int = 512  #: the longest that it is calibrated for
    peer: str = ""  #: its name in spu_llama.py
    drawn: bool = False  #: whether the nodes draw their halves of the products, which would not fit

    @property
    def matrix_words(self) -> int:
        """Words of the matrices that an evaluator reads for a token: the embedding table is not among them."""
        head_dim = self.d_model // self.heads
        kv = self.kv_heads * head_dim
        layer = self.d_model * (2 * self.d_model + 2 * kv + 3 * self.d_ffn)
        return self.layers * layer + (0 if self.layer else self.vocab * self.d_model)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the masked words on disk, but for the public prefix's."""
        return 8 * (self.matrix_words + (2 if self.layer else 1) * self.vocab * self.d_model)


SHAPES = {
    "tiny-layer": Shape("a tiny layer (for the test)", 32, 48, 1, 4, 2, 64, layer=True),
    "tiny": Shape("a tiny model (for the test)", 32, 48, 2, 4, 2, 128, context=1024),
    "stories260K": Shape("stories260K whole", 64, 172, 5, 8, 4, 512, peer="s260k"),
    "stories15M": Shape("stories15M whole", 288, 768, 6, 6, 6, 32000, peer="s15m"),
    "smollm2-layer": Shape("SmolLM2-135M, one layer", 576, 1536, 1, 9, 3, 64, layer=True, peer="smol1"),
    "smollm2": Shape("SmolLM2-135M whole", 576, 1536, 30, 9, 3, 49152, context=2048, peer="smol"),
    "tinyllama-layer": Shape("TinyLlama-1.1B, one layer", 2048, 5632, 1, 32, 4, 64, layer=True, peer="tl1"),
    "tinyllama": Shape("TinyLlama-1.1B whole", 2048, 5632, 22, 32, 4, 32000, drawn=True),
    "llama7b-layer": Shape("LLaMA-7B, one layer", 4096, 11008, 1, 32, 32, 64, layer=True, peer="l7b1"),
}


@dataclass(frozen=True, slots=True)
class Work:
    """A row of the table: `rows` new tokens in one step (1 is decode) behind `past` tokens."""

    shape: str
    rows: int
    past: int
    desktop: tuple[float, float] | None = None  #: relay on D–E1 and D–E2: (ms round trip, Mbit/s)
    nodes: tuple[float, float] | None = None  #: relay on E1–E2

    @property
    def decode(self) -> bool:
        """One token a step."""
        return self.rows == 1

    @property
    def peered(self) -> bool:
        """Whether SPU is run beside it: not on what would take it most of an hour."""
        return bool(SHAPES[self.shape].peer) and self.rows <= 100 and self.past <= 128

    @property
    def given(self) -> int:
        """Tokens before the row that the public prefix stands for; the rest of `past` is computed."""
        return min(self.past, MOST_PREFIX)

    @property
    def capacity(self) -> int:
        """Of the caches."""
        return max(self.past + self.rows + ROOM, 512)

    @property
    def title(self) -> str:
        """How the table names it."""
        what = f"decode at {self.past}" if self.decode else f"prefill {self.rows}"
        links = "" if self.nodes is None else f", nodes {_link(self.nodes)}"
        links += "" if self.desktop is None else f", desktop {_link(self.desktop)}"
        return f"{SHAPES[self.shape].title}, {what}{links}"


def _link(link: tuple[float, float]) -> str:
    return f"{link[0]:g} ms {link[1]:g} Mbit/s"


LOCAL = (
    Work("llama7b-layer", 8, 1),
    Work("llama7b-layer", 1, 16),
    Work("tinyllama-layer", 1, 16),
    Work("smollm2-layer", 32, 1),
    Work("smollm2-layer", 1, 16),
    Work("smollm2-layer", 1, 128),
    Work("stories260K", 8, 1),
    Work("stories260K", 1, 16),
    Work("stories15M", 8, 1),
    Work("stories15M", 32, 1),
    Work("stories15M", 1, 16),
    Work("smollm2", 8, 1),
    Work("smollm2", 100, 1),
    Work("smollm2", 512, 1),
    Work("smollm2", 1, 16),
    Work("smollm2", 1, 128),
    Work("smollm2", 1, 512),
    Work("smollm2", 1, 1024),
    Work("tinyllama", 1, 16),
)
_GIGABIT = 1000.0
WIDE = (
    *(Work("smollm2-layer", 1, 16, (ms, _GIGABIT), (ms, _GIGABIT)) for ms in (1.0, 10.0, 40.0)),
    Work("smollm2-layer", 1, 16, (40.0, _GIGABIT), (1.0, _GIGABIT)),
    Work("smollm2-layer", 1, 16, (40.0, 100.0), (1.0, _GIGABIT)),
    Work("smollm2-layer", 1, 16, (10.0, 100.0), (10.0, 100.0)),
)


def weights(shape: Shape) -> Callable[[str], Real]:
    """Random program tensors by name, [out, in]: unit residual, products of about unit rms. `KEPT_BYTES` are kept."""
    kept: dict[str, NDArray[np.float32]] = {}
    sizes = bare(shape, 1).tensors()

    def tensor(name: str) -> Real:
        values = kept.get(name)
        if values is None:
            values = _random(name, *sizes[name])
            if sum(each.nbytes for each in kept.values()) + values.nbytes <= KEPT_BYTES:
                kept[name] = values
        return values.astype(np.float64)

    return tensor


def _random(name: str, out: int, inner: int) -> NDArray[np.float32]:
    """A tensor's values: the same whenever they are made."""
    source = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = source.standard_normal((out, inner), np.float32)
    if name != "embed":
        values /= np.float32(np.sqrt(inner))
    return values


def bare(shape: Shape, prefix: int) -> ModelSpec:
    """The shape's metadata before calibration: windows do not matter yet."""
    source = np.random.Generator(np.random.PCG64(5))
    sizes = {
        "name": shape.title,
        "vocab": shape.vocab,
        "d_model": shape.d_model,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.d_model // shape.heads,
        "d_ffn": shape.d_ffn,
        "rope_theta": 10000.0,
        "rms_eps": 1e-5,
        "context": shape.context,
        "prefix": tuple(int(t) for t in source.integers(0, shape.vocab, prefix)),
    }
    deviations = {"head": shape.d_model**-0.5}
    for layer in range(shape.layers):
        deviations |= {f"{layer}.{part}": shape.d_model**-0.5 for part in ("v", "o", "gate", "up")}
        deviations[f"{layer}.down"] = shape.d_ffn**-0.5
    return provisional(sizes | {"weight_bits": weight_bits(deviations)}, shape.layers)


def specification(shape: Shape, prefix: int, tensor: Callable[[str], Real]) -> ModelSpec:
    """The shape's public metadata, calibrated on 48 random tokens; `prefix` public tokens stand before every row."""
    spec = bare(shape, prefix)
    source = np.random.Generator(np.random.PCG64(6))
    texts = [source.integers(0, shape.vocab, 24).tolist() for _ in range(2)]
    return calibrated(spec, observe(spec, tensor, texts, lambda done: None)[0])
