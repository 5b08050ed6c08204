"""Check a shared model against its checkpoint: the engine's logits beside the plaintext's, and every window's use.

The figures are those of docs/protocol.md, section 11, over text that calibration did not see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.checkpoint.checkpoint import Checkpoint
from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.parties.plain import Plain
from engine.parties.trio import Trio
from engine.provision.calibrate import Seen
from engine.provision.fold import tensor_shapes
from engine.provision.window_use import fullest
from engine.ring.fixed import Real

MOST_NATS = 700.0  #: whose exponential is a float
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
    worst_row: float  #: the largest logit error of one token's row, over the spread


def _softmax(logits: Real) -> Real:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _log_softmax(logits: Real) -> Real:
    """Finite where a probability is too small for a float."""
    down = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(down - np.log(np.exp(down).sum(axis=1, keepdims=True)))


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
    """Run the texts behind the public prefix in the engine and in the clear; ``trio(context)`` makes the three parties.

    Raises:
        ModelError: a step could not be computed; the window that its text used most is named.
    """
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
        try:
            got = parties.step(part, answers=len(part))
        except ModelError as error:
            raise ModelError(f"{error}. In the plaintext of what was checked {fullest(spec, seen)}") from error
        redone += parties.redone
        errors.append(((got - want) ** 2).mean(axis=1))
        wanted.append(want)
        p, q = _softmax(got), _softmax(want)
        variation += float(np.abs(p - q).sum() / 2)
        agree += int((got.argmax(axis=1) == want.argmax(axis=1)).sum())
        following = np.array(part[1:])
        index = np.arange(len(following))
        nats -= float(_log_softmax(got)[index, following].sum())
        plain_nats -= float(_log_softmax(want)[index, following].sum())
        tokens += len(part)
        progress(tokens)
    predicted = max(tokens - len(texts), 1)
    accuracy = Accuracy(
        tokens=tokens,
        logit_error=float(np.sqrt(np.concatenate(errors).mean()) / np.concatenate(wanted).std()),
        total_variation=variation / tokens,
        argmax=agree / tokens,
        perplexity=float(np.exp(min(nats / predicted, MOST_NATS))),
        plain_perplexity=float(np.exp(min(plain_nats / predicted, MOST_NATS))),
        wrap_budget=seen.wraps / tokens,
        redone=redone,
        worst_row=float(np.sqrt(np.concatenate(errors).max()) / np.concatenate(wanted).std()),
    )
    return accuracy, seen
