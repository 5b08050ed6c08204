"""A coarse row maximum in three rounds, whatever the context (protocol, section 5).

Scores lie in 2^n bins of 4 (log2 units), 64 as a rule. From the dealt one-hot bits of each score's bin the evaluators hold
XOR shares of "score j lies at or above level b", and of the XOR of a public random 10-bit word of each such key: 0 if none.
    round 1: open the hash, XOR-masked with 10 bits
    round 2: read the one-hot of that mask at the opened hash: v_b, with v1 + v2 = σ_b·[level b is empty]; open it
    round 3: open M = top - 4·Σ_b σ_b·v_b (known-to-D × masked), in 5 bytes: max < M <= max + 8
A level with keys is taken for empty with probability 2^-10, independently for each row and level: M is then 4 lower.

Dealt a (row, head): 2^n / 8 bytes a score, 128 + 8 a level. Online: 20 + 128 + 5 bytes each way at 16 levels.
"""

import numpy as np

from engine.functions.tables import Window
from engine.gates.lookup import deal_bits
from engine.gates.truncation import alarm_seed
from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring, low
from engine.ring.kernels.attention import add_bits, level_hashes, minus_row
from engine.ring.kernels.lookups import deal_onehot, weighted_sum
from engine.rows.run import Extent
from engine.wire import Opening, Rho

HASH_BITS = 10
BIN = 4  #: log2 units a bin
MORE = 1.25  #: how much more is counted towards the wrap budget: rows differ by factors of 16, and a text has few of them


def deal(d: Dealing, s: Rho, heads: int, window: Window, level: int, levels: int) -> Rho:
    """ρ of M, [rows, heads]."""
    del level
    deal_bits(d, "bins", s, window)
    tested = Extent(heads * levels)
    h1, h2 = d.kappa("hash", tested)
    v1, v2 = d.kappa("empty", tested)
    m1, m2 = d.kappa("m", Extent(heads))
    first = d.first("zero").reshape(-1)
    second, sigma = np.empty_like(first), np.empty(h1.size, np.int64)
    deal_onehot(low(h1 ^ h2, HASH_BITS).reshape(-1), first, 0, 1 << (HASH_BITS - 6), second, sigma)
    d.deal("zero", second)
    weights = sigma.reshape(h1.shape) << window.lo  # 4·σ at the scores' scale: a bin is 2^lo raw units
    d.share("d", weights)
    t = (weights * (v1 + v2)).reshape(d.rows.count, heads, levels).sum(axis=2)
    return Rho(m1 + m2 - t, Extent(heads), s.bits)


def evaluate(e: Evaluation, s: Opening, heads: int, window: Window, level: int, levels: int) -> Opening:
    """Opens M at the scores' scale, [rows, heads]."""
    tested = Extent(heads * levels)
    bins = e.share("bins", s.extent, window.words)
    h, v, m = e.kappa("hash", tested), e.kappa("empty", tested), e.kappa("m", Extent(heads))
    zero, weights = e.share("zero", tested, 1 << (HASH_BITS - 6)), e.share("d", tested)
    hashes = np.empty((e.rows.count, heads, levels), np.int64)
    level_hashes(
        s.c, bins, window.lo, window.lowest, level, e.rows.serials, e.rows.keys, e.rows.starts,
        alarm_seed(e.section, e.gate), hashes,
    )  # fmt: skip
    masked = hashes.reshape(h.shape) ^ low(h, HASH_BITS)
    at = e.open(masked, tested, Codec.XOR10).c
    bits = np.array(v)
    add_bits(zero, at, e.sign, bits)
    empty = e.open(bits, tested).c
    z = np.empty(m.shape, np.int64)
    weighted_sum(weights.reshape(-1, levels), -empty.reshape(-1, levels), m.reshape(-1), z.reshape(-1))
    if e.role == 1:
        z += np.int64(level + levels) << np.int64(window.lo)
    return e.open(z, Extent(heads), Codec.LOW40)


def clear(p: Clear, s: Real, heads: int, window: Window, level: int, levels: int) -> Real:
    """The top of the bin of the row's maximum."""
    del window, level
    bounds = p.rows.offsets(Extent(key=heads))
    rows = [s[bounds[r] : bounds[r + 1]].reshape(heads, -1) / BIN for r in range(p.rows.count)]
    top = np.array([row.max(axis=1) for row in rows]).reshape(p.rows.count, heads)
    p.observer.looked_up(p.section, "max", BIN * top)
    _grow(p, rows, np.floor(top), levels)
    above: Real = BIN * (np.floor(top) + 1.0)
    return above


def _grow(p: Clear, rows: list[Real], top: Real, levels: int) -> None:
    """How much larger than here the parties' numbers are on average that are scaled by M: [rows, heads], or flat.

    A score's bin is one higher where its low part carries, as often as the score lies high in its bin, each key by itself:
    if one of the highest bin does, M is a bin higher than here, p 16 times smaller and 1/Σ as much larger. Each level that
    is taken for empty makes p 16 times larger; no more than all of them can be.
    """
    none = [np.prod(1 - np.clip(row - floor[:, None], 0, 1), axis=1) for row, floor in zip(rows, top, strict=True)]
    carried = 1 - np.array(none).reshape(top.shape)
    bin_ = 2.0**BIN
    missed = (1 + (bin_ - 1) * 2.0**-HASH_BITS) ** levels
    smaller = MORE * (1 - carried + carried / bin_) * missed
    each = [np.repeat(factors, row.shape[1]) for factors, row in zip(smaller, rows, strict=True)]
    p.growth["p"] = p.growth["exp"] = np.concatenate([np.empty(0), *each])
    p.growth["mixture"], p.growth["reciprocal"] = smaller, MORE * (1 + (bin_ - 1) * carried)


maximum = Gate("maximum", deal, evaluate, clear, ErrorBound(absolute=2 * BIN, besides=f"a level missed, once in 2^{HASH_BITS}"))


def deal_below(d: Dealing, s: Rho, m: Rho, heads: int) -> Rho:
    """ρ_s - ρ_M."""
    return Rho(_minus(s.rho, m.rho, d, heads), s.extent, s.bits)


def evaluate_below(e: Evaluation, s: Opening, m: Opening, heads: int) -> Opening:
    """s_j - M: the difference of two openings is one, local; flat [row][head][key]."""
    return e.ready(_minus(s.c, m.c, e, heads), s.extent, s.bits)


def _minus(x: Ring, m: Ring, side: Dealing | Evaluation, heads: int) -> Ring:
    out = np.empty_like(x)
    minus_row(
        x,
        np.ascontiguousarray(m.reshape(side.rows.count, heads)),
        side.rows.keys,
        side.rows.starts,
        out,
    )
    return out


def clear_below(p: Clear, s: Real, m: Real, heads: int) -> Real:
    """s - M."""
    repeated = [np.repeat(m[r], n) for r, n in enumerate(p.rows.keys)]
    del heads
    difference: Real = s - np.concatenate(repeated)
    return difference


below = Gate("below", deal_below, evaluate_below, clear_below)
