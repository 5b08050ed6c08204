"""Rotary positions are public and linear, so they turn an *opening*: c and ρ alike (protocol, section 6).

cos and sin have 14 bits; one logical shift by 30 then gives a narrow wire modulo 2^34 at scale 12: no wrap, no round.
Dealt: λ2 in 5 bytes a word. Half-split pairs (i, i + head_dim / 2), as in Hugging Face checkpoints.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.gates.online import Clear, Evaluation, Gate
from engine.gates.sides import Dealing
from engine.ring.fixed import Real, Ring, encode, shift_logical
from engine.wire import Extent, Mask, Opening, Rho, Wire


def angles(position: int, count: int, head_dim: int, theta: float) -> tuple[Real, Real]:
    """(cos, sin) of the positions' angles, [count, head_dim / 2]."""
    frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angle = np.arange(position, position + count)[:, None] * frequency[None, :]
    return np.cos(angle), np.sin(angle)


def _turned(words: NDArray[Any], cos: NDArray[Any], sin: NDArray[Any]) -> NDArray[Any]:
    """[rows, heads * head_dim] rotated by cos, sin [rows, head_dim / 2], in the ring or in the reals."""
    half = cos.shape[1]
    x = words.reshape(words.shape[0], words.shape[1] // (2 * half), 2 * half)
    a, b = x[:, :, :half], x[:, :, half:]
    c, s = cos[:, None, :], sin[:, None, :]
    return np.concatenate([a * c - b * s, b * c + a * s], axis=2).reshape(words.shape)


class Rotary:
    """The public angles of a pass and what the gate does with them."""

    def __init__(self, position: int, count: int, head_dim: int, theta: float, bits: int) -> None:
        self.cos, self.sin = angles(position, count, head_dim, theta)
        self._icos, self._isin = encode(self.cos, bits), encode(self.sin, bits)

    def turn(self, words: Ring) -> Ring:
        """Turn words [rows, heads * head_dim] in the ring: the result has `bits` more fraction bits."""
        return _turned(words, self._icos, self._isin)

    def turn_clear(self, x: Real) -> Real:
        """Turn reals."""
        return _turned(x, self.cos, self.sin)


def deal(d: Dealing, z: Rho, angle: Rotary, narrow: int) -> Mask:
    """λ = turned ρ >> (64 - narrow), logically; its second share is dealt in 5 bytes."""
    lam = shift_logical(angle.turn(z.rho), 64 - narrow)
    d.share("lam", lam)
    return Mask(lam, z.extent, narrow)


def evaluate(e: Evaluation, z: Opening, angle: Rotary, narrow: int) -> Wire:
    """m = turned c >> (64 - narrow), logically: a wire modulo 2^narrow."""
    lam = e.share("lam", z.extent, width=5)
    return Wire(shift_logical(angle.turn(z.c), 64 - narrow), lam, z.extent, narrow)


def clear(p: Clear, z: Real, angle: Rotary, narrow: int) -> Real:
    """The rotated values."""
    del narrow
    p.observer.looked_up(p.section, "narrow", z)
    return angle.turn_clear(z)


rotate = Gate("rotate", deal, evaluate, clear)


def part_of(z: Rho | Opening | Real, start: int, stop: int) -> Rho | Opening | Real:
    """Columns start … stop - 1 of an opening [rows, n]: a local view, at every reader."""
    extent = Extent(stop - start)
    if isinstance(z, Rho):
        return Rho(np.ascontiguousarray(z.rho[:, start:stop]), extent, z.bits)
    if isinstance(z, Opening):
        return z.columns(start, stop)
    return z[:, start:stop]
