"""Eleven leaks, planted into the real code. All but one leave every answer right: that is what makes them dangerous."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.gates import answer
from engine.gates.matmul import matmul
from engine.prf import Label, Stream
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import low
from engine.ring.kernels.words import pack24
from engine.rows.queue import RowQueue
from engine.rows.run import Extent
from engine.session import keys
from engine.step import LOGIT_BYTES

Words = NDArray[np.int64]
Patch = pytest.MonkeyPatch


def _in_gate(patch: Patch) -> None:
    """Let a reader say which gate of the program runs."""
    inner = Gate.__call__

    def call(self: Gate, p: Any, *args: Any, **kwargs: Any) -> Any:
        outer, p.active = getattr(p, "active", ""), self.__name__
        try:
            return inner(self, p, *args, **kwargs)
        finally:
            p.active = outer

    patch.setattr(Gate, "__call__", call)


def alter_kappa(patch: Patch, gate: str, name: str, change: Callable[[Words], Words]) -> None:
    """Both sides use changed masks in one gate, so what they compute stays right."""
    _in_gate(patch)
    evaluate, deal = Evaluation.kappa, Dealing.kappa

    def evaluators(self: Any, slot: str, extent: Extent) -> Words:
        words = evaluate(self, slot, extent)
        return change(words) if (self.active, slot) == (gate, name) else words

    def dealers(self: Any, slot: str, extent: Extent) -> tuple[Words, Words]:
        one, two = deal(self, slot, extent)
        return (change(one), change(two)) if (self.active, slot) == (gate, name) else (one, two)

    patch.setattr(Evaluation, "kappa", evaluators)
    patch.setattr(Dealing, "kappa", dealers)


def drop_kappa(patch: Patch) -> None:
    """Products of wires are opened without masks: the missing zero share."""
    alter_kappa(patch, "multiply", "z", np.zeros_like)


def mask_of_32_bits(patch: Patch) -> None:
    """A look-up's columns have masks of 32 bits."""
    alter_kappa(patch, "lookup", "w", lambda words: low(words, 32))


def mask_shorter_than_what_is_sent(patch: Patch) -> None:
    """A score is exact modulo 2^34, so its mask has 34 bits; 40 are sent, and the upper six carry sums of products."""
    alter_kappa(patch, "scores", "z", lambda words: low(words, 34))


def clear_low_bit(patch: Patch) -> None:
    """The lowest bit of a mask is always 0."""
    alter_kappa(patch, "lookup_wide", "z", lambda words: words & np.int64(-2))


def roots_that_everybody_knows(patch: Patch) -> None:
    """Point functions grow from zeros: their keys, which both hold, say where the point is."""
    alter_kappa(patch, "lookup_wide", "root", np.zeros_like)


def _one_in_a_thousand(words: Words) -> Words:
    return np.where(words.view(np.uint64) % np.uint64(1000) == 0, 0, words)  # the exact test's few words have some of these


def one_element_in_1000(patch: Patch) -> None:
    """One element in 1,000 is unmasked."""
    alter_kappa(patch, "lookup", "w", _one_in_a_thousand)


def additive_answer(patch: Patch) -> None:
    """The dealer receives an evaluator's additive part of the logits, with which it could learn more than the logits."""

    def evaluate(e: Evaluation, x: Any, vocab: int) -> tuple[bytes, int]:
        mask = e.kappa("alarm", Extent(1))
        logits = matmul(e, x, "head", vocab, low40=True)
        additive = np.ascontiguousarray(e._pending[-1][1]) if e._pending else logits.c
        alarm = e.open(low(mask ^ np.int64(e.alarm), 16), Extent(1), Codec.XOR16)
        out = np.empty(logits.c.size * LOGIT_BYTES, np.uint8)
        pack24(additive.reshape(-1), out)
        return out.tobytes(), int(alarm.c[-1, 0]) & 0xFFFF if e.rows.count else 0

    patch.setattr(answer.answer, "sides", (answer.deal, evaluate, answer.clear))


def reuse_after_rewind(patch: Patch) -> None:
    """A row's number is its context position, so a rewind brings it back, at the dealer and at the evaluators."""
    rewind = RowQueue.rewind

    def back(self: RowQueue[Any], position: int) -> None:
        rows = self.dealt_position - position
        rewind(self, position)
        self.last_announced -= rows
        self.last_spent = self.last_announced

    patch.setattr(RowQueue, "rewind", back)


def truncation_under_the_old_share(patch: Patch) -> None:
    """A layer's second truncation of the residual is dealt under the λ1 of its first: λ2' - λ2 then gives E2 λ' - λ, and
    with both m the difference of the two values."""
    _in_gate(patch)
    first, share = Dealing.first, Evaluation.share

    def old(self: Any, name: str, words: Words) -> Words:
        if (self.active, name) != ("rescale", "lam"):
            return words
        first_ones = self.__dict__.setdefault("first_ones", {})
        return first_ones.setdefault((self.section, self.rows.first), words)  # type: ignore[no-any-return]

    def dealers(self: Dealing, name: str) -> Words:
        return old(self, name, first(self, name))

    def evaluators(self: Any, name: str, extent: Extent, factor: int = 1, *, bit: bool = False, width: int = 8) -> Words:
        words = share(self, name, extent, factor, bit=bit, width=width)
        return old(self, name, words) if self.role == 1 else words

    patch.setattr(Dealing, "first", dealers)
    patch.setattr(Evaluation, "share", evaluators)


def same_keys_after_restart(patch: Patch) -> None:
    """What a process calls random is the same whenever it starts."""
    patch.setattr(keys, "fresh", lambda count: bytes(range(count)))


def constant_stream(patch: Patch) -> None:
    """A session's counter is never set: every range begins with the same bytes, while the records look right."""
    fill = Stream.fill

    def constant(self: Stream, out: Any, label: Label, row: int, section: int, slot: int, start: int = 0) -> None:
        target = memoryview(out.reshape(-1).view(np.uint8))
        if label not in (Label.FIXED, Label.KEYED) or not target:
            return fill(self, out, label, row, section, slot, start)
        if self._record is not None:
            self._record(int(label), row, section, slot, start, start + len(target))
        with self._lock:
            self._encryptor.reset_nonce(bytes(16))
            target[:] = self._encryptor.update(bytes(start + len(target)))[start:]
        return None

    patch.setattr(Stream, "fill", constant)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    mutant.__name__: mutant
    for mutant in (
        drop_kappa,
        additive_answer,
        reuse_after_rewind,
        truncation_under_the_old_share,
        mask_shorter_than_what_is_sent,
        mask_of_32_bits,
        clear_low_bit,
        roots_that_everybody_knows,
        one_element_in_1000,
        same_keys_after_restart,
        constant_stream,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The leak of that name, for as long as the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        yield
