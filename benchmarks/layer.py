"""One decoder layer by itself: a model of three sections, entered at the residual and left at the residual.

The wire that enters: each evaluator draws λ_i, and m is given to both by the benchmark. No embedding, no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.planning import plans
from engine.models.walk import Section, walk
from engine.parties.masks import ModelMasks
from engine.prf import Stream
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring, decode, encode
from engine.rows.run import Extent, Rows
from engine.wire import Mask, Wire

ENTRY, LAYER = 0, 1  #: sections; the layer is the program's first one and keeps its number


def layer_alone(spec: ModelSpec, rows: Rows) -> tuple[Section, ...]:
    """Entry, the decoder's first layer, exit. A step's `kappa2` holds the entering m at both evaluators."""
    return partial(entry, d_model=spec.d_model), llama.sections(spec, rows)[LAYER], leave


def entry(p: Dealing | Evaluation, tokens: tuple[Ring, Ring] | None, d_model: int) -> Mask | Wire:
    """The residual that enters, [rows, d_model]."""
    wire: Mask | Wire = enter(p, tokens, d_model)
    return wire


def _deal_entry(d: Dealing, tokens: None, d_model: int) -> Mask:
    del tokens
    one, two = d.kappa("residual", Extent(d_model))
    return Mask(one + two, Extent(d_model))


def _enter(e: Evaluation, tokens: tuple[Ring, Ring], d_model: int) -> Wire:
    lam, m = e.kappa("residual", Extent(d_model)), tokens[1]
    if m.shape != lam.shape:
        raise ValueError("each row of a layer's step brings its residual")
    return Wire(m, lam, Extent(d_model))


def _deal_exit(d: Dealing, x: Mask) -> Mask:
    del d
    return x


def _leave(e: Evaluation, x: Wire) -> tuple[bytes, int]:
    return np.ascontiguousarray(x.m).tobytes(), e.alarm


def _clear(p: object, *x: object) -> None:
    raise TypeError("in the clear, the layer's section is run by itself")


enter = Gate("enter", _deal_entry, _enter, _clear)
leave = Gate("leave", _deal_exit, _leave, _clear)


class LayerDealer:
    """Deals one layer; keeps the masks of what leaves."""

    def __init__(self, spec: ModelSpec, seeds: tuple[bytes, bytes], keys: tuple[bytes, bytes], prefix: int) -> None:
        self.spec = spec
        self.masks = ModelMasks(spec, seeds, prefix, spec.context)
        self.plans = plans(spec, layer_alone)
        self._streams = (Stream(keys[0]), Stream(keys[1]))
        self.next_row = 1
        self.dealt_position = self.position = prefix
        self.leaving: dict[int, Ring] = {}

    def deal(self, count: int) -> Iterator[tuple[int, tuple[memoryview, memoryview]]]:
        """Yields the sections of the next `count` rows."""
        rows = Rows(self.next_row, self.dealt_position, count)
        self.next_row += count
        self.dealt_position += count
        for number, d, x in walk(layer_alone(self.spec, rows), None, partial(self._dealing, rows)):
            if number == LAYER:
                self.leaving = {rows.first + r: x.lam[r] for r in range(count)}
            yield number, d.material()

    def _dealing(self, rows: Rows, section: int) -> Dealing:
        return Dealing(self.plans[section], section, rows, self._streams, self.masks)

    def entering(self, rows: Rows) -> Ring:
        """λ of the entering residual, whether its rows are dealt yet or not."""
        lam: Ring = layer_alone(self.spec, rows)[ENTRY](self._dealing(rows, ENTRY), None).lam
        return lam

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
