"""From an opening to a wire, with truncation for free (protocol, section 2).

    m = c >> s,  λ = ρ >> s      (arithmetic shifts: stochastic rounding, within one unit in the last place)

No round. Dealt: λ2 (8 bytes a word) where somebody needs the share, and two XOR-shared indicator bits a word, from
which the evaluators compute their shares of the wrap alarm. The shift is wrong by 2^(64 - s) with probability
|z| / 2^64: the model's wrap budget.
"""

from functools import cache

import numpy as np

from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate, Opened, Reader, Wired
from engine.ring.fixed import Real, Ring
from engine.ring.kernels.words import mix, truncate_mask, truncate_opened
from engine.wire import Mask, Opening, Rho, Wire

_ERROR = ErrorBound(units=1, besides="a wrap, with probability |z| / 2^64")


@cache
def alarm_seed(section: int, gate: int) -> int:
    """Seed of the public 16-bit masks of one array's wrap hits; each (row, element) has its own."""
    return int(mix(np.int64(section << 20 | gate)))


def deal(d: Dealing, z: Rho, bits: int, to: int, name: str, *, share: bool = True) -> Mask:
    """λ = ρ >> (bits - to)."""
    del name
    if z.bits != 64:
        raise ValueError("only a full opening can be truncated")
    first = d.first("lam") if share else np.empty(0, np.int64)
    edge1 = d.first("edge")
    rho = np.ascontiguousarray(z.rho)
    lam, second, edge2 = np.empty_like(rho), np.empty_like(first), np.empty_like(edge1)
    truncate_mask(
        rho.reshape(-1), d.rows.offsets(z.extent), bits - to, first.reshape(-1), edge1.reshape(-1),
        lam.reshape(-1), second.reshape(-1), edge2.reshape(-1),
    )  # fmt: skip
    if share:
        d.deal("lam", second)
    d.deal("edge", edge2)
    return Mask(lam, z.extent)


def evaluate(e: Evaluation, z: Opening, bits: int, to: int, name: str, *, share: bool = True) -> Wire:
    """m = c >> (bits - to); adds this array's hits to the alarm."""
    del name
    if z.bits != 64:
        raise ValueError("only a full opening can be truncated")
    lam = e.share("lam", z.extent) if share else None
    edge = e.share("edge", z.extent, 2, bit=True)
    c = z.c
    if lam is not None and lam.shape != c.shape:
        raise ValueError("a share of a mask has not its opening's shape")
    m: Ring = np.empty(c.shape, np.int64)
    seed = alarm_seed(e.section, e.gate)
    e.alarm ^= truncate_opened(c, e.rows.offsets(z.extent), bits - to, edge, e.rows.serials, seed, m)
    return Wire(m, lam, z.extent, source=None if lam is None else e.key("lam"))


def clear(p: Clear, z: Real, bits: int, to: int, name: str, *, share: bool = True) -> Real:
    """Z itself; its size counts towards the wrap budget."""
    del to, share
    p.truncated(name, z, bits)
    return z


truncate = Gate("truncate", deal, evaluate, clear, _ERROR)


def as_wire(p: Reader, z: Opened) -> Wired:
    """A wire of the opening z, of the same value and scale: a truncation by no bits. No round, exact."""
    return truncate(p, z, 0, 0, "wire")


def deal_local(d: Dealing, x: Mask, bits: int, to: int, name: str) -> Mask:
    """A wire's own mask is an offset like any other; λ1 is fresh (with the old one, λ2' - λ2 would give away x)."""
    if to < bits:
        return deal(d, Rho(x.full().lam, x.extent), bits, to, name)
    lam = x.full().lam << np.int64(to - bits)
    d.share("lam", lam)
    return Mask(lam, x.extent)


def evaluate_local(e: Evaluation, x: Wire, bits: int, to: int, name: str) -> Wire:
    """A wire is an opening of itself, m = x + λ; towards more bits it is a product with a public integer, and exact."""
    if to < bits:
        return evaluate(e, e.ready(x.full().m, x.extent), bits, to, name)
    m = x.full().m << np.int64(to - bits)
    return Wire(m, e.share("lam", x.extent).reshape(m.shape), x.extent, source=e.key("lam"))


rescale = Gate("rescale", deal_local, evaluate_local, clear, _ERROR)
