"""One gate alone, at all three parties: a program of one section is planned, dealt, prepared and evaluated for real.

A test's program takes the reader and its inputs, and returns wires or openings. Inputs are openings of given ring
elements; ``wire`` makes a full wire of one (a truncation by no bits). ``play`` checks what holds for every gate: the
evaluators hold the same m and c, their shares add up to λ, the material has its planned length, and each round's two
messages are equally long.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.gates.truncation import truncate
from engine.prf import Stream
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation, Exchange
from engine.program.material import prepare
from engine.program.plan import Plan
from engine.program.weights import Cache
from engine.rows.run import Extent, Rows
from engine.wire import Mask, Opening, Rho, Wire

Ring = NDArray[np.int64]
Real = NDArray[np.float64]
Program = Callable[..., Any]
KEYS = (bytes(range(32)), bytes(range(32, 64)))
PATIENCE = 60.0


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
class Opened:
    """An input: an opening of z, [rows, n] or flat by `extent`; the mask is random unless `rho` gives it."""

    z: Ring
    extent: Extent | None = None
    bits: int = 64
    rho: Ring | None = None

    def dealt(self, rng: np.random.Generator) -> Rho:
        """The dealer's part."""
        if self.rho is None:
            self.rho = words(rng, *self.z.shape)
        return Rho(self.rho, self._extent(), self.bits)

    def evaluated(self, e: Evaluation) -> Opening:
        """An evaluator's part."""
        if self.rho is None:
            raise RuntimeError("the dealer comes first")
        return e.ready(self.z + self.rho, self._extent(), self.bits)

    def planned(self, e: Evaluation) -> Opening:
        """An evaluator's part of no rows."""
        return e.ready(self.z[:0], self._extent(), self.bits)

    def _extent(self) -> Extent:
        return self.extent or Extent(self.z.shape[1])


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


def wire(p: Any, z: Any) -> Any:
    """A wire of an opening, by a truncation of no bits."""
    return truncate(p, z, 0, 0, "wire")


def record(program: Program, inputs: Sequence[Any], context: Context, section: int) -> Plan:
    """The program's plan, by zero rows."""
    plan = Plan()

    def no_exchange(message: bytes) -> bytes:
        raise RuntimeError("a plan exchanges nothing")

    e = Evaluation(1, context.weights(1), Rows(0, 0, 0), no_exchange, plan)
    e.enter(section, None)
    program(e, *(i.planned(e) if isinstance(i, Opened) else i(None, e) for i in inputs))
    return plan


def play(
    program: Program,
    *inputs: Any,
    rows: Rows | None = None,
    context: Context | None = None,
    section: int = 1,
    seed: int = 0,
) -> Played:
    """Run ``program(reader, *inputs)`` at the dealer and at both evaluators.

    An input is `Opened`, or a function of (what the dealer's side returned or None, the reader) for what is sent online.
    """
    context = context or Context()
    rows = rows or Rows(7, 0, inputs[0].z.shape[0])
    plan = record(program, inputs, context, section)
    streams = (Stream(KEYS[0]), Stream(KEYS[1]))
    rng = np.random.default_rng([seed, 5])
    d = Dealing(plan, section, rows, streams, context.masks())
    dealt = program(d, *(i.dealt(rng) if isinstance(i, Opened) else i(None, d) for i in inputs))
    material = d.material()
    assert [len(part) for part in material] == [plan.dealt_bytes(rows, role) for role in (1, 2)]

    mail: tuple[queue.Queue[bytes], queue.Queue[bytes]] = (queue.Queue(), queue.Queue())
    sent: tuple[list[int], list[int]] = ([], [])

    def exchange(index: int) -> Exchange:
        def run(message: bytes) -> bytes:
            sent[index].append(len(message))
            mail[index].put(bytes(message))
            return mail[1 - index].get(timeout=PATIENCE)

        return run

    def side(role: int) -> tuple[Evaluation, Any]:
        weights = context.weights(role)
        prepared = prepare(role, plan, section, rows, streams[role - 1], material[role - 1], weights)
        e = Evaluation(role, weights, rows, exchange(role - 1))
        e.enter(section, prepared, 0, rows.count)
        got = program(e, *(i.evaluated(e) if isinstance(i, Opened) else i(dealt, e) for i in inputs))
        for x in _several(got):
            if isinstance(x, Opening):
                _ = x.c  # runs the round that it waits for
        return e, got

    with ThreadPoolExecutor(2) as pool:
        (e1, one), (e2, two) = pool.map(side, (1, 2))
    assert e1.rounds == e2.rounds
    assert sent[0] == sent[1]
    outputs = [reconstruct(*three) for three in zip(_several(dealt), _several(one), _several(two), strict=True)]
    return Played(
        outputs, dealt, (one, two), plan, bytes(material[0]), bytes(material[1]), e1.rounds, sent, e1.alarm ^ e2.alarm
    )


def _several(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]


def signed(x: Ring, bits: int) -> Ring:
    """The lowest bits as two's complement."""
    up = np.int64(64 - bits)
    return (x << up) >> up


def reconstruct(dealt: Any, one: Any, two: Any) -> Any:
    """The value of a wire or an opening (two's complement in its modulus); other outputs as the three of them."""
    if isinstance(one, Wire):
        assert isinstance(dealt, Mask)
        assert isinstance(two, Wire)
        np.testing.assert_array_equal(one.m, two.m)
        assert one.extent == two.extent == dealt.extent
        assert one.bits == two.bits == dealt.bits
        if one.lam is not None:
            np.testing.assert_array_equal(signed(one.share() + two.share() - dealt.lam.reshape(one.m.shape), dealt.bits), 0)
        return signed(one.m - dealt.lam.reshape(one.m.shape), dealt.bits)
    if isinstance(one, Opening):
        assert isinstance(dealt, Rho)
        np.testing.assert_array_equal(one.c, two.c)
        assert one.extent == two.extent == dealt.extent
        return signed(one.c - dealt.rho.reshape(one.c.shape), min(dealt.bits, one.bits))
    return dealt, one, two


def big(x: Ring) -> NDArray[Any]:
    """Python's integers."""
    return x.astype(object)


def wrapped(x: NDArray[Any], bits: int = 64) -> Ring:
    """Python's integers reduced to two's complement of `bits` bits."""
    half = 1 << (bits - 1)
    out = np.array([(int(v) + half) % (1 << bits) - half for v in x.reshape(-1)], np.int64)
    return out.reshape(x.shape)
