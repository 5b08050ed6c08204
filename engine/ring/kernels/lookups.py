"""Kernels of the look-up gates: one-hot bits against tables, and what is dealt for them.

A one-hot vector of 2^n bits is 2^n / 64 words, bit j of word k standing for position 64 k + j. Tables come as
[columns, 2^(n+1)]: reversed and doubled, so that a rotation by any start is one contiguous read
(``tables[e, s + j] = T_e[(2^n - 1 - s - j) mod 2^n]``).
"""

import numpy as np
from numpy.typing import NDArray

from engine.ring.fixed import Ring
from engine.ring.kernels.jit import kernel

Table = Ring | NDArray[np.int32]
"""Columns of a look-up, ready to rotate."""


def shortest(table: Ring) -> Table:
    """A rotate-ready table in 32 bits, half to read, if no sum over some of its cells can leave them; else as it is."""
    if table.ndim == 2 and int(np.abs(table).max(initial=0)) * (table.shape[1] // 2) < 1 << 31:
        return table.astype(np.int32)
    return table


@kernel
def inner_products(c: Ring, bits: Ring, tables: Table, lo: int, lowest: int, sign: int, out: Ring) -> None:
    """``out[i, e] = sign * sum_j u_i[j] * T_e[(c_hi - lowest - j) mod 2^n]``, c_hi = c >> lo (section 4).

    c [N]; bits [N * 2^n / 64]; tables [E, 2^(n+1)], sums in its own type (`shortest`); out [N, E].
    """
    columns, doubled = tables.shape
    cells = doubled // 2
    words = cells // 64
    mask = np.empty(cells, tables.dtype)  # a value's bits, spread once for all columns: -1 where a bit is set
    for i in range(c.size):
        for k in range(words):
            w = bits[i * words + k]
            for j in range(64):
                mask[64 * k + j] = -((w >> np.int64(j)) & np.int64(1))
        start = cells - 1 - (((c[i] >> lo) - lowest) & (cells - 1))
        for e in range(columns):
            turned = tables[e, start : start + cells]
            total = tables.dtype.type(0)
            for j in range(cells):
                total = tables.dtype.type(total + (mask[j] & turned[j]))
            out[i, e] = sign * np.int64(total)


@kernel
def deal_onehot(rho: Ring, first: Ring, lo: int, words: int, second: Ring, sigma: Ring) -> None:
    """``second = first XOR onehot(rho_hi)`` with rho_hi = (rho >> lo) mod 64 * words; sigma = +1 where `first`'s bit
    at rho_hi is set, else -1. rho [N]; first, second [N * words]; sigma [N]. Where 64 * words is no power of two (the
    vocabulary's), rho must lie in it already.
    """
    cells = 64 * words
    mask = cells - 1 if cells & (cells - 1) == 0 else -1
    for i in range(rho.size):
        hi = (rho[i] >> lo) & mask
        base = i * words
        for k in range(words):
            second[base + k] = first[base + k]
        at = base + hi // 64
        bit = np.int64(hi & 63)
        second[at] = first[at] ^ (np.int64(1) << bit)
        sigma[i] = 2 * ((first[at] >> bit) & np.int64(1)) - 1


@kernel
def fixed_powers(x: Ring, lo: int, degree: int, q: int, out: Ring) -> None:
    """``out[i, k] = floor(frac^k * 2^q)``, frac = (x mod 2^lo) / 2^lo, k = 0 … degree (integers only: both evaluators
    must find the same public coefficients on any machine). 20 bits of frac are used.
    """
    for i in range(x.size):
        part = x[i] & ((np.int64(1) << lo) - 1)
        part = part << (20 - lo) if lo < 20 else part >> (lo - 20)
        power = np.int64(1) << 30
        for k in range(degree + 1):
            out[i, k] = (power + (np.int64(1) << (29 - q))) >> (30 - q)
            power = (power * part) >> 20


@kernel
def combine(c: Ring, values: Ring, lo: int, q: int, binomial: Ring, fold: Ring, kappa: Ring, out: Ring) -> None:
    """A look-up's shares w_e, masked to be opened (section 4): for e < fold.size, with the `fixed_powers` of c[i] at q bits,
    ``out[i, e] = kappa[i, e] + sum_{k >= e} binomial[k, e] * values[i, k] * powers[k - e] + fold[e] * values[i, n]``
    (n: the last column of the signed binomials).
    """
    columns = binomial.shape[0]
    powers = np.empty((1, columns), np.int64)
    for i in range(c.size):
        fixed_powers(c[i : i + 1], lo, columns - 1, q, powers)
        for e in range(fold.size):
            total = kappa[i, e] + fold[e] * values[i, columns - 1]
            for k in range(e, columns):
                total += binomial[k, e] * values[i, k] * powers[0, k - e]
            out[i, e] = total


@kernel
def power_of_two(c: Ring, lo: int, coarse: Table, fine: Table, out: Ring) -> None:
    """``out[i] = 2^(4 * frac) at 13 bits``, frac = (c mod 2^lo) / 2^lo, by two exact tables of 2^11 entries (30 bits)."""
    for i in range(c.size):
        part = (c[i] & ((np.int64(1) << lo) - 1)) >> (lo - 22)
        product = (coarse[part >> 11] >> 2) * (fine[part & 2047] >> 2)
        out[i] = (product + (np.int64(1) << 42)) >> 43


@kernel
def weighted_sum(shares: Ring, values: Ring, kappa: Ring, out: Ring) -> None:
    """``out[i] = kappa[i] + sum_e shares[i, e] * values[i, e]`` (known-to-D x masked, summed over e)."""
    count, columns = values.shape
    for i in range(count):
        total = kappa[i]
        for e in range(columns):
            total += shares[i, e] * values[i, e]
        out[i] = total
