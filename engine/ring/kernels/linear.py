"""Integer matrix kernels: everything is mod 2^64, matrices are stored [out, in] like checkpoints.

Each kernel equals the numpy expression in its docstring; they exist because numpy multiplies integer
matrices without vector instructions. The tiles keep 16 accumulators, which LLVM turns into vector registers.
Products of many rows go to `engine.ring.kernels.amx` where the processor has it.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import llvmlite.binding as llvmlite  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from engine.ring.fixed import Ring
from engine.ring.kernels import amx
from engine.ring.kernels.jit import inlined, kernel, only_read
from engine.ring.kernels.prefetch import AHEAD, LINE, read_once

PART_ROWS = 16  #: of a matrix that is multiplied part by part: with fewer in a part, tiles would be mostly empty
AHEAD_WORDS = 64  #: words of a row of a matrix, between two looks ahead

QUARTERS = not llvmlite.get_host_cpu_name().startswith("znver")
"""How one row is multiplied, where memory is all that counts. An AMD reads fastest as the matrix lies there, with looks ahead
(one core: 16 → 30 GB/s beside four rows at once). An Intel looks ahead by itself, in each of several places: four quarters of a
matrix side by side are 11 to 13 GB/s where one stream is 7 to 8, and 8 to 12 beside 4 to 6.6 for `Low40` (a Xeon with busy
neighbours; two processes at once or one).
"""


def _in_tiles(rows: int, inner: int) -> bool:
    return rows >= amx.FEWEST_ROWS and inner >= amx.FEWEST_WORDS and amx.granted()


def adder(x: Ring, *, low40: bool = False) -> Callable[[Ring, Ring], None]:
    """`multiply_into` with one x for many matrices, which is made ready once: ``add(w, out)``, in one thread at a time; with
    `low40` modulo 2^40.
    """
    if _in_tiles(*x.shape):
        return partial(amx.multiply, amx.spread(x), low40=low40)
    multiply, x = _multiply_words, only_read(x)
    if len(x) == 1:
        multiply = _add_row_by_quarters if QUARTERS else _add_row

    def add(w: Ring, out: Ring) -> None:
        multiply(x, only_read(w), out)

    return add


def multiply_into(x: Ring, w: Ring, out: Ring) -> None:
    """``out += x @ w.T`` for x [rows, in], w [out, in], out [rows, out]; all C-contiguous."""
    adder(x)(w, out)


@cache
def compile_products() -> None:
    """Compile what products of any number of rows call: none may have to wait for it."""
    for rows in (1, 2, amx.FEWEST_ROWS):
        x = np.zeros((rows, amx.FEWEST_WORDS), np.int64)
        out = np.zeros((rows, rows), np.int64)
        multiply_into(x, x, out)
        multiply_low40_into(x, x.astype(np.uint32), x.astype(np.uint8), out)


@kernel
def _add_row(x: Ring, w: Ring, out: Ring) -> None:
    outer, inner = w.shape
    whole = inner // AHEAD_WORDS * AHEAD_WORDS
    for p in range(outer):
        total = np.int64(0)
        for start in range(0, whole, AHEAD_WORDS):
            for line in range(0, 8 * AHEAD_WORDS, LINE):
                read_once(w, 8 * (p * inner + start) + AHEAD + line)
            for i in range(start, start + AHEAD_WORDS):
                total += x[0, i] * w[p, i]
        for i in range(whole, inner):
            total += x[0, i] * w[p, i]
        out[0, p] += total


@kernel
def _add_row_by_quarters(x: Ring, w: Ring, out: Ring) -> None:
    outer, inner = w.shape
    quarter = outer // 4
    for p in range(quarter):
        q, r, s = p + quarter, p + 2 * quarter, p + 3 * quarter
        a = b = c = d = np.int64(0)
        for i in range(inner):
            a += x[0, i] * w[p, i]
            b += x[0, i] * w[q, i]
            c += x[0, i] * w[r, i]
            d += x[0, i] * w[s, i]
        out[0, p] += a
        out[0, q] += b
        out[0, r] += c
        out[0, s] += d
    for p in range(4 * quarter, outer):
        for i in range(inner):
            out[0, p] += x[0, i] * w[p, i]


@kernel
def _multiply_words(x: Ring, w: Ring, out: Ring) -> None:
    rows, inner = x.shape
    outer = w.shape[0]
    o = 0
    while o + 4 <= outer:
        r = 0
        while r + 4 <= rows:
            b00 = b01 = b02 = b03 = np.int64(0)
            b10 = b11 = b12 = b13 = np.int64(0)
            b20 = b21 = b22 = b23 = np.int64(0)
            b30 = b31 = b32 = b33 = np.int64(0)
            for i in range(inner):
                w0, w1, w2, w3 = w[o, i], w[o + 1, i], w[o + 2, i], w[o + 3, i]
                x0, x1, x2, x3 = x[r, i], x[r + 1, i], x[r + 2, i], x[r + 3, i]
                b00 += x0 * w0
                b01 += x0 * w1
                b02 += x0 * w2
                b03 += x0 * w3
                b10 += x1 * w0
                b11 += x1 * w1
                b12 += x1 * w2
                b13 += x1 * w3
                b20 += x2 * w0
                b21 += x2 * w1
                b22 += x2 * w2
                b23 += x2 * w3
                b30 += x3 * w0
                b31 += x3 * w1
                b32 += x3 * w2
                b33 += x3 * w3
            out[r, o] += b00
            out[r, o + 1] += b01
            out[r, o + 2] += b02
            out[r, o + 3] += b03
            out[r + 1, o] += b10
            out[r + 1, o + 1] += b11
            out[r + 1, o + 2] += b12
            out[r + 1, o + 3] += b13
            out[r + 2, o] += b20
            out[r + 2, o + 1] += b21
            out[r + 2, o + 2] += b22
            out[r + 2, o + 3] += b23
            out[r + 3, o] += b30
            out[r + 3, o + 1] += b31
            out[r + 3, o + 2] += b32
            out[r + 3, o + 3] += b33
            r += 4
        while r < rows:
            b00 = b01 = b02 = b03 = np.int64(0)
            for i in range(inner):
                x0 = x[r, i]
                b00 += x0 * w[o, i]
                b01 += x0 * w[o + 1, i]
                b02 += x0 * w[o + 2, i]
                b03 += x0 * w[o + 3, i]
            out[r, o] += b00
            out[r, o + 1] += b01
            out[r, o + 2] += b02
            out[r, o + 3] += b03
            r += 1
        o += 4
    while o < outer:
        for r in range(rows):
            b00 = np.int64(0)
            for i in range(inner):
                b00 += x[r, i] * w[o, i]
            out[r, o] += b00
        o += 1


class Low40(NamedTuple):
    """The low 40 bits of a matrix's words, ``low + 2^32·high``, [out, in]: 5 bytes to read in place of 8."""

    low: NDArray[np.uint32]
    high: NDArray[np.uint8]


@inlined
def _word40(low: NDArray[np.uint32], high: NDArray[np.uint8], o: int, i: int) -> np.int64:
    return np.int64(low[o, i]) | (np.int64(high[o, i]) << np.int64(32))


def multiply_low40_into(x: Ring, low: NDArray[np.uint32], high: NDArray[np.uint8], out: Ring) -> None:
    """``out += x @ w.T`` modulo 2^40 (above, out means nothing) for w as `Low40` has it; shapes as `multiply_into`."""
    x, low, high = only_read(x), only_read(low), only_read(high)
    if _in_tiles(*x.shape):
        amx.multiply_low40(amx.spread(x), low, high, out)
    elif len(x) == 1:
        (_add_low40_row_by_quarters if QUARTERS else _add_low40_row)(x, low, high, out)
    else:
        _multiply_low40_words(x, low, high, out)


@kernel
def _add_low40_row(x: Ring, low: NDArray[np.uint32], high: NDArray[np.uint8], out: Ring) -> None:
    outer, inner = low.shape
    whole = inner // AHEAD_WORDS * AHEAD_WORDS
    for o in range(outer):
        total = np.int64(0)
        for start in range(0, whole, AHEAD_WORDS):
            at = o * inner + start + AHEAD
            for line in range(0, 4 * AHEAD_WORDS, LINE):
                read_once(low, 4 * at + line)
            for line in range(0, AHEAD_WORDS, LINE):
                read_once(high, at + line)
            for i in range(start, start + AHEAD_WORDS):
                total += x[0, i] * _word40(low, high, o, i)
        for i in range(whole, inner):
            total += x[0, i] * _word40(low, high, o, i)
        out[0, o] += total


@kernel
def _add_low40_row_by_quarters(x: Ring, low: NDArray[np.uint32], high: NDArray[np.uint8], out: Ring) -> None:
    outer, inner = low.shape
    quarter = outer // 4
    for p in range(quarter):
        q, r, s = p + quarter, p + 2 * quarter, p + 3 * quarter
        a = b = c = d = np.int64(0)
        for i in range(inner):
            a += x[0, i] * _word40(low, high, p, i)
            b += x[0, i] * _word40(low, high, q, i)
            c += x[0, i] * _word40(low, high, r, i)
            d += x[0, i] * _word40(low, high, s, i)
        out[0, p] += a
        out[0, q] += b
        out[0, r] += c
        out[0, s] += d
    for p in range(4 * quarter, outer):
        for i in range(inner):
            out[0, p] += x[0, i] * _word40(low, high, p, i)


@kernel
def _multiply_low40_words(x: Ring, low: NDArray[np.uint32], high: NDArray[np.uint8], out: Ring) -> None:
    outer, inner = low.shape
    rows = x.shape[0]
    step = 8  # rows of w at a time, put together where they stay in the nearest cache
    words = np.empty((step, inner), np.int64)
    for o in range(0, outer, step):
        count = min(step, outer - o)
        for r in range(count):
            for i in range(inner):
                words[r, i] = _word40(low, high, o + r, i)
        part = np.zeros((rows, count), np.int64)
        _multiply_words(x, words[:count], part)
        for r in range(rows):
            for j in range(count):
                out[r, o + j] += part[r, j]


@kernel
def add_products(m: Ring, lam: Ring, masked: Ring, own: Ring, first: bool, out: Ring) -> None:
    """``out += m·(first·masked - own) - lam·masked``, [rows, n] by [rows, groups], C-contiguous: each group has one factor."""
    rows, groups = masked.shape
    size = m.shape[1] // groups
    for r in range(rows):
        for g in range(groups):
            shown = masked[r, g]
            half = (shown if first else np.int64(0)) - own[r, g]
            for i in range(g * size, (g + 1) * size):
                out[r, i] += m[r, i] * half - lam[r, i] * shown


@kernel
def add_squares(m: Ring, lam: Ring, first: bool, out: Ring) -> None:
    """``out[r, 0] += sum_i m[r, i]·(first·m[r, i] - 2·lam[r, i])``."""
    rows, size = m.shape
    one = np.int64(first)
    for r in range(rows):
        total = np.int64(0)
        for i in range(size):
            total += m[r, i] * (one * m[r, i] - 2 * lam[r, i])
        out[r, 0] += total


@kernel
def add_into(a: Ring, b: Ring, out: Ring) -> None:
    """``out[:] = a + b`` for flat arrays of one length."""
    for i in range(a.size):
        out[i] = a[i] + b[i]


def subtract_product(x: Ring, w: Ring, out: Ring, *, low40: bool = False) -> None:
    """``out -= x @ w.T``, with `low40` modulo 2^40: the half of a matrix product that is made ahead of time."""
    adder(-x, low40=low40)(w, out)
