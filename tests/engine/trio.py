"""A small random model and all three parties of one session in this process, for tests of the whole program.

Everything is deterministic where a test gives seeds: the model's weights and masks, the three session keys. Unlike
`engine.parties.trio` it redoes nothing by itself, and shows what was dealt, sent and counted.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from engine.models.config import ModelSpec
from engine.models.functions import tables
from engine.parties.dealer import Dealer
from engine.parties.evaluator import Evaluator
from engine.parties.pack import NodePack, node_pack
from engine.parties.plain import Plain
from engine.program.evaluation import Exchange
from engine.provision.calibrate import measured, provisional
from engine.provision.masking import masked_words
from engine.step import Answer, Step

Real = NDArray[np.float64]
PATIENCE = 60.0  #: seconds that an evaluator waits for its peer before a test fails
PREFIX = (1, 5, 7, 9)
VOCAB = 307
SHAPE: Mapping[str, object] = {
    "vocab": VOCAB,
    "d_model": 48,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 12,
    "d_ffn": 100,
    "rope_theta": 1e4,
    "rms_eps": 1e-5,
    "context": 256,
}


def key(*parts: object) -> bytes:
    """32 bytes that are a function of what is given."""
    return sha256(repr(parts).encode()).digest()


@dataclass(frozen=True)
class Model:
    """A shared model with its plaintext: what `Plain`, the dealer and the two evaluators load."""

    spec: ModelSpec
    weights: dict[str, Real]
    seeds: tuple[bytes, bytes]
    packs: tuple[NodePack, NodePack]

    def plain(self, prefix: int | None = None) -> Plain:
        """The reader in the clear, behind the public prefix's first `prefix` tokens."""
        tokens = self.spec.prefix if prefix is None else self.spec.prefix[:prefix]
        reader = Plain(self.spec, self.weights.__getitem__)
        reader.run(tokens, answers=1)
        return reader


def random_weights(spec: ModelSpec, rng: np.random.Generator) -> dict[str, Real]:
    """Weights whose residual, scores and logits spread like a trained model's."""
    out = {}
    for name, (outputs, inputs) in spec.tensors().items():
        spread = {"embed": 1.0, "head": 3 / np.sqrt(inputs)}.get(name, 1 / np.sqrt(inputs))
        out[name] = spread * rng.standard_normal((outputs, inputs))
    return out


@cache
def small_model(layers: int = 3, seed: int = 0, tiny: tuple[str, ...] = ()) -> Model:
    """A random LLaMA of odd sizes, calibrated on random text; made once a run. The tensors in `tiny` are 64 times smaller."""
    return _random_model(SHAPE, layers, seed, tiny)


@cache
def wide_model() -> Model:
    """One whose matrices have rows of more than 64 words."""
    return _random_model({**SHAPE, "d_model": 96, "head_dim": 24, "d_ffn": 200}, 2, 0, ())


def _random_model(shape: Mapping[str, object], layers: int, seed: int, tiny: tuple[str, ...]) -> Model:
    rng = np.random.default_rng(seed)
    spec = provisional({**shape, "name": "small", "prefix": PREFIX}, layers)
    weights = random_weights(spec, rng)
    weights |= {name: weights[name] / 64 for name in tiny}
    texts = [rng.integers(0, spec.vocab, 100).tolist() for _ in range(4)]
    spec = measured(spec, weights.__getitem__, texts, lambda tokens: None)
    seeds = (key("model", seed, 1), key("model", seed, 2))
    words = dict(masked_words(spec, weights.__getitem__, seeds))
    masked = {name: words[name] for name in spec.tensors()}
    prefixes = [(words[f"prefix.{i}.0"], words[f"prefix.{i}.1"]) for i in range(layers)]
    made = tables(spec)
    one, two = (node_pack(r, spec, seeds[r - 1], masked, prefixes, made, ("0" * 64, "0" * 64)) for r in (1, 2))
    return Model(spec, weights, seeds, (one, two))


def prompt(length: int, seed: int = 0) -> list[int]:
    """Random tokens of the small model."""
    return [int(t) for t in np.random.default_rng([seed, length]).integers(0, VOCAB, length)]


@dataclass
class Mail:
    """Two evaluators' link: a queue each way, and every message that went over it."""

    sent: tuple[list[bytes], list[bytes]] = field(default_factory=lambda: ([], []))
    queues: tuple[queue.Queue[bytes], queue.Queue[bytes]] = field(default_factory=lambda: (queue.Queue(), queue.Queue()))

    def exchange(self, index: int) -> Exchange:
        """What evaluator `index` + 1 calls for a round."""

        def run(message: bytes) -> bytes:
            self.sent[index].append(bytes(message))
            self.queues[index].put(bytes(message))
            return self.queues[1 - index].get(timeout=PATIENCE)

        return run


def together(one: Callable[[], object], two: Callable[[], object]) -> tuple[object, object]:
    """Both at once, each in a thread; an exception of either passes through."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(one), pool.submit(two)
        return first.result(), second.result()


@dataclass
class StepRun:
    """A step that was run: its request, its answer (the same at both evaluators) and its logits, [answers, vocab]."""

    request: Step
    answer: Answer
    wrapped: bool
    logits: Real
    sent: tuple[list[bytes], list[bytes]]

    @property
    def rounds(self) -> int:
        """Rounds of the step, as counted on the wire."""
        return len(self.sent[0])


class Trio:
    """A dealer and two evaluators of one session; rows are dealt in one block when a step needs them."""

    def __init__(self, model: Model, *, prefix: int | None = None, context: int | None = None, seed: int = 0) -> None:
        prefix = len(model.spec.prefix) if prefix is None else prefix
        context = context or model.spec.context
        k1, k2, own = (key("session", seed, i) for i in range(3))
        self.model = model
        self.dealer = Dealer(model.spec, model.seeds, (k1, k2), own, prefix=prefix, context=context)
        self.evaluators = tuple(
            Evaluator(pack, k, prefix=prefix, context=context) for pack, k in zip(model.packs, (k1, k2), strict=True)
        )
        self.material: dict[tuple[int, int], tuple[memoryview, memoryview]] = {}  #: by (first row, section)

    def deal(self, count: int) -> int:
        """Deal a block of rows, prepare it at both evaluators; returns its first row."""
        first, position = self.dealer.next_row, self.dealer.dealt_position
        for e in self.evaluators:
            e.announce(first, count, position)
        for section, material in self.dealer.deal(count):
            self.material[first, section] = material
            for e, part in zip(self.evaluators, material, strict=True):
                e.prepare(first, section, part)
        return first

    def step(self, tokens: Sequence[int], answers: int = 1) -> StepRun:
        """Run the tokens' rows at both evaluators."""
        missing = len(tokens) - self.dealer.queued_rows
        if missing > 0:
            self.deal(missing)
        return self.run(self.dealer.request(tokens, answers))

    def run(self, request: Step) -> StepRun:
        """Run a step that was requested already."""
        mail = Mail()
        one, two = together(*(self._side(i, request, mail) for i in range(2)))
        if not isinstance(one, Answer) or not isinstance(two, Answer):
            raise TypeError("a step gives an answer")
        if one != two:
            raise RuntimeError("the evaluators' answers differ")
        last, size = request.first_row + request.count - 1, len(one.data) // request.answers
        rows = range(last - request.answers + 1, last + 1)
        logits = np.stack([self.dealer.logits(r, one.data[i * size : (i + 1) * size]) for i, r in enumerate(rows)])
        return StepRun(request, one, self.dealer.wrapped(last, one.alarm), logits, mail.sent)

    def _side(self, index: int, request: Step, mail: Mail) -> Callable[[], Answer]:
        return lambda: self.evaluators[index].step(request, mail.exchange(index), lambda rows, section: None)

    def rewind(self, position: int) -> None:
        """Cut the context at all three."""
        self.dealer.rewind(position)
        for e in self.evaluators:
            e.rewind(position)
