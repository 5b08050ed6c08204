"""1/√x and 1/x over many octaves: two windows on one opening, still two rounds (protocol, section 4, "wide range").

The coarse table is 0 below the switch and carries one more column, the indicator I of x below it.
    round a: open w_e of both windows, and I
    round b: Σ_e [σ'·R'_e]·w'_e  (coarse)  +  Σ_e [σσ'·R_e]·w_e·I  (fine: known-to-D × masked × masked)
The three-factor term: z_i = Σ_e m_we·m_I·[d_e] - m_we·[d_e·λ_I]  -  m_I·[Σ_e d_e·λ_we],  t = Σ_e d_e·λ_we·λ_I.

Dealt a value: both windows' bits, (4 + 4 + 4 + 1)·8 bytes at degree 3. Online: 9 words, then one, each way.
"""

import numpy as np

from engine.functions.tables import WideWindow
from engine.gates.lookup import deal_bits, polynomial, powers_of, read_bits
from engine.gates.online import Clear, Evaluation, Gate
from engine.gates.sides import Dealing
from engine.gates.truncation import truncate
from engine.ring.fixed import Real, Ring
from engine.ring.lookups import wide_sum
from engine.wire import Extent, Opening, Rho


def _wide(extent: Extent, factor: int) -> Extent:
    return Extent(extent.row * factor, extent.key * factor)


def _columns(words: Ring, columns: int) -> Ring:
    return words.reshape(-1, columns)


def deal(d: Dealing, x: Rho, table: str, window: WideWindow, out: int, power: int) -> Rho:
    """ρ of f(x)."""
    del table
    n = window.degree + 1
    both = _wide(x.extent, 2 * n)
    fine = deal_bits(d, "fine", x, window.fine)
    coarse = deal_bits(d, "coarse", x, window.coarse)
    one, two = d.kappa("w", both)
    i1, i2 = d.kappa("i", x.extent)
    last1, last2 = d.kappa("z", x.extent)
    lam_i = (i1 + i2).reshape(-1, 1)
    d_coarse = coarse[:, None] * powers_of(x.rho, window.coarse, window.degree, power)
    d_fine = (fine * coarse)[:, None] * powers_of(x.rho, window.fine, window.degree, power)
    d.share("d_coarse", d_coarse)
    d.share("d_fine", d_fine)
    d.share("d_fine_i", d_fine * lam_i)
    w = _columns((one + two) >> np.int64(power), 2 * n)
    d_w = (d_fine * w[:, :n]).sum(axis=1)
    d.share("d_w", d_w)
    truncate(d, Rho(one + two, both), out + power, out, "lookup", share=False)
    t = -(d_coarse * w[:, n:]).sum(axis=1) + d_w * lam_i[:, 0]
    return Rho(last1 + last2 - t.reshape(last1.shape), x.extent)


def evaluate(e: Evaluation, x: Opening, table: str, window: WideWindow, out: int, power: int) -> Opening:
    """Opens f(x) at `out` + `power` fraction bits, two rounds."""
    n = window.degree + 1
    both, narrow = _wide(x.extent, 2 * n), _wide(x.extent, n)
    kappa, kappa_i, last = e.kappa("w", both), e.kappa("i", x.extent), e.kappa("z", x.extent)
    d_coarse, d_fine = (
        _columns(e.share("d_coarse", narrow), n),
        _columns(e.share("d_fine", narrow), n),
    )
    d_fine_i, d_w = _columns(e.share("d_fine_i", narrow), n), e.share("d_w", x.extent).reshape(-1)
    fine = read_bits(e, "fine", x, window.fine, e.weights.tables[table + ".fine"])
    coarse = read_bits(e, "coarse", x, window.coarse, e.weights.tables[table + ".coarse"])
    masked, z = np.empty_like(kappa), np.empty_like(last)
    shares, all_powers = (_columns(kappa, 2 * n), _columns(masked, 2 * n)), np.zeros(n, np.int64)
    polynomial(x, window.fine, window.degree, fine, power, all_powers, 0, *shares)
    polynomial(x, window.coarse, window.degree, coarse, power, all_powers, n, *shares)
    opened = e.open(masked, both)
    below = e.open(coarse[:, n].reshape(kappa_i.shape) + kappa_i, x.extent)
    m = _columns(truncate(e, opened, out + power, out, "lookup", share=False).m, 2 * n)
    wide_sum(m, below.c.reshape(-1), d_coarse, d_fine, d_fine_i, d_w, last.reshape(-1), z.reshape(-1))
    return e.open(z, x.extent)


def clear(p: Clear, x: Real, table: str, window: WideWindow, out: int, power: int) -> Real:
    """f(x), exactly."""
    del window
    p.observer.looked_up(p.section, table.split(".")[-1], x)
    y = p.functions[table](x)
    p.observer.truncated(p.section, "lookup", y, out + power)
    return y


lookup_wide = Gate("lookup_wide", deal, evaluate, clear)
