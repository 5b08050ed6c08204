"""The LLaMA decoder as a value: `sections` gives its parts as callables that the dealer, the evaluators and `Plain` all run.

`p` is the reader: it runs its own side of each gate. The comment on a line says what the line makes, its shape and the number
of fraction bits (`Scales`) at which the parties hold it.

Gates are issued so that those which do not depend on each other are pending together: they share a round. A layer takes
20 rounds, the embedding 2, the last norm and the answer 4, whatever the context and the number of rows.
"""

from functools import cache, partial

from engine.functions.tables import Window
from engine.gates.answer import answer, answered
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
from engine.models.walk import Output, Section, Tokens
from engine.program.gate import Opened, Reader, Wired
from engine.rows.run import Rows


def sections(spec: ModelSpec, rows: Rows) -> tuple[Section, ...]:
    """The model for these rows: the embedding, each layer, the answer (`engine.models.walk`)."""
    angle = Rotary(rows.position, rows.count, spec.head_dim, spec.rope_theta, spec.scales.rotary)
    layers = (partial(decoder_layer, spec=spec, layer=layer, angle=angle) for layer in range(spec.layers))
    return (partial(embed, spec=spec), *layers, partial(logits, spec=spec))


def embed(p: Reader, tokens: Tokens, spec: ModelSpec) -> Wired:
    """Tokens in, residual out. 2 rounds."""
    return embedding(p, tokens, spec.vocab, spec.d_model)  # [rows, d_model] at residual bits


def decoder_layer(p: Reader, x: Wired, spec: ModelSpec, layer: int, angle: Rotary) -> Wired:
    """Residual in, residual out, [rows, d_model]. 20 rounds."""
    b, own, bits = spec.scales, spec.layer[layer], spec.weight_bits
    value_bits, ffn_bits = b.activation + own.value_extra, b.activation + own.ffn_extra
    heads = attention(p, x, spec, layer, angle)  # [rows, heads * head_dim] at value_bits
    o = matmul(p, heads, f"{layer}.o", spec.d_model)  # [rows, d_model] at value_bits + W_o's
    x = x + truncate(p, o, value_bits + bits[f"{layer}.o"], b.residual, "o", share=False)  # [rows, d_model] at residual
    h = norm(p, x, spec, own.mlp_norm, f"{layer}.mlp_norm", b.rsqrt)  # [rows, d_model] at hidden
    ffn = mlp(p, h, spec, layer)  # [rows, d_ffn] at ffn_bits
    down = matmul(p, ffn, f"{layer}.down", spec.d_model)  # [rows, d_model] at ffn_bits + W_down's
    return x + truncate(p, down, ffn_bits + bits[f"{layer}.down"], b.residual, "down", share=False)  # at residual


def logits(p: Reader, x: Wired, spec: ModelSpec) -> Output:
    """The last norm and the answer, of the rows that are answered. 4 rounds."""
    x = answered(p, x)  # [answered, d_model] at residual
    h = norm(p, x, spec, spec.final_norm, "final_norm", spec.scales.final_rsqrt)  # [answered, d_model] at hidden
    return answer(p, h, spec.vocab)  # [answered, vocab] at hidden + W_head's


def attention(p: Reader, x: Wired, spec: ModelSpec, layer: int, angle: Rotary) -> Wired:
    """softmax(q·Kᵀ)·V of each head, in powers of two (W_q holds log2 e / √head_dim). 3 + 1 + 7 rounds."""
    b, own = spec.scales, spec.layer[layer]
    value_bits, mixed_bits = b.activation + own.value_extra, b.mixture + own.value_extra
    bins, cells = score_windows(spec)
    q, k, v = queries_keys_values(p, x, spec, layer, angle)
    remember(p, layer, k, v)
    s = scores(p, layer, q, spec.heads)  # [rows][heads][keys] at score, modulo 2^narrow; log2 units
    top = maximum(p, s, spec.heads, bins, own.level, spec.levels)  # [rows, heads] at score
    weights = exponential(p, below(p, s, top, spec.heads), cells, b.probability)  # [rows][heads][keys] at probability
    total = sum_over_keys(p, weights, spec.heads)  # [rows, heads] at probability
    # Not yet normalised, so it shares the reciprocal's round.
    mixed = mixture(p, layer, weights, spec.heads)  # [rows, heads * head_dim] at probability + value_bits
    r = lookup_wide(p, total, "reciprocal", spec.reciprocal, b.reciprocal, b.power)  # [rows, heads] at reciprocal + power
    r = truncate(p, r, b.reciprocal + b.power, b.reciprocal, "reciprocal")  # [rows, heads] at reciprocal
    mixed = truncate(p, mixed, b.probability + value_bits, mixed_bits, "mixture")  # [rows, heads * head_dim] at mixed_bits
    mixed = multiply(p, mixed, r)  # [rows, heads * head_dim] at mixed_bits + reciprocal
    return truncate(p, mixed, mixed_bits + b.reciprocal, value_bits, "attention")  # [rows, heads * head_dim] at value_bits


def queries_keys_values(p: Reader, x: Wired, spec: ModelSpec, layer: int, angle: Rotary) -> tuple[Wired, Wired, Wired]:
    """q, k and v of the normalised residual, as (t W)·r: W needs not wait for r = 2^E / rms. 3 rounds."""
    b, own = spec.scales, spec.layer[layer]
    exponent, bits = own.attention_norm.exponent, spec.weight_bits[f"{layer}.v"]
    q_width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    turned = q_width + kv_width
    t, squares = scaled(p, x, spec, own.attention_norm)
    tw = matmul(p, t, f"{layer}.qkv", turned + kv_width)  # [rows, turned + kv_width] at norm + W's
    r = inverse_root(p, squares, spec, own.attention_norm, f"{layer}.attention_norm", b.rsqrt)  # [rows, 1] at rsqrt
    # The plain values here are x W, 2^E times what is computed with.
    plain, value_bits = b.hidden - exponent, b.activation + own.value_extra
    qk = truncate(p, part_of(tw, 0, turned), b.norm - exponent + b.query, plain, "qk")  # [rows, turned] at hidden
    v = part_of(tw, turned, turned + kv_width)  # [rows, kv_width] at norm + W_v's
    v = truncate(p, v, b.norm - exponent + bits, plain + own.value_extra, "raw_v")  # [rows, kv_width] at hidden + value_extra
    qk, v = multiply(p, qk, r), multiply(p, v, r)  # at rsqrt more
    q = rotate(p, part_of(qk, 0, q_width), angle, b.narrow)  # [rows, q_width] at activation, modulo 2^narrow
    k = rotate(p, part_of(qk, q_width, turned), angle, b.narrow)  # [rows, kv_width] at activation, modulo 2^narrow
    return q, k, truncate(p, v, b.hidden + own.value_extra + b.rsqrt, value_bits, "v")  # v: [rows, kv_width] at value_bits


def mlp(p: Reader, h: Wired, spec: ModelSpec, layer: int) -> Wired:
    """SwiGLU up to the product, [rows, d_ffn]. 1 + 2 + 1 rounds."""
    b, own, bits = spec.scales, spec.layer[layer].silu, spec.weight_bits[f"{layer}.up"]
    ffn_bits = b.activation + spec.layer[layer].ffn_extra
    gate = matmul(p, h, f"{layer}.gate", spec.d_ffn, low40=True)  # [rows, d_ffn] at hidden + W_gate's, modulo 2^40
    up = matmul(p, h, f"{layer}.up", spec.d_ffn)  # [rows, d_ffn] at hidden + W_up's
    act = lookup(p, gate, f"{layer}.silu", own.window, own.degree, ffn_bits, b.power)  # [rows, d_ffn] at ffn_bits + power
    up = truncate(p, up, b.hidden + bits, b.activation, "up")  # [rows, d_ffn] at activation
    act = truncate(p, act, ffn_bits + b.power, ffn_bits, "silu")  # [rows, d_ffn] at ffn_bits
    return truncate(p, multiply(p, act, up), ffn_bits + b.activation, ffn_bits, "ffn")  # [rows, d_ffn] at ffn_bits


def norm(p: Reader, x: Wired, spec: ModelSpec, own: Norm, table: str, bits: int) -> Wired:
    """x / rms(x), [rows, d_model]; the gain is folded into the matrices that read it. 3 rounds."""
    b = spec.scales
    t, squares = scaled(p, x, spec, own)
    r = inverse_root(p, squares, spec, own, table, bits)  # [rows, 1] at bits
    return truncate(p, multiply(p, t, r), b.norm + bits, b.hidden, "norm")  # [rows, d_model] at hidden


def scaled(p: Reader, x: Wired, spec: ModelSpec, own: Norm) -> tuple[Wired, Opened]:
    """(t, Σ t²) for t = x / 2^E, the sum to be opened with what else is pending. 1 round."""
    b = spec.scales
    t = rescale(p, x, b.residual, b.norm - own.exponent, "norm")  # [rows, d_model] at norm
    return t, sum_of_squares(p, t)  # the sum: [rows, 1] at 2 * norm


def inverse_root(p: Reader, squares: Opened, spec: ModelSpec, own: Norm, table: str, bits: int) -> Wired:
    """2^E / rms(x), [rows, 1]. 1 round."""
    r = lookup_wide(p, squares, table, own.window, bits, spec.scales.power)  # [rows, 1] at bits + power
    unit = bits + own.exponent  # the plain value here is 1 / rms, of which 2^E times as much is computed with
    return truncate(p, r, unit + spec.scales.power, unit, "rsqrt")  # [rows, 1] at bits


def score_windows(spec: ModelSpec) -> tuple[Window, Window]:
    """(bins of the scores, cells of the exponential), each of 4 log2 units."""
    lo = spec.scales.score + 2
    return _window(lo, spec.score_n, spec.score_bottom), _window(lo, spec.exp_n, spec.exp_bottom)


@cache
def _window(lo: int, n: int, lowest: int) -> Window:
    return Window(lo=lo, n=n, lowest=lowest)
