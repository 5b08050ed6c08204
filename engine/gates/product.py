"""Products of wires (protocol, section 3): squares, elementwise with a broadcast, local sums.

    z1 = m_x·(m_y - λ_y1) - λ_x1·m_y        z2 = -m_x·λ_y2 - λ_x2·m_y        t = λ_x·λ_y
    Σx²:  z1 = Σ m² - 2 Σ m·λ1              z2 = -2 Σ m·λ2                    t = Σ λ²

One round, 8 bytes an output each way, nothing dealt.
"""

import numpy as np

from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring
from engine.ring.kernels.linear import add_products, add_squares
from engine.rows.run import Extent
from engine.wire import Mask, Opening, Rho, Wire


def deal_squares(d: Dealing, x: Mask) -> Rho:
    """ρ of Σ x² over a row, [rows, 1]."""
    one, two = d.kappa("z", Extent(1))
    lam = x.full().lam
    return Rho(one + two - (lam * lam).sum(axis=1, keepdims=True), Extent(1))


def evaluate_squares(e: Evaluation, x: Wire) -> Opening:
    """Opens Σ x² over a row at twice x's scale, [rows, 1]."""
    z = np.array(e.kappa("z", Extent(1)))
    add_squares(x.full().m, x.share(), e.role == 1, z)
    return e.open(z, Extent(1))


def clear_squares(p: Clear, x: Real) -> Real:
    """Σ x²."""
    del p
    return np.asarray((x * x).sum(axis=1, keepdims=True))


sum_of_squares = Gate("sum_of_squares", deal_squares, evaluate_squares, clear_squares)


def _grouped(x: Ring, r: Ring) -> Ring:
    """x [rows, n] as [rows, groups, n / groups] for r [rows, groups]."""
    return x.reshape(x.shape[0], r.shape[1], x.shape[1] // r.shape[1])


def deal_multiply(d: Dealing, x: Mask, y: Mask) -> Rho:
    """ρ = κ1 + κ2 - λ_x·λ_y."""
    one, two = d.kappa("z", x.extent)
    t = _grouped(x.full().lam, y.full().lam) * y.lam[:, :, None]
    return Rho(one + two - t.reshape(x.lam.shape), x.extent)


def evaluate_multiply(e: Evaluation, x: Wire, y: Wire) -> Opening:
    """Opens x·y, x [rows, n], y [rows, groups] with groups dividing n: each y serves a run of n / groups elements."""
    z = np.array(e.kappa("z", x.extent))
    add_products(x.full().m, x.share(), y.full().m, y.share(), e.role == 1, z)
    return e.open(z, x.extent)


def clear_multiply(p: Clear, x: Real, y: Real) -> Real:
    """x·y with the broadcast."""
    del p
    return (x.reshape(x.shape[0], y.shape[1], -1) * y[:, :, None]).reshape(x.shape)


multiply = Gate("multiply", deal_multiply, evaluate_multiply, clear_multiply)
