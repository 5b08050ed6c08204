"""A smooth function in two rounds: one-hot bits of the offset's high part against a public table (protocol, section 4).

    x = x_hi·2^lo + δ,  x_hi = c_hi - ρ_hi mod 2^n,  δ = c_lo - ρ_lo          (exactly: no borrow is computed)
    f(x) = Σ_{e≤n} A_e·ρ_lo^e,  A_e = (-1)^e Σ_{k≥e} C(k, e) T_k c_lo^(k-e)
    economised: ρ_lo^n = Σ_{e<n} a_e·ρ_lo^e within 2^-(2n - 1), and A_n = (-1)^n T_n is small, so one e less is opened and dealt
    round a: open w_e = σ·(A_e + a_e·A_n)[x_hi](c_lo)
    round b: open Σ_{e<n} [σ·ρ_lo^e]·w_e = f(x) at (out + power) fraction bits

Dealt a value: 2^n / 8 bytes of bits, 8 bytes an e, 2 bits an e for the alarm. Online: 8·(number of e) and 8 bytes each way.
"""

from collections.abc import Callable

import numpy as np

from engine.functions.tables import Window, economised, signed_binomials
from engine.gates.truncation import truncate
from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring
from engine.ring.kernels import lookups as kernels
from engine.wire import Opening, Rho

NARROW = 3  #: degree of the fits to cells of at most 1/2; those of a higher one have cells of 1


def deal_bits(d: Dealing, name: str, x: Rho, window: Window) -> Ring:
    """Deal the one-hot bits of ρ_hi; returns σ, one a value, flat."""
    first = d.first(name).reshape(-1)
    rho = np.ascontiguousarray(x.rho).reshape(-1)
    second, sigma = np.empty_like(first), np.empty_like(rho)
    kernels.deal_onehot(rho, first, window.lo, window.words, second, sigma)
    d.deal(name, second)
    return sigma


def read_bits(e: Evaluation, name: str, x: Opening, window: Window, table: kernels.Table) -> Ring:
    """This evaluator's share of σ·T[x_hi] for each column of the table, [values, columns]."""
    bits = np.ascontiguousarray(e.share(name, x.extent, window.words)).reshape(-1)
    c = np.ascontiguousarray(x.c).reshape(-1)
    if c.size and table.shape[1] != 2 * window.cells:  # the kernel would read what lies behind it
        what = f"a table of {table.shape[1]} words a column, and {window.cells} cells take {2 * window.cells}"
        raise ValueError(f"{what}: is it made ready by rotate_ready?")
    out = np.empty((c.size, table.shape[0]), np.int64)
    kernels.inner_products(c, bits, table, window.lo, window.lowest, e.sign, out)
    return out


def powers_of(x: Ring, window: Window, degree: int, power: int) -> Ring:
    """Powers 0 … degree of the part below a cell, in cells, at `power` fraction bits; [values, degree + 1]."""
    out = np.empty((x.size, degree + 1), np.int64)
    kernels.fixed_powers(np.ascontiguousarray(x).reshape(-1), window.lo, degree, power, out)
    return out


def deal(d: Dealing, x: Rho, table: str, window: Window, degree: int, out: int, power: int) -> Rho:
    """ρ of f(x); w's masks are the first round's κ."""
    del table
    wide = x.extent.scaled(degree)
    sigma = deal_bits(d, "u", x, window)
    weights = sigma[:, None] * powers_of(x.rho, window, degree - 1, power)
    d.share("r", weights)
    one, two = d.kappa("w", wide)
    last1, last2 = d.kappa("z", x.extent)
    w = truncate(d, Rho(one + two, wide), out + power, out, "lookup", share=False)
    t = -(weights * w.lam.reshape(weights.shape)).sum(axis=1)
    return Rho(last1 + last2 - t.reshape(last1.shape), x.extent)


def evaluate(e: Evaluation, x: Opening, table: str, window: Window, degree: int, out: int, power: int) -> Opening:
    """Opens f(x) at `out` + `power` fraction bits, two rounds; within the fit's error, |T_n|·2^-(2n - 1) and a few units."""
    wide = x.extent.scaled(degree)
    shares = e.share("r", wide)
    kappa, last = e.kappa("w", wide), e.kappa("z", x.extent)
    values = read_bits(e, "u", x, window, e.weights.tables[table])
    if values.shape[1] != degree + 1:
        raise ValueError(f"table {table!r} has {values.shape[1]} columns, and degree {degree} takes {degree + 1}")
    masked, z = np.empty_like(kappa), np.empty_like(last)
    fold, c = (-1) ** degree * economised(degree, power), np.ascontiguousarray(x.c).reshape(-1)
    columns = kappa.reshape(-1, degree), masked.reshape(-1, degree)
    kernels.combine(c, values, window.lo, power, signed_binomials(degree), fold, *columns)
    w = truncate(e, e.open(masked, wide), out + power, out, "lookup", share=False)
    kernels.weighted_sum(shares.reshape(-1, degree), w.m.reshape(-1, degree), last.reshape(-1), z.reshape(-1))
    return e.open(z, x.extent)


def clear(p: Clear, x: Real, table: str, window: Window, degree: int, out: int, power: int) -> Real:
    """f(x), exactly."""
    del window
    name = table.split(".")[-1]
    p.observer.looked_up(p.section, name, x)
    f = p.functions[table]
    p.truncated("lookup", _columns(f, x, 1.0 if degree > NARROW else 0.5), out + power)
    return f(x)


def _columns(f: Callable[[Real], Real], x: Real, cell: float) -> Real:
    """About Σ_e |w_e|, over ρ_lo: w_0 is f up to a cell above x, w_1 and w_2 its differences over a cell there."""
    found: Real = np.zeros_like(x)
    for rho in (0.25, 0.75):
        before, here, behind = (f(x + (rho + step) * cell) for step in (-0.5, 0.0, 0.5))
        found += (np.abs(here) + np.abs(behind - before) + 2 * np.abs(before - 2 * here + behind)) / 2
    return found


lookup = Gate("lookup", deal, evaluate, clear, ErrorBound(units=5, besides="its table's fit, economised"))
