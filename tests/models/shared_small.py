"""The small random LLaMA, shared as a model's owner shares it, and its reader in the clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.open import open_checkpoint
from engine.parties.plain import Plain
from engine.provision.pack import ClientModel, load_client_model
from engine.provision.share import ShareOptions, share
from engine.provision.weights import WeightSource
from tests.models import small_llama

CONTEXT = 256
PREFIX = (1, 5, 6)
LOGIT_ERROR = 0.05
"""More than the engine's logits are off from the plaintext's."""

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class SharedSmall:
    """`directory` holds node1, node2 and client."""

    directory: Path
    checkpoint: Path

    @cached_property
    def client(self) -> ClientModel:
        return load_client_model(self.directory / "client")

    @property
    def vocab(self) -> int:
        return self.client.spec.vocab

    def plain(self) -> Plain:
        return Plain(self.client.spec, WeightSource(open_checkpoint(self.checkpoint)), context=CONTEXT)

    def prompt(self, length: int, seed: int = 1, prefix: Sequence[int] = PREFIX) -> list[int]:
        """The prefix and `length` more tokens."""
        draw = np.random.default_rng(seed)
        return [*prefix, *draw.integers(3, self.vocab, length).tolist()]

    def answer(self, prompt: Sequence[int], count: int) -> tuple[list[int], list[Logits]]:
        """The plaintext's greedy answer, and the logits behind each of its tokens."""
        plain, tokens, behind = self.plain(), [], []
        logits = plain.run(list(prompt))[-1]
        for _ in range(count):
            behind.append(logits)
            tokens.append(int(logits.argmax()))
            logits = plain.run(tokens[-1:])[-1]
        return tokens, behind


def share_small(directory: Path) -> SharedSmall:
    """Write the checkpoint and its packs into a directory; takes about a second."""
    source = small_llama.write_huggingface(small_llama.UNTIED, directory / "checkpoint")
    checkpoint = open_checkpoint(source)
    draw = np.random.default_rng(3)
    texts = [draw.integers(3, checkpoint.shape.vocab, 60).tolist() for _ in range(4)]
    share(checkpoint, directory / "shared", ShareOptions("small", CONTEXT, texts, list(PREFIX), [2]))
    return SharedSmall(directory / "shared", source)


def greedy(logits: Logits, context: Sequence[int]) -> int:
    """The likeliest token."""
    del context
    return int(logits.argmax())


class Follow:
    """Chooses the plaintext's tokens, and notes where the engine would have chosen another one.

    Where the plaintext's best two logits are closer than the numeric error, either is right.
    """

    def __init__(self, answer: Sequence[int], behind: Sequence[Logits]) -> None:
        self.wrong: list[int] = []
        self._answer, self._behind = answer, behind
        self._at = 0

    def __call__(self, logits: Logits, context: Sequence[int]) -> int:
        del context
        token, behind = self._answer[self._at], self._behind[self._at]
        second, first = np.sort(behind)[-2:]
        if int(logits.argmax()) != token and first - second > LOGIT_ERROR:
            self.wrong.append(self._at)
        self._at += 1
        return token
