"""Check a shared model against its checkpoint: the engine's logits beside the plaintext's, and every window's use.

The figures are those of docs/protocol.md, section 11, over text that calibration did not see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import ModelError
from engine.functions.tables import WideWindow
from engine.models.config import ModelSpec
from engine.parties.plain import Plain
from engine.parties.trio import Trio
from engine.provision.calibrate import Seen
from engine.provision.checkpoint import Checkpoint
from engine.provision.fold import tensor_shapes
from engine.ring.fixed import Real

CHUNK = 160  #: tokens of a text that are checked in one context


@dataclass(frozen=True)
class Accuracy:
    """How far the engine's next-token distributions are from the plaintext's."""

    tokens: int
    logit_error: float  #: root mean square, over the spread (standard deviation) of all the logits
    total_variation: float  #: mean
    argmax: float  #: share of equal argmax
    perplexity: float
    plain_perplexity: float
    wrap_budget: float  #: expected wraps a token
    redone: int  #: steps whose wrap alarm rose


def _softmax(logits: Real) -> Real:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def window_use(spec: ModelSpec, seen: Seen) -> dict[tuple[int, str], float]:
    """How much of each window was used, by (section, name): 1 is its edge; above 1 a value wraps into a wrong cell."""
    use: dict[tuple[int, str], float] = {}
    narrow = 2.0 ** (spec.scales.narrow - 1 - spec.scales.activation)
    for (section, name), high in seen.high.items():
        low = seen.low[section, name]
        layer = spec.layer[section - 1] if 1 <= section <= spec.layers else None
        if name == "score":
            value = max(low / (4 * spec.score_bottom), high / (4 * (spec.score_bottom + 64)))
        elif name == "exp":
            value = max(low / (4 * spec.exp_bottom), high / (4 * (spec.exp_bottom + 64)))
        elif name == "narrow":
            value = max(-low, high) / narrow
        elif name == "reciprocal":
            value = _wide_use(spec.reciprocal, low, high, spec.scales.probability)
        elif name == "max" and layer is not None:
            top = 4.0 * (layer.level + spec.levels)
            value = 2.0 if high >= top else 0.0
        elif name == "silu" and layer is not None:
            window = layer.silu.window
            reach = -window.lowest * 2.0 ** (window.lo - spec.scales.hidden - spec.weight_bits[f"{section - 1}.gate"])
            value = max(-low, high) / reach
        else:
            norm = spec.final_norm if layer is None else getattr(layer, name)
            unit = 4.0**norm.exponent
            value = _wide_use(norm.window, low / unit, high / unit, 2 * spec.scales.norm)
        use[section, name] = value
    return use


def _wide_use(window: WideWindow, low: float, high: float, scale: int) -> float:
    """Use of the window's reach; above 1 if a value is below what the tables follow."""
    return max(high * 2.0**scale / window.end, 0.0 if low >= window.low else window.low / max(low, 1e-300))


def require_shape(spec: ModelSpec, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that cannot be the one a model was made from."""
    shape = checkpoint.shape
    same = (shape.heads, shape.kv_heads, shape.rope_theta) == (spec.heads, spec.kv_heads, spec.rope_theta)
    if not same or dict(tensor_shapes(shape)) != spec.tensors():
        raise ModelError("has another shape than the shared model: it is not what that was made from", checkpoint.path)


def check(
    trio: Callable[[int], Trio],
    weights: Callable[[str], Real],
    spec: ModelSpec,
    texts: Sequence[Sequence[int]],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Accuracy, Seen]:
    """Run the texts behind the public prefix in the engine and in the clear; ``trio(context)`` makes the three parties."""
    seen = Seen()
    errors: list[Real] = []
    wanted: list[Real] = []
    variation, agree, nats, plain_nats, tokens, redone = 0.0, 0, 0.0, 0.0, 0, 0
    for text in texts:
        part = list(text[:CHUNK])
        context = len(spec.prefix) + len(part)
        plain = Plain(spec, weights, context=context)
        plain.run(spec.prefix, answers=1)
        plain.observer = seen
        want = plain.run(part)
        parties = trio(context)
        got = parties.step(part, answers=len(part))
        redone += parties.redone
        errors.append(((got - want) ** 2).mean(axis=1))
        wanted.append(want)
        p, q = _softmax(got), _softmax(want)
        variation += float(np.abs(p - q).sum() / 2)
        agree += int((got.argmax(axis=1) == want.argmax(axis=1)).sum())
        following = np.array(part[1:])
        index = np.arange(len(following))
        nats -= float(np.log(p[index, following]).sum())
        plain_nats -= float(np.log(q[index, following]).sum())
        tokens += len(part)
        progress(tokens)
    predicted = max(tokens - len(texts), 1)
    accuracy = Accuracy(
        tokens=tokens,
        logit_error=float(np.sqrt(np.concatenate(errors).mean()) / np.concatenate(wanted).std()),
        total_variation=variation / tokens,
        argmax=agree / tokens,
        perplexity=float(np.exp(nats / predicted)),
        plain_perplexity=float(np.exp(plain_nats / predicted)),
        wrap_budget=seen.wraps / tokens,
        redone=redone,
    )
    return accuracy, seen
