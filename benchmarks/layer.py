"""One decoder layer by itself: the engine's own dealer and evaluator, entered at the residual and left at the residual.

The wire that enters: λ_i drawn from each evaluator's key, m given to both by the benchmark. No embedding, no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from engine.gates.rotary import Rotary
from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.planning import plans
from engine.parties.evaluator import Evaluator, _Block
from engine.parties.masks import ModelMasks
from engine.prf import Label, Stream
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.ring.fixed import Real, Ring, decode, encode
from engine.rows.run import Rows
from engine.wire import Mask, Wire

SECTION = 1  #: of the program: its first layer


def residual_masks(stream: Stream, rows: Rows, d_model: int) -> Ring:
    """An evaluator's share of the entering residual's mask, [rows, d_model]; no gate uses this label."""
    return np.stack([stream.words(d_model, Label.CLIENT, rows.first + r, SECTION, 0) for r in range(rows.count)])


class LayerDealer:
    """Deals one layer; keeps the masks of what enters and leaves."""

    def __init__(self, spec: ModelSpec, seeds: tuple[bytes, bytes], keys: tuple[bytes, bytes], prefix: int) -> None:
        self.spec = spec
        self.sections = (SECTION,)
        self.masks = ModelMasks(spec, seeds, prefix, spec.context)
        self.plan = plans(spec)[SECTION]
        self._streams = (Stream(keys[0]), Stream(keys[1]))
        self.next_row = 1
        self.dealt_position = self.position = prefix
        self.leaving: dict[int, Ring] = {}

    def deal(self, count: int) -> Iterator[tuple[int, tuple[memoryview, memoryview]]]:
        """Yields the layer's one section of the next `count` rows."""
        spec, rows = self.spec, Rows(self.next_row, self.dealt_position, count)
        self.next_row += count
        self.dealt_position += count
        angle = Rotary(rows.position, rows.count, spec.head_dim, spec.rope_theta, spec.scales.rotary)
        d = Dealing(self.plan, SECTION, rows, self._streams, self.masks)
        out = llama.decoder_layer(d, spec, 0, Mask(self.entering(rows), llama.residual_extent(spec)), angle)
        self.leaving = {rows.first + r: out.lam[r] for r in range(count)}
        yield SECTION, d.material()

    def entering(self, rows: Rows) -> Ring:
        """λ of the entering residual."""
        one, two = (residual_masks(stream, rows, self.spec.d_model) for stream in self._streams)
        return one + two

    def enter(self, rows: Rows, x: Real) -> Ring:
        """m of the residual `x`, [rows, d_model]."""
        return encode(x, self.spec.scales.residual) + self.entering(rows)

    def leave(self, rows: Rows, m: Ring) -> Real:
        """The residual that leaves, of rows of the block that was dealt last."""
        lam = np.stack([self.leaving[rows.first + r] for r in range(rows.count)])
        return decode(m - lam, self.spec.scales.residual)

    def rewind(self, position: int) -> None:
        """Start again behind `position` tokens."""
        self.dealt_position = self.position = position


class LayerEvaluator(Evaluator):
    """An evaluator whose pass is one layer; a step's `kappa2` holds the entering m at both, its answer the leaving m.

    It overrides the engine's pass, and nothing else: rows, material and rounds are the engine's own.
    """

    def _pass(
        self,
        e: Evaluation,
        block: _Block,
        bounds: tuple[int, int],
        tokens: tuple[Ring, Ring],
        answered: int,
        progress: Callable[[int], None],
    ) -> tuple[bytes, int] | None:
        spec = self.spec
        rows = block.rows.part(*bounds)
        m = tokens[1]
        if m.shape[0] != rows.count:
            raise ValueError("a step of a layer lies within one block")
        angle = Rotary(rows.position, rows.count, spec.head_dim, spec.rope_theta, spec.scales.rotary)
        e.enter(SECTION, self._material(block, SECTION), *bounds)
        x = Wire(m, residual_masks(self._stream, rows, spec.d_model), llama.residual_extent(spec))
        out: Wire = llama.decoder_layer(e, spec, 0, x, angle)
        return np.ascontiguousarray(out.m).tobytes(), e.alarm
