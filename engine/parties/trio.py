"""All three parties in one process, over queues: for checking a shared model, for benchmarks of the engine alone, for tests.

There is no privacy in it, of course: it is the real program and the real masks with nobody kept apart.
"""

import os
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.parties.dealer import Dealer
from engine.parties.evaluator import Evaluator
from engine.parties.pack import NodePack
from engine.parties.retry import MOST_REDONE, given_up
from engine.program.evaluation import Exchange
from engine.ring.fixed import Real
from engine.step import Answer

BLOCK_ROWS = 32
_PATIENCE = 120.0


class Trio:
    """A dealer and two evaluators; rows are dealt when a step needs them."""

    def __init__(
        self, spec: ModelSpec, seeds: tuple[bytes, bytes], packs: Sequence[NodePack], *, prefix: int, context: int
    ) -> None:
        keys = [os.urandom(32) for _ in range(3)]
        self.spec = spec
        self.dealer = Dealer(spec, seeds, (keys[0], keys[1]), keys[2], prefix=prefix, context=context)
        self.evaluators = [
            Evaluator(pack, key, prefix=prefix, context=context) for pack, key in zip(packs, keys[:2], strict=True)
        ]
        self.redone = 0
        self._exchanges = exchanges()

    def deal(self, count: int) -> None:
        """Deal a block of rows and prepare it at both evaluators."""
        first, position = self.dealer.next_row, self.dealer.dealt_position
        for e in self.evaluators:
            e.announce(first, count, position)
        for section, material in self.dealer.deal(count):
            for e, part in zip(self.evaluators, material, strict=True):
                e.prepare(first, section, part)

    def step(self, tokens: Sequence[int], answers: int = 1) -> Real:
        """Logits of the last `answers` tokens, [answers, vocab]; a step in which a word wrapped is redone.

        Raises:
            ModelError: it wrapped every time.
        """
        start = self.dealer.position
        for _ in range(MOST_REDONE):
            while (missing := len(tokens) - self.dealer.queued_rows) > 0:
                self.deal(min(missing, BLOCK_ROWS))
            request = self.dealer.request(tokens, answers)
            with ThreadPoolExecutor(2) as pool:
                sides = zip(self.evaluators, self._exchanges, strict=True)
                steps = [pool.submit(e.step, request, exchange, _ignore) for e, exchange in sides]
                one, two = (step.result() for step in steps)
            if one != two:
                raise RuntimeError("the evaluators' answers differ")
            last = request.first_row + len(tokens) - 1
            if not self.dealer.wrapped(last, one.alarm):
                return self._logits(one, last, answers)
            self.redone += 1
            self.rewind(start)
        raise ModelError(given_up(self.spec))

    def _logits(self, answer: Answer, last: int, answers: int) -> Real:
        size = len(answer.data) // answers
        rows = [answer.data[i * size : (i + 1) * size] for i in range(answers)]
        return np.stack([self.dealer.logits(last - answers + 1 + i, row) for i, row in enumerate(rows)])

    def rewind(self, position: int) -> None:
        """Cut the context at all three."""
        self.dealer.rewind(position)
        for e in self.evaluators:
            e.rewind(position)


def exchanges() -> tuple[Exchange, Exchange]:
    """A link between two evaluators in one process: what each of them calls for a round."""
    mail: tuple[queue.Queue[bytes], queue.Queue[bytes]] = (queue.Queue(), queue.Queue())

    def exchange(index: int) -> Exchange:
        def run(message: bytes) -> bytes:
            mail[index].put(bytes(message))
            return mail[1 - index].get(timeout=_PATIENCE)

        return run

    return exchange(0), exchange(1)


def _ignore(rows: int, section: int) -> None:
    """No progress is shown."""
