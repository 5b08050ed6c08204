"""A program of a few gates at the dealer and both evaluators, in one process and without a network: for examples and tests.

The program is planned, dealt, prepared and evaluated for real; only nobody is kept apart, so there is no privacy in it. A whole
model runs in `engine.parties.trio`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.parties.trio import exchanges
from engine.prf import Stream
from engine.program.dealing import Dealing, Masks
from engine.program.evaluation import Evaluation, Exchange
from engine.program.material import prepare
from engine.program.plan import Plan
from engine.program.recording import Shapes, record
from engine.program.weights import Weights
from engine.ring.fixed import Ring, signed
from engine.rows.run import Extent, Rows
from engine.wire import Mask, Opening, Rho, Secret, Wire

GateProgram = Callable[..., Any]  #: (reader, *inputs) -> a wire, an opening, something of the gate's own, or a tuple of these


@dataclass(slots=True, repr=False, eq=False)
class Input(Secret):
    """A program's input: an opening of the ring elements `z`, [rows, n], or flat by `extent`. Its mask is random by default."""

    z: Ring
    extent: Extent | None = None
    bits: int = 64
    rho: Ring | None = None

    def held(self, p: Dealing | Evaluation) -> Rho | Opening:
        """What the reader holds of it: the dealer ρ, an evaluator z + ρ (nothing, while it plans)."""
        extent = self.extent or Extent(self.z.shape[1])
        if self.rho is None:
            self.rho = np.frombuffer(os.urandom(self.z.nbytes), np.int64).reshape(self.z.shape)
        if isinstance(p, Dealing):
            return Rho(self.rho, extent, self.bits)
        return p.ready((self.z + self.rho)[: None if p.rows.count else 0], extent, self.bits)


Given = Input | Callable[[Any, Any], Any]  #: or a function of (what the dealer's side returned, or None; the reader)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class GateRun(Secret):
    """What a program gave at each party, and what can be counted."""

    plan: Plan
    dealt: Any  #: at the dealer
    evaluated: tuple[Any, Any]  #: at the evaluators
    material: tuple[memoryview, memoryview]  #: dealt to each evaluator
    sent: tuple[list[int], list[int]]  #: bytes of each message between the evaluators, one a round
    alarm: int  #: the XOR of both evaluators' alarm words: 0, unless a truncation wrapped

    @property
    def rounds(self) -> int:
        """How many messages each evaluator sent to the other one."""
        return len(self.sent[0])

    @property
    def outputs(self) -> list[Any]:
        """Each output's value (`value`)."""
        parts = (_several(self.dealt), _several(self.evaluated[0]), _several(self.evaluated[1]))
        return [value(*three) for three in zip(*parts, strict=True)]


def run_gates(
    program: GateProgram,
    *inputs: Given,
    rows: Rows | None = None,
    masks: Masks | None = None,
    weights: tuple[Weights, Weights] | None = None,
    keys: tuple[bytes, bytes] | None = None,
    section: int = 1,
) -> GateRun:
    """Run ``program(reader, *inputs)`` at all three parties.

    `rows` are the first input's by default; `masks` and `weights` are the dealer's and the evaluators' views of a model, if the
    program needs one; `keys` are the evaluators', 32 bytes each, fresh by default.
    """
    if rows is None:
        first = inputs[0]
        if not isinstance(first, Input):
            raise TypeError("the rows must be given: the first input does not tell them")
        rows = Rows(1, 0, first.z.shape[0])
    weights = weights or (Shapes(), Shapes())
    streams = [Stream(key) for key in keys or (os.urandom(32), os.urandom(32))]
    plan = record(lambda e: program(e, *(_held(given, None, e) for given in inputs)), weights[0], section)
    d = Dealing(plan, section, rows, (streams[0], streams[1]), masks or _NoMasks())
    dealt = program(d, *(_held(given, None, d) for given in inputs))
    material = d.material()

    def side(role: int, exchange: Exchange) -> tuple[Evaluation, Any]:
        own = weights[role - 1]
        prepared = prepare(role, plan, section, rows, streams[role - 1], material[role - 1], own)
        e = Evaluation(role, own, rows, exchange)
        e.enter(section, prepared, 0, rows.count)
        output = program(e, *(_held(given, dealt, e) for given in inputs))
        for part in _several(output):
            if isinstance(part, Opening):
                _ = part.c  # runs the round that it waits for
        return e, output

    sent: tuple[list[int], list[int]] = ([], [])
    with ThreadPoolExecutor(2) as pool:
        counted = (_counted(exchange, sizes) for exchange, sizes in zip(exchanges(), sent, strict=True))
        (one, first_output), (two, second_output) = pool.map(side, (1, 2), counted)
    return GateRun(plan, dealt, (first_output, second_output), material, sent, one.alarm ^ two.alarm)


def value(dealt: Any, one: Any, two: Any) -> Any:
    """The value of a wire or an opening, from the three parties' parts, in two's complement of its modulus.

    Whatever else a program returns comes back as the three parts.

    Raises:
        RuntimeError: the parts do not belong to one wire or opening.
    """
    if isinstance(one, Wire) and isinstance(two, Wire) and isinstance(dealt, Mask):
        masked, mask, bits = (one.m, two.m), dealt.lam, dealt.bits
        if not one.bits == two.bits == bits:
            raise RuntimeError("the three parts are of different sizes")
        if one.lam is not None and signed(one.share() + two.share() - mask.reshape(one.m.shape), bits).any():
            raise RuntimeError("the evaluators' shares do not add up to the mask")
    elif isinstance(one, Opening) and isinstance(two, Opening) and isinstance(dealt, Rho):
        masked, mask, bits = (one.c, two.c), dealt.rho, min(dealt.bits, one.bits)
    else:
        return dealt, one, two
    if not one.extent == two.extent == dealt.extent:
        raise RuntimeError("the three parts are of different sizes")
    if not np.array_equal(*masked):
        raise RuntimeError("the evaluators hold different words")
    return signed(masked[0] - mask.reshape(masked[0].shape), bits)


class _NoMasks:
    """The dealer's view of no model."""

    keys: list[Ring] = []
    values: list[Ring] = []

    def matmul(self, x: Ring, weight: str) -> Ring:
        del x
        raise RuntimeError(f"there is no matrix {weight}: the program runs without a model")


def _held(given: Given, dealt: Any, p: Dealing | Evaluation) -> Any:
    return given.held(p) if isinstance(given, Input) else given(dealt, p)


def _several(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


def _counted(exchange: Exchange, sizes: list[int]) -> Exchange:
    """The same exchange, which notes each message's bytes."""

    def run(message: bytes) -> bytes | bytearray | memoryview:
        sizes.append(len(message))
        return exchange(message)

    return run
