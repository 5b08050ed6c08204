"""Rotary positions are public and linear, so they turn an *opening*: c and ρ alike (protocol, section 6).

cos and sin have 14 bits; one logical shift by 30 then gives a narrow wire modulo 2^34 at scale 12: no wrap, no round.
Dealt: λ2 in 5 bytes a word. Half-split pairs (i, i + head_dim / 2), as in Hugging Face checkpoints.

The three parties must turn by the *same* integers, whatever their machines' mathematical libraries round to: angles are
made with decimal arithmetic and integers only (``whole_angles``).
"""

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring
from engine.ring.kernels.attention import turned
from engine.rows.run import Extent
from engine.wire import Mask, Opening, Rho, Wire


def angles(position: int, count: int, head_dim: int, theta: float) -> tuple[Real, Real]:
    """(cos, sin) of the positions' angles, [count, head_dim / 2]."""
    frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angle = np.arange(position, position + count)[:, None] * frequency[None, :]
    return np.cos(angle), np.sin(angle)


_UNIT_BITS = 30
_POSITION_BITS = 18  # a context has at most 2^17 positions


@lru_cache(maxsize=8)
def _doublings(head_dim: int, theta: float) -> tuple[Ring, Ring]:
    """(cos, sin) of 2^k times each frequency at 30 bits, [18, head_dim / 2]: correctly rounded, by decimal arithmetic."""
    out = np.empty((2, _POSITION_BITS, head_dim // 2), np.int64)
    with localcontext() as context:
        context.prec = 60
        unit = Decimal(1 << _UNIT_BITS)
        for i in range(head_dim // 2):
            cos, sin = _cos_sin(Decimal(theta) ** (Decimal(-2 * i) / head_dim))
            for k in range(_POSITION_BITS):
                out[0, k, i] = int((unit * cos).to_integral_value())
                out[1, k, i] = int((unit * sin).to_integral_value())
                cos, sin = cos * cos - sin * sin, 2 * sin * cos
    return out[0], out[1]


def _cos_sin(angle: Decimal) -> tuple[Decimal, Decimal]:
    """(cos, sin) of an angle in [0, 1] by their series, to 50 digits."""
    sums, term = [Decimal(0), Decimal(0)], Decimal(1)
    for n in range(1, 48):
        sums[(n - 1) % 2] += term if (n - 1) % 4 < 2 else -term
        term = term * angle / n
    return sums[0], sums[1]


def whole_angles(position: int, count: int, head_dim: int, theta: float, bits: int) -> tuple[Ring, Ring]:
    """(cos, sin) of the positions' angles at `bits` fraction bits, [count, head_dim / 2]: the same integers on any machine.

    A position's angle is the product of those of its binary digits; 30 bits inside, so an error of at most 0.51 units.
    """
    if position + count > 1 << _POSITION_BITS:
        raise ValueError("a position lies beyond the longest context")
    cosines, sines = _doublings(head_dim, theta)
    half = np.int64(1 << (_UNIT_BITS - 1))
    positions = np.arange(position, position + count)
    cos = np.full((count, head_dim // 2), 1 << _UNIT_BITS, np.int64)
    sin = np.zeros_like(cos)
    for k in range(_POSITION_BITS):
        rows = np.flatnonzero(positions >> k & 1)
        if rows.size:
            a, b, c, s = cos[rows], sin[rows], cosines[k], sines[k]
            cos[rows] = (a * c - b * s + half) >> _UNIT_BITS
            sin[rows] = (b * c + a * s + half) >> _UNIT_BITS
    down = _UNIT_BITS - bits
    return (cos + (1 << (down - 1))) >> down, (sin + (1 << (down - 1))) >> down


class Rotary:
    """The public angles of a pass and what the gate does with them."""

    def __init__(self, position: int, count: int, head_dim: int, theta: float, bits: int) -> None:
        self._cos, self._sin = angles(position, count, head_dim, theta)
        self._icos, self._isin = whole_angles(position, count, head_dim, theta, bits)

    def turn(self, words: Ring, shift: int) -> Ring:
        """Words [rows, heads * head_dim] turned in the ring, at `bits` more fraction bits, and shifted, logically."""
        if words.shape[1] % (2 * self._icos.shape[1]):
            raise ValueError("only whole heads are turned")
        out = np.empty(words.shape, np.int64)
        turned(words, self._icos, self._isin, shift, out)
        return out

    def turn_clear(self, x: Real) -> Real:
        """Turn reals."""
        half = self._cos.shape[1]
        pairs = x.reshape(x.shape[0], x.shape[1] // (2 * half), 2, half)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        c, s = self._cos[:, None, :], self._sin[:, None, :]
        return np.stack([a * c - b * s, b * c + a * s], axis=2).reshape(x.shape)


def deal(d: Dealing, z: Rho, angle: Rotary, narrow: int) -> Mask:
    """λ = turned ρ >> (64 - narrow), logically; its second share is dealt in 5 bytes."""
    lam = angle.turn(z.rho, 64 - narrow)
    d.share("lam", lam)
    return Mask(lam, z.extent, narrow)


def evaluate(e: Evaluation, z: Opening, angle: Rotary, narrow: int) -> Wire:
    """m = turned c >> (64 - narrow), logically: a wire modulo 2^narrow."""
    lam = e.share("lam", z.extent, width=5)
    return Wire(angle.turn(z.c, 64 - narrow), lam, z.extent, narrow)


def clear(p: Clear, z: Real, angle: Rotary, narrow: int) -> Real:
    """The rotated values."""
    del narrow
    p.observer.looked_up(p.section, "narrow", z)
    return angle.turn_clear(z)


rotate = Gate("rotate", deal, evaluate, clear, ErrorBound(units=1, besides="angles rounded to 14 bits"))


def part_of(z: Rho | Opening | Real, start: int, stop: int) -> Rho | Opening | Real:
    """Columns start … stop - 1 of an opening [rows, n]: a local view, at every reader."""
    extent = Extent(stop - start)
    if isinstance(z, Rho):
        return Rho(np.ascontiguousarray(z.rho[:, start:stop]), extent, z.bits)
    if isinstance(z, Opening):
        return z.columns(start, stop)
    return z[:, start:stop]
