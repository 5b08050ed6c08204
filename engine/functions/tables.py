"""Piecewise polynomials as integer tables, and the windows they live in (protocol, section 4)."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache
from itertools import pairwise
from math import comb
from typing import Self

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.ring.fixed import Real, Ring, encode
from engine.ring.kernels.points import Tree


class Window(BaseModel):
    """A cyclic window of 2^n cells over an opening: cell b covers [b, b + 1) * 2^lo raw units, lowest <= b < lowest + 2^n.

    A value outside wraps silently into a wrong cell; the last cell is lost to a borrow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lo: int = Field(ge=1, le=56)
    n: int = Field(ge=6, le=16)
    lowest: int = Field(ge=-(1 << 20), le=1 << 20)

    @property
    def cells(self) -> int:
        """How many cells the window has."""
        return 1 << self.n

    @property
    def words(self) -> int:
        """64-bit words of a one-hot vector over the window."""
        return self.cells // 64


class WideWindow(BaseModel):
    """A window of cells as fine as a value is small, from 0 to 2^(lo + top + 2 * stages): `engine.ring.kernels.points`.

    The last of the widest cells is lost to a borrow: a value there may be read as 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lo: int = Field(ge=1, le=40)
    top: int = Field(ge=5, le=6)
    stages: int = Field(ge=0, le=28)
    degree: int = Field(default=3, ge=1, le=3)
    low: float = Field(gt=0)  #: the smallest input that the tables follow

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.reach > 62:
            raise ValueError(f"a window that reaches 2^{self.reach} does not fit into the ring")
        return self

    @property
    def tree(self) -> Tree:
        """The tree of its cells."""
        return Tree(self.lo, self.top, self.stages)

    @property
    def reach(self) -> int:
        """log2 of its end."""
        return self.lo + self.tree.depth

    @property
    def end(self) -> int:
        """The first raw value that may be lost."""
        return (1 << self.reach) - (1 << self.tree.cell(0))


def fit(f: Callable[[Real], Real], window: Window, scale: int, degree: int, out_bits: int) -> Ring:
    """Fit f by one polynomial a cell; returns coefficients T [degree + 1, cells] at `out_bits` fraction bits.

    The input's raw unit is 2^-scale. Cell b's polynomial in δ (cells from its left end) is fitted on δ in (-1, 1),
    because the gate knows x only up to a borrow: f(x) ≈ Σ_k T[k, b] δ^k. Chebyshev interpolation, then the monomial basis.
    """
    return _fit(f, window.lowest + np.arange(window.cells, dtype=np.float64), 2.0 ** (window.lo - scale), degree, out_bits)


def fit_wide(f: Callable[[Real], Real], window: WideWindow, scale: int, out_bits: int) -> Ring:
    """The same for each leaf of a wide window, [degree + 1, leaves], stage by stage; constant below the cell before that of
    ``window.low``: a cell's polynomial is fitted over the cell before it too, and a kink there would be felt above `low`.
    """
    tree, finest = window.tree, 2.0 ** (window.lo - scale)
    lowest = max(np.floor(window.low / finest) - 1, 0.5) * finest

    def floored(x: Real) -> Real:
        return f(np.maximum(x, lowest))

    parts = []
    for stage, (start, stop) in enumerate(pairwise(tree.starts)):
        left = tree.first(stage) + np.arange(stop - start, dtype=np.float64)
        parts.append(_fit(floored, left, 2.0 ** (tree.cell(stage) - scale), window.degree, out_bits))
    return np.concatenate(parts, axis=1)


def _fit(f: Callable[[Real], Real], left: Real, cell: float, degree: int, out_bits: int) -> Ring:
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    with np.errstate(all="ignore"):
        values = f((left[:, None] + nodes[None, :]) * cell)
    solve = np.linalg.inv(np.vander(nodes, degree + 1, increasing=True))
    return encode((values @ solve.T).T, out_bits)


def rotate_ready(table: Ring) -> Ring:
    """Tables [columns, cells] reversed and doubled for ``ring.lookups.inner_products``."""
    reverse = table[:, ::-1]
    return np.ascontiguousarray(np.concatenate([reverse, reverse], axis=1))


@cache
def signed_binomials(degree: int) -> Ring:
    """``[k, e] = (-1)^e C(k, e)``: the expansion of (c_lo - rho_lo)^k."""
    out = np.zeros((degree + 1, degree + 1), np.int64)
    for k in range(degree + 1):
        for e in range(k + 1):
            out[k, e] = (-1) ** e * comb(k, e)
    return out


@cache
def economised(degree: int, bits: int) -> Ring:
    """Coefficients a_e, e < degree, of the polynomial nearest to ρ^degree on [0, 1], at `bits` fraction bits (exact with 10).

    ρ^n less the shifted Chebyshev polynomial T*_n / 2^(2n - 1): off by 2^-(2n - 1) at most (Lanczos's economisation).
    """
    shifted = Chebyshev.basis(degree, domain=[0, 1]).convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1])
    return encode(-shifted.coef[:-1] / shifted.coef[-1], bits)


def silu(x: Real) -> Real:
    """x * sigmoid(x), without overflow."""
    return x * np.exp(-np.logaddexp(0.0, -x))


def powers_of_two() -> tuple[Ring, Ring]:
    """2^(4 i / 2^11) and 2^(4 i / 2^22) for i < 2^11, at 30 bits, correctly rounded on every machine (decimal arithmetic)."""
    with localcontext() as context:
        context.prec = 40
        unit = Decimal(2) ** 30
        coarse = [int((unit * Decimal(2) ** (Decimal(4 * i) / 2048)).to_integral_value()) for i in range(2048)]
        fine = [int((unit * Decimal(2) ** (Decimal(4 * i) / (1 << 22))).to_integral_value()) for i in range(2048)]
    return np.array(coarse, np.int64), np.array(fine, np.int64)
