"""What a model's metadata must keep so that nothing it describes leaves its bits: `ModelSpec` refuses the rest.

Each sentence names the number that is wrong and its bound. A pack is read by the same rules: its metadata is a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log2
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.models.config import ModelSpec, Norm, Scales

LOW_BITS = 40  #: SiLU's argument and the logits are opened modulo 2^40
WORD_BITS = 62  #: a word beyond ±2^62 would wrap unseen by the alarm
LOGIT_ROOM = 5  #: log2 of the logits that have a window in any case
VALUE_ROOM = 8  #: log2 of the values that attention may mix
OVERSHOOT = 8  #: log2 units: M lies at most so far above a row's maximum, or below it where two levels are missed


def complaints(spec: ModelSpec) -> Iterator[str]:
    """Sentences; none if the program can run."""
    if len(spec.layer) != spec.layers:
        yield f"it describes {len(spec.layer)} of its {spec.layers} layers"
        return
    names = {f"{i}.{part}" for i in range(spec.layers) for part in ("v", "o", "gate", "up", "down")} | {"head"}
    if names != spec.weight_bits.keys():
        yield f"weight_bits: {min(names ^ spec.weight_bits.keys())} is missing or has no place"
        return
    yield from _shape(spec)
    yield from _scores(spec)
    yield from _products(spec)
    for name, norm in spec.norms().items():
        yield from _norm(spec, name, norm)


def _shape(spec: ModelSpec) -> Iterator[str]:
    if spec.heads % spec.kv_heads or spec.head_dim % 2:
        yield f"{spec.heads} heads of {spec.head_dim} cannot share {spec.kv_heads} key heads or be turned in pairs"
    if len(spec.prefix) >= spec.context or not all(0 <= token < spec.vocab for token in spec.prefix):
        yield f"the public prefix has no place in a context of {spec.context} tokens of {spec.vocab}"


def _scores(spec: ModelSpec) -> Iterator[str]:
    """Windows of the scores, of the tested maxima and of the exponential."""
    unit, narrow = spec.scales.score + 2, spec.scales.narrow
    if unit < 22:
        yield f"scores of {spec.scales.score} bits are too coarse for the exponential's tables"
    for what, n in (("scores'", spec.score_n), ("exponential's", spec.exp_n)):
        if unit + n > narrow:
            yield f"the {what} window ends at bit {unit + n}, scores are exact modulo 2^{narrow}"
    last = spec.score_bottom + (1 << spec.score_n) - 1  # a borrow may take a score from here to the bottom
    for i, layer in enumerate(spec.layer):
        if not spec.score_bottom <= layer.level <= last - spec.levels:
            yield f"layer {i}: levels {layer.level} to {layer.level + spec.levels} are not within the scores' window"
    top = 4 * (spec.exp_bottom + (1 << spec.exp_n) - 1)
    if top < OVERSHOOT or spec.exp_bottom * 4 > -spec.scales.probability - OVERSHOOT:
        yield f"the exponential's window from {4 * spec.exp_bottom} to {top} does not hold what lies around a row's maximum"


def _products(spec: ModelSpec) -> Iterator[str]:
    """Room of what is opened, and shifts that shift."""
    b, bits = spec.scales, spec.weight_bits
    if b.hidden + bits["head"] + LOGIT_ROOM > LOW_BITS - 1:
        most = LOW_BITS - 1 - LOGIT_ROOM - b.hidden
        yield f"head: {bits['head']} bits leave no room for a logit of 2^{LOGIT_ROOM}; {most} at most"
    for i, layer in enumerate(spec.layer):
        window = layer.silu.window
        if window.lo + window.n > LOW_BITS:
            yield f"layer {i}: SiLU's window ends at bit {window.lo + window.n}, its argument is opened modulo 2^{LOW_BITS}"
        if min(_shifts(b, bits, i, layer.value_extra, layer.ffn_extra)) < 1:
            yield f"layer {i}: a matrix of too few bits: its product has fewer than what reads it"
    mixed = b.probability + b.activation + VALUE_ROOM + log2(spec.context)
    if mixed > WORD_BITS:
        yield f"mixed values take {mixed:.0f} bits in a context of {spec.context}, {WORD_BITS} at most"
    sums = spec.reciprocal
    if sums.low > 2.0**-OVERSHOOT or sums.end < spec.context << b.probability:
        yield f"the reciprocal's window does not hold the sums of a context of {spec.context} tokens"


def _shifts(b: Scales, bits: dict[str, int], layer: int, value: int, ffn: int) -> tuple[int, ...]:
    return (
        b.norm + bits[f"{layer}.v"] - b.hidden - value,
        b.norm + b.query - b.hidden,
        b.hidden + bits[f"{layer}.up"] - b.activation,
        b.activation + value + bits[f"{layer}.o"] - b.residual,
        b.activation + ffn + bits[f"{layer}.down"] - b.residual,
    )


def _norm(spec: ModelSpec, name: str, norm: Norm) -> Iterator[str]:
    """The largest 2^E / rms that its table may hold, before it is truncated."""
    bits = spec.scales.final_rsqrt if name == "final_norm" else spec.scales.rsqrt
    largest = bits + spec.scales.power + (log2(spec.d_model) - log2(norm.window.low)) / 2
    if largest > WORD_BITS:
        yield f"{name}: an inverse of {largest:.0f} bits does not fit into {WORD_BITS}"
    if norm.window.end < norm.window.low * 2.0 ** (2 * spec.scales.norm):
        yield f"{name}: its window ends below its smallest value"
