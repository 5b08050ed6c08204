"""The LLaMA decoder as one program over gates; the dealer, the evaluators and the reader in the clear all run it.

Gates are issued so that those which do not depend on each other are pending together: they share a round. A layer takes
20 rounds, the embedding 2, the last norm and the answer 4, whatever the context and the number of rows.
"""

from functools import cache
from typing import Any

from engine.functions.tables import Window
from engine.gates.answer import answer
from engine.gates.attention import mixture, remember, scores, sum_over_keys
from engine.gates.embedding import embedding
from engine.gates.exponential import exponential
from engine.gates.lookup import lookup
from engine.gates.matmul import matmul
from engine.gates.maximum import below, maximum
from engine.gates.product import multiply, sum_of_squares
from engine.gates.rotary import Rotary, part_of, rotate
from engine.gates.truncation import rescale, truncate
from engine.gates.wide import lookup_wide
from engine.models.config import ModelSpec, Norm
from engine.rows.run import Extent


def residual_extent(spec: ModelSpec) -> Extent:
    """The residual's elements a row."""
    return Extent(spec.d_model)


def embed(p: Any, spec: ModelSpec, tokens: Any) -> Any:  # noqa: ANN401  the readers' types differ
    """Residual of the rows, [rows, d_model]. 2 rounds."""
    return embedding(p, tokens, spec.vocab, spec.d_model)


def scaled(p: Any, spec: ModelSpec, x: Any, own: Norm) -> tuple[Any, Any]:  # noqa: ANN401
    """(t, Σ t²) for t = x / 2^E at `norm` bits, the sum to be opened with what else is pending. 1 round."""
    t = rescale(p, x, spec.scales.residual, spec.scales.norm - own.exponent, "norm")
    return t, sum_of_squares(p, t)


def inverse_root(p: Any, spec: ModelSpec, squares: Any, own: Norm, table: str, bits: int) -> Any:  # noqa: ANN401
    """2^E / rms(x), one a row, at `bits`. 1 round."""
    r = lookup_wide(p, squares, table, own.window, bits, spec.scales.power)
    unit = bits + own.exponent  # the plain value here is 1 / rms, of which 2^E times as much is computed with
    return truncate(p, r, unit + spec.scales.power, unit, "rsqrt")


def norm(p: Any, spec: ModelSpec, x: Any, own: Norm, table: str, bits: int) -> Any:  # noqa: ANN401
    """x / rms(x), at `hidden` bits; the gain is folded into the matrices that read it. 3 rounds."""
    b = spec.scales
    t, squares = scaled(p, spec, x, own)
    r = inverse_root(p, spec, squares, own, table, bits)
    return truncate(p, multiply(p, t, r), b.norm + bits, b.hidden, "norm")


def queries_keys_values(p: Any, spec: ModelSpec, layer: int, x: Any, angle: Rotary) -> tuple[Any, Any, Any]:  # noqa: ANN401
    """q, k and v of the normalised residual, as (t W)·r: W needs not wait for r = 2^E / rms. 3 rounds."""
    b, own = spec.scales, spec.layer[layer]
    exponent, bits = own.attention_norm.exponent, spec.weight_bits[f"{layer}.v"]
    turned, small = (spec.heads + spec.kv_heads) * spec.head_dim, spec.kv_heads * spec.head_dim
    t, squares = scaled(p, spec, x, own.attention_norm)
    tw = matmul(p, t, f"{layer}.qkv", turned + small)
    r = inverse_root(p, spec, squares, own.attention_norm, f"{layer}.attention_norm", b.rsqrt)
    # The plain values here are x W, 2^E times what is computed with.
    unit, fine = b.hidden - exponent, b.hidden - exponent + own.value_extra
    qk = truncate(p, part_of(tw, 0, turned), b.norm - exponent + b.query, unit, "qk")
    v = truncate(p, part_of(tw, turned, turned + small), b.norm - exponent + bits, fine, "raw_v")
    qk, v = multiply(p, qk, r), multiply(p, v, r)
    wide = spec.heads * spec.head_dim
    q = rotate(p, part_of(qk, 0, wide), angle, b.narrow)
    k = rotate(p, part_of(qk, wide, turned), angle, b.narrow)
    whole = b.activation + own.value_extra
    return q, k, truncate(p, v, b.hidden + own.value_extra + b.rsqrt, whole, "v")


def attention(p: Any, spec: ModelSpec, layer: int, x: Any, angle: Rotary) -> Any:  # noqa: ANN401
    """Heads of attention, [rows, heads * head_dim], `value_extra` bits above the activations. 3 + 1 + 7 rounds."""
    b, own = spec.scales, spec.layer[layer]
    fine = b.activation + own.value_extra
    q, k, v = queries_keys_values(p, spec, layer, x, angle)
    remember(p, layer, k, v)
    s = scores(p, layer, q, spec.heads)  # log2 units, modulo 2^narrow
    bins, cells = score_windows(spec)
    top = maximum(p, s, spec.heads, bins, own.level, spec.levels)
    weights = exponential(p, below(p, s, top, spec.heads), cells, b.probability)
    total = sum_over_keys(p, weights, spec.heads)
    mixed = mixture(p, layer, weights, spec.heads)  # not yet normalised: shares the reciprocal's round
    r = lookup_wide(p, total, "reciprocal", spec.reciprocal, b.reciprocal, b.power)
    r = truncate(p, r, b.reciprocal + b.power, b.reciprocal, "reciprocal")
    whole = b.mixture + own.value_extra
    mixed = truncate(p, mixed, b.probability + fine, whole, "mixture")
    return truncate(p, multiply(p, mixed, r), whole + b.reciprocal, fine, "attention")


def mlp(p: Any, spec: ModelSpec, layer: int, h: Any) -> Any:  # noqa: ANN401
    """SwiGLU up to the product, [rows, d_ffn], `ffn_extra` bits above the activations. 1 + 2 + 1 rounds."""
    b, own = spec.scales, spec.layer[layer].silu
    fine = b.activation + spec.layer[layer].ffn_extra
    gate = matmul(p, h, f"{layer}.gate", spec.d_ffn, low40=True)
    up = matmul(p, h, f"{layer}.up", spec.d_ffn)
    act = lookup(p, gate, f"{layer}.silu", own.window, own.degree, fine, b.power)
    up = truncate(p, up, b.hidden + spec.weight_bits[f"{layer}.up"], b.activation, "up")
    act = truncate(p, act, fine + b.power, fine, "silu")
    return truncate(p, multiply(p, act, up), fine + b.activation, fine, "ffn")


def decoder_layer(p: Any, spec: ModelSpec, layer: int, x: Any, angle: Rotary) -> Any:  # noqa: ANN401
    """One layer: residual in, residual out. 20 rounds."""
    b, own, bits = spec.scales, spec.layer[layer], spec.weight_bits
    o = matmul(p, attention(p, spec, layer, x, angle), f"{layer}.o", spec.d_model)
    x = x + truncate(p, o, b.activation + own.value_extra + bits[f"{layer}.o"], b.residual, "o", share=False)
    h = norm(p, spec, x, own.mlp_norm, f"{layer}.mlp_norm", b.rsqrt)
    down = matmul(p, mlp(p, spec, layer, h), f"{layer}.down", spec.d_model)
    return x + truncate(p, down, b.activation + own.ffn_extra + bits[f"{layer}.down"], b.residual, "down", share=False)


def logits(p: Any, spec: ModelSpec, x: Any) -> Any:  # noqa: ANN401
    """The last norm and the answer. 4 rounds."""
    return answer(p, norm(p, spec, x, spec.final_norm, "final_norm", spec.scales.final_rsqrt), spec.vocab)


def score_windows(spec: ModelSpec) -> tuple[Window, Window]:
    """(bins of the scores, cells of the exponential), each of 4 log2 units."""
    lo = spec.scales.score + 2
    return _window(lo, spec.score_n, spec.score_bottom), _window(lo, spec.exp_n, spec.exp_bottom)


@cache
def _window(lo: int, n: int, lowest: int) -> Window:
    return Window(lo=lo, n=n, lowest=lowest)
