"""1/√x and 1/x over many octaves in one round: a point function of ρ, in cells as fine as x is small (protocol, section 4).

    x = x_hi·2^l + δ for each width l of cells,  δ = c_lo - ρ_lo
    the leaves of the opened c part the ρ (`engine.ring.kernels.points`): cells of x_hi >= 8 until the finest ones
    both evaluators hold shares of ρ_lo^e at ρ's leaf and of 0 at all others; public A_e as in `engine.gates.lookup`
    open Σ_leaves Σ_e A_e[x_hi](c_lo)·[ρ_lo^e] = f(x) at (out + power) fraction bits

Within 2e-4 of the value and two units. Dealt a value, to both evaluators alike: 16 bytes a level and 8·(degree + 1) a stage of
two levels, 704 for 24 levels. Online: 8 bytes each way.
"""

import numpy as np

from engine.functions.tables import WideWindow, signed_binomials
from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real
from engine.ring.kernels.points import deal_points, read_points
from engine.wire import Opening, Rho


def _place(side: Dealing | Evaluation) -> int:
    return side.section << 48 | side.gate << 32


def deal(d: Dealing, x: Rho, table: str, window: WideWindow, out: int, power: int) -> Rho:
    """ρ of f(x)."""
    del table, out
    one, two = d.kappa("root", x.extent.scaled(2))
    last1, last2 = d.kappa("z", x.extent)
    columns = window.degree + 1
    rho = np.ascontiguousarray(x.rho).reshape(-1)
    key = np.empty((rho.size, window.tree.words(columns)), np.int64)
    roots = one.reshape(-1, 2), two.reshape(-1, 2)
    deal_points(rho, *roots, d.rows.serials, _place(d), window.tree, columns, power, key)
    d.both("points", key)
    return Rho(last1 + last2, x.extent)


def evaluate(e: Evaluation, x: Opening, table: str, window: WideWindow, out: int, power: int) -> Opening:
    """Opens f(x) at `out` + `power` fraction bits, one round."""
    del out
    columns = window.degree + 1
    words = window.tree.words(columns)
    root, last = e.kappa("root", x.extent.scaled(2)), e.kappa("z", x.extent)
    key = e.both("points", x.extent, words).reshape(-1, words)
    values, total = e.weights.tables[table].reshape(columns, window.tree.starts[-1]), np.empty(key.shape[0], np.int64)
    c, roots = np.ascontiguousarray(x.c).reshape(-1), root.reshape(-1, 2)
    binomial = signed_binomials(window.degree)
    read_points(c, roots, e.role, e.rows.serials, _place(e), key, window.tree, values, binomial, power, total)
    return e.open(e.sign * total.reshape(last.shape) + last, x.extent)


def clear(p: Clear, x: Real, table: str, window: WideWindow, out: int, power: int) -> Real:
    """f(x), exactly."""
    del window, out, power
    p.observer.looked_up(p.section, table.split(".")[-1], x)
    return p.functions[table](x)


lookup_wide = Gate("lookup_wide", deal, evaluate, clear, ErrorBound(units=2, relative=2e-4))
