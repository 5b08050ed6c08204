"""One gate alone, at all three parties, with a random model behind it and masks that are the same in every run.

A test's program takes the reader and its inputs, and returns wires or openings. Inputs are openings of given ring
elements; ``as_wire`` makes a full wire of one. ``play`` checks what holds for every gate: the evaluators hold the same m and c,
their shares add up to λ, the material has its planned length, and each round's two messages are equally long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.parties.gate_trio import GateProgram, Given, Input, run_gates
from engine.program.plan import Plan
from engine.program.weights import Cache
from engine.rows.run import Rows

Ring = NDArray[np.int64]
Real = NDArray[np.float64]
KEYS = (bytes(range(32)), bytes(range(32, 64)))


def words(rng: np.random.Generator, *shape: int) -> Ring:
    """Uniform ring elements."""
    return rng.integers(-(1 << 63), 1 << 63, shape, dtype=np.int64)


def sizes(rng: np.random.Generator, *shape: int, bits: int = 61) -> Ring:
    """Elements of either sign whose number of bits is uniform below `bits`; ±2^bits, ±1 and 0 are among many."""
    out = words(rng, *shape) >> rng.integers(64 - bits, 64, shape)
    edges = np.array([0, 1, -1, (1 << bits) - 1, -(1 << bits)], np.int64)
    flat = out.reshape(-1)
    flat[: min(flat.size, edges.size)] = edges[: flat.size]
    return out


@dataclass
class Context:
    """A model for one gate: matrices, tables, and caches of keys and values with their masks, all by random shares."""

    matrices: Mapping[str, Ring] = field(default_factory=dict)
    tables: dict[str, Ring] = field(default_factory=dict)
    keys: Sequence[Ring] = ()
    values: Sequence[Ring] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.shares = {name: (words(rng, *w.shape), words(rng, *w.shape)) for name, w in self.matrices.items()}
        self.caches = [[(x, words(rng, *x.shape), words(rng, *x.shape)) for x in caches] for caches in (self.keys, self.values)]

    def masks(self) -> DealerView:
        """The dealer's view."""
        return DealerView(self)

    def weights(self, role: int) -> EvaluatorView:
        """An evaluator's view."""
        return EvaluatorView(self, role)


class DealerView:
    """Λ_W, λ_K and λ_V."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.keys, self.values = ([a + b for _, a, b in caches] for caches in context.caches)

    def matmul(self, x: Ring, weight: str) -> Ring:
        """x @ Λ_W.T"""
        one, two = self.context.shares[weight]
        return x @ (one + two).T


class EvaluatorView:
    """m_W, A_i, tables and the caches' wires."""

    def __init__(self, context: Context, role: int) -> None:
        self.context, self.role, self.tables = context, role, context.tables
        self.keys, self.values = (
            [Cache(*self._halves(x + a + b, (a, b)[role - 1])) for x, a, b in caches] for caches in context.caches
        )

    def _halves(self, masked: Ring, lam: Ring) -> tuple[Ring, Ring]:
        return (masked - lam if self.role == 1 else -lam), masked

    def masked(self, weight: str) -> Ring:
        """m_W."""
        one, two = self.context.shares[weight]
        return self.context.matrices[weight] + one + two

    def subtract(self, weight: str, x: Ring, out: Ring) -> None:
        """out -= x @ m_W.T"""
        out -= x @ self.masked(weight).T

    def multiply(self, weight: str, x: Ring, out: Ring) -> None:
        """out += x @ A_i.T"""
        out += x @ self._halves(self.masked(weight), self.context.shares[weight][self.role - 1])[0].T


@dataclass
class Played:
    """What a program gave: outputs reconstructed, and what can be counted."""

    outputs: list[Any]
    dealt: Any
    evaluated: tuple[Any, Any]
    plan: Plan
    both: bytes  #: material of the first evaluator
    material: bytes  #: of the second
    rounds: int
    sent: tuple[list[int], list[int]]  #: bytes of each message
    alarm: int  #: the unmasked alarm word

    @property
    def out(self) -> Ring:
        """The only output."""
        (only,) = self.outputs
        result: Ring = only
        return result


def play(
    program: GateProgram,
    *inputs: Given,
    rows: Rows | None = None,
    context: Context | None = None,
    section: int = 1,
    seed: int = 0,
) -> Played:
    """Run ``program(reader, *inputs)`` at all three parties (`run_gates`), with the same masks each time."""
    context = context or Context()
    rng = np.random.default_rng([seed, 5])
    for given in inputs:
        if isinstance(given, Input) and given.rho is None:
            given.rho = words(rng, *given.z.shape)
    if rows is None:
        rows = Rows(7, 0, inputs[0].z.shape[0])
    weights = (context.weights(1), context.weights(2))
    ran = run_gates(program, *inputs, rows=rows, masks=context.masks(), weights=weights, keys=KEYS, section=section)
    one, two = ran.material
    assert [len(one), len(two)] == [ran.plan.dealt_bytes(rows, role) for role in (1, 2)]
    assert ran.sent[0] == ran.sent[1]
    return Played(ran.outputs, ran.dealt, ran.evaluated, ran.plan, bytes(one), bytes(two), ran.rounds, ran.sent, ran.alarm)


def big(x: Ring) -> NDArray[Any]:
    """Python's integers."""
    return x.astype(object)


def wrapped(x: NDArray[Any], bits: int = 64) -> Ring:
    """Python's integers reduced to two's complement of `bits` bits."""
    half = 1 << (bits - 1)
    out = np.array([(int(v) + half) % (1 << bits) - half for v in x.reshape(-1)], np.int64)
    return out.reshape(x.shape)
