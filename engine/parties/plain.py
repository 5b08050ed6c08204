"""The program in the clear: calibration, accuracy baseline, test oracle."""

from collections.abc import Callable, Sequence

import numpy as np

from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.functions import functions
from engine.models.walk import Program, run
from engine.program.clear import Clear, Observer
from engine.ring.fixed import Real
from engine.rows.run import Rows


class Plain:
    """A model in float64, by the very program that the parties run, with its cache of keys and values."""

    def __init__(
        self,
        spec: ModelSpec,
        weights: Callable[[str], Real],
        *,
        context: int | None = None,
        observer: Observer | None = None,
        program: Program = llama.sections,
    ) -> None:
        """`weights(name)` gives a program tensor, [out, in] (engine.provision.fold)."""
        self.spec = spec
        self.context = context or spec.context
        self._weights, self._program = weights, program
        shape = (spec.kv_heads, self.context, spec.head_dim)
        self.keys = [np.zeros(shape) for _ in range(spec.layers)]
        self.values = [np.zeros(shape) for _ in range(spec.layers)]
        self.position = 0
        self.observer = observer
        self._functions = functions(spec)

    def run(self, tokens: Sequence[int], *, position: int | None = None, answers: int | None = None) -> Real:
        """Logits of the last `answers` rows (default: all), [answers, vocab]; the context grows by the tokens.

        `position` rewinds first.
        """
        if position is not None:
            self.position = position
        ids = np.asarray(list(tokens), np.int64)
        rows = Rows(0, self.position, ids.size)
        wanted = ids.size if answers is None else answers
        answered = rows.part(ids.size - wanted, ids.size)
        p = Clear(self._weights, rows, self.keys, self.values, self._functions, self.observer)
        sections = self._program(self.spec, rows)

        def enter(number: int) -> Clear:
            p.enter(number, answered if number == len(sections) - 1 else rows)
            return p

        result: Real = run(sections, ids, enter)
        self.position += ids.size
        return result
