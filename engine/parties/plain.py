"""The program in the clear: calibration, accuracy baseline, test oracle."""

from collections.abc import Callable, Sequence

import numpy as np

from engine.gates.rotary import Rotary
from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.functions import functions
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
    ) -> None:
        """`weights(name)` gives a program tensor, [out, in] (engine.provision.fold)."""
        self.spec = spec
        self.context = context or spec.context
        self._weights = weights
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
        spec = self.spec
        p = Clear(self._weights, rows, self.keys, self.values, self._functions, self.observer)
        angle = Rotary(rows.position, rows.count, spec.head_dim, spec.rope_theta, spec.scales.rotary)
        p.enter(0, rows)
        x = llama.embed(p, spec, ids)
        for layer in range(spec.layers):
            p.enter(layer + 1, rows)
            x = llama.decoder_layer(p, spec, layer, x, angle)
        wanted = ids.size if answers is None else answers
        p.enter(spec.layers + 1, rows.part(ids.size - wanted, ids.size))
        self.position += ids.size
        result: Real = llama.logits(p, spec, x[ids.size - wanted :])
        return result
