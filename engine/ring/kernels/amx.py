"""Products of many rows on Intel's AMX, where the processor has it and the kernel grants it: the same words, faster.

A word is eight limbs of a byte, ``x = sum_a 2^8a x_a``: modulo 2^64, ``x·w = sum_s 2^8s sum_(a + b = s) x_a·w_b`` with s < 8.
That is 36 products of bytes (15 modulo 2^40) in place of one of words. AMX multiplies tiles, 16 rows of 64 bytes, and adds to
sums modulo 2^32: all that is read of those with s >= 4. Below, at most 4·64·DEEP products of two bytes meet, less than 2^28.

A tile of w holds one limb of 64 words in each of 16 rows. One of x holds, 16 times, 4 successive words' limbs of each of 16
rows. Words are taken apart and tiles are turned in registers. Measured on a Xeon whose other tenants keep the cores' second
threads busy, 64 rows, beside products of words: 3 times as fast (modulo 2^40 5 times), with 16 rows twice.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numpy.typing import NDArray

from engine.ring.fixed import Ring
from engine.ring.kernels.jit import inlined, instruction, kernel, only_read

FEWEST_ROWS = 12
"""With fewer, words are multiplied as fast: tiles of 16 rows would be mostly empty, and w has to be taken apart."""
FEWEST_WORDS = 64  #: of a row
DEEP = 16  #: blocks of 64 words of w's rows that are taken apart at once: 128 kB
NEAR = 2  #: blocks of both for whose 36 products the nearest cache has room

_SIDE, _LINE, _TILE, _LIMBS, _LOW_LIMBS = 16, 64, 1024, 8, 5
_BLOCK = _LIMBS * _TILE
_TILEDATA, _REQUEST = 18, 0x1023  # XFEATURE_XTILEDATA, ARCH_REQ_XCOMP_PERM of <asm/prctl.h>
_ARCH_PRCTL = 158  # on x86-64

Limbs = NDArray[np.uint8]

_FORM = np.zeros(64, np.uint8)  # all eight tiles in their full size
_FORM[0] = 1
_FORM[16:32:2] = _LINE
_FORM[48:56] = _SIDE


@cache
def granted() -> bool:
    """Whether this process may use the tiles: since Linux 5.16 it has to ask for them, once."""
    features = os.environ["NUMBA_CPU_FEATURES"].split(",")
    if not {"+amx-tile", "+amx-int8"} <= set(features) or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return False
    refused: int = ctypes.CDLL(None).syscall(*(ctypes.c_long(number) for number in (_ARCH_PRCTL, _REQUEST, _TILEDATA)))
    return refused == 0


# What LLVM calls the instructions; the numbers of tiles are part of them.
_I8, _I64 = ir.IntType(8), ir.IntType(64)
_BYTES = ir.VectorType(_I8, _LINE)


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.module.declare_intrinsic(f"llvm.x86.{name}", (), kind), arguments)


def _at(builder: ir.IRBuilder, address: ir.Value, byte: int) -> ir.Value:
    return builder.gep(address, [_I64(byte)])


def _load(builder: ir.IRBuilder, tile: int, address: ir.Value, limb: int) -> None:
    _call(builder, "tileloadd64", _I8(tile), _at(builder, address, _TILE * limb), _I64(_LINE))


@instruction
def _configure(builder: ir.IRBuilder, form: ir.Value) -> None:
    _call(builder, "ldtilecfg", form)


@instruction
def _release(builder: ir.IRBuilder) -> None:
    _call(builder, "tilerelease")


_LOWER, _UPPER, _W, _X = range(4)


@instruction
def _zero_sums(builder: ir.IRBuilder) -> None:
    _call(builder, "tilezero", _I8(_LOWER))
    _call(builder, "tilezero", _I8(_UPPER))


@instruction
def _load_sums(builder: ir.IRBuilder, sums: ir.Value) -> None:
    _load(builder, _LOWER, sums, 0)
    _load(builder, _UPPER, sums, 1)


@instruction
def _store_sums(builder: ir.IRBuilder, sums: ir.Value) -> None:
    _call(builder, "tilestored64", _I8(_LOWER), sums, _I64(_LINE))
    _call(builder, "tilestored64", _I8(_UPPER), _at(builder, sums, _TILE), _I64(_LINE))


def _two_diagonals(s: int) -> Callable[..., None]:
    """Of one block, to the tiles of the sums s - 1 and s: in an order in which each product loads one tile only.

    Four tiles are in use: with all eight, each product took twice as long whenever the core's other thread was busy.
    """

    @instruction
    def zigzag(builder: ir.IRBuilder, w: ir.Value, x: ir.Value) -> None:
        _load(builder, _W, w, 0)
        _load(builder, _X, x, s)
        _call(builder, "tdpbuud", _I8(_UPPER), _I8(_W), _I8(_X))
        for a in range(s):
            _load(builder, _X, x, s - 1 - a)
            _call(builder, "tdpbuud", _I8(_LOWER), _I8(_W), _I8(_X))
            _load(builder, _W, w, a + 1)
            _call(builder, "tdpbuud", _I8(_UPPER), _I8(_W), _I8(_X))

    return zigzag


_diagonals_6_7, _diagonals_4_5, _diagonals_3_4, _diagonals_2_3, _diagonals_1_2, _diagonals_0_1, _diagonal_0 = (
    _two_diagonals(s) for s in (7, 5, 4, 3, 2, 1, 0)
)


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), _LINE), order))


def _transposed(builder: ir.IRBuilder, lines: list[ir.Value]) -> list[ir.Value]:
    """n lines of n parts, transposed."""
    n = len(lines)
    size = _LINE // n
    step = 1
    while step < n:
        first = [j if not j & step else n + (j ^ step) for j in range(n)]
        second = [j | step if not j & step else n + j for j in range(n)]
        orders = [[size * part + byte for part in parts for byte in range(size)] for parts in (first, second)]
        for i in range(n):
            if not i & step:
                lines[i], lines[i + step] = (_shuffled(builder, lines[i], lines[i + step], order) for order in orders)
        step *= 2
    return lines


def _lines(builder: ir.IRBuilder, address: ir.Value, count: int) -> list[ir.Value]:
    places = (builder.bitcast(_at(builder, address, _LINE * i), _BYTES.as_pointer()) for i in range(count))
    return [builder.load(place, align=1) for place in places]


def _store(builder: ir.IRBuilder, lines: list[ir.Value], address: ir.Value, apart: int) -> None:
    for i, line in enumerate(lines):
        builder.store(line, builder.bitcast(_at(builder, address, apart * i), _BYTES.as_pointer()), align=1)


def _split_limbs(width: int) -> Callable[..., None]:
    """64 words of so many bytes: a line of each limb, in tiles behind each other."""

    @instruction
    def split_limbs(builder: ir.IRBuilder, words: ir.Value, tiles: ir.Value) -> None:
        each = _LINE // width
        order = [width * word + limb for limb in range(width) for word in range(each)]
        lines = [_shuffled(builder, line, line, order) for line in _lines(builder, words, width)]
        _store(builder, _transposed(builder, lines), tiles, _TILE)

    return split_limbs


_split_limbs_8, _split_limbs_4, _split_limbs_1 = (_split_limbs(width) for width in (8, 4, 1))


@instruction
def _turn(builder: ir.IRBuilder, tile: ir.Value) -> None:
    """A tile as that of w is becomes one of x."""
    _store(builder, _transposed(builder, _lines(builder, tile, _SIDE)), tile, _LINE)


@kernel
def _spread(x: Ring, tiles: Limbs) -> None:
    rows, inner = x.shape
    blocks = (inner + _LINE - 1) // _LINE
    last = np.zeros(_LINE, np.int64)
    for r in range(0, rows, _SIDE):
        for k in range(blocks):
            block = _BLOCK * (r // _SIDE * blocks + k)
            at = min(
                _LINE * k, inner - _LINE
            )  # the last block ends where the rows end; what it shares with the one before is 0 here
            for j in range(min(_SIDE, rows - r)):
                if at == _LINE * k:
                    _split_limbs_8(x, 8 * ((r + j) * inner + at), tiles, block + _LINE * j)
                else:
                    for i in range(_LINE * k, inner):
                        last[i - at] = x[r + j, i]
                    _split_limbs_8(last, 0, tiles, block + _LINE * j)
            for limb in range(_LIMBS):
                _turn(tiles, block + _TILE * limb)


@inlined
def _add_diagonals(
    sums_of: Callable[..., None], s: int, near: int, far: int, w: Limbs, x: Limbs, at: int, sums: NDArray[np.uint32]
) -> None:
    """The sums s - 1 and s of the blocks from `near` up to `far`, added to those of the blocks before."""
    if near == 0:
        _zero_sums()
    else:
        _load_sums(sums, s * _TILE)
    for k in range(near, far):
        sums_of(w, _BLOCK * k, x, at + _BLOCK * k)
    _store_sums(sums, s * _TILE)


def _join(limbs: int) -> Callable[..., None]:
    """``total[j, i] = sum_s 2^8s sums[s + 1, i, j]``, [16, 16]: a row of x in each line."""
    quarter, eight = ir.VectorType(ir.IntType(32), 8), ir.VectorType(_I64, 8)

    @instruction
    def join(builder: ir.IRBuilder, sums: ir.Value, total: ir.Value) -> None:
        for i in range(0, _SIDE, 8):
            for j in range(0, _SIDE, 8):
                lines = []
                for line in range(i, i + 8):
                    word = ir.Constant(eight, [0] * 8)
                    for s in range(limbs):
                        place = _at(builder, sums, _TILE * (s + 1) + _LINE * line + 4 * j)
                        part = builder.load(builder.bitcast(place, quarter.as_pointer()), align=4)
                        shift = ir.Constant(eight, [8 * s] * 8)
                        word = builder.add(word, builder.shl(builder.zext(part, eight), shift))
                    lines.append(builder.bitcast(word, _BYTES))
                _store(builder, _transposed(builder, lines), _at(builder, total, 8 * (_SIDE * j + i)), 8 * _SIDE)

    return join


_join_8, _join_5 = _join(_LIMBS), _join(_LOW_LIMBS)


@inlined
def _add(total: Ring, out: Ring, r: int, o: int) -> None:
    """As far as there are rows and columns."""
    for j in range(min(_SIDE, out.shape[0] - r)):
        for i in range(min(_SIDE, out.shape[1] - o)):
            out[r + j, o + i] += total[j, i]


@inlined
def _add_columns(
    x: Limbs, part: Limbs, limbs: int, first: int, count: int, blocks: int, sums: NDArray[np.uint32], out: Ring, o: int
) -> None:
    """To out's columns from o on: all rows of x by what `part` holds of 16 rows of w: `count` of `blocks` from `first` on."""
    total = np.empty((_SIDE, _SIDE), np.int64)
    for r in range(0, out.shape[0], _SIDE):
        block = _BLOCK * (r // _SIDE * blocks + first)
        for near in range(0, count, NEAR):
            far = min(near + NEAR, count)
            if limbs == _LIMBS:
                _add_diagonals(_diagonals_6_7, 7, near, far, part, x, block, sums)
                _add_diagonals(_diagonals_4_5, 5, near, far, part, x, block, sums)
                _add_diagonals(_diagonals_2_3, 3, near, far, part, x, block, sums)
                _add_diagonals(_diagonals_0_1, 1, near, far, part, x, block, sums)
            else:
                _add_diagonals(_diagonals_3_4, 4, near, far, part, x, block, sums)
                _add_diagonals(_diagonals_1_2, 2, near, far, part, x, block, sums)
                _add_diagonals(_diagonal_0, 0, near, far, part, x, block, sums)
        if limbs == _LIMBS:
            _join_8(sums, 0, total, 0)
        else:
            _join_5(sums, 0, total, 0)
        _add(total, out, r, o)


@kernel
def _multiply(x: Limbs, w: Ring, limbs: int, part: Limbs, sums: NDArray[np.uint32], out: Ring) -> None:
    outer, inner = w.shape
    blocks = (inner + _LINE - 1) // _LINE
    _configure(_FORM, 0)
    for first in range(0, blocks, DEEP):
        count = min(DEEP, blocks - first)
        for o in range(0, outer, _SIDE):
            for k in range(count):
                at = min(_LINE * (first + k), inner - _LINE)
                for i in range(min(_SIDE, outer - o)):
                    _split_limbs_8(w, 8 * ((o + i) * inner + at), part, _BLOCK * k + _LINE * i)
            _add_columns(x, part, limbs, first, count, blocks, sums, out, o)
    _release()


@kernel
def _multiply_low40(
    x: Limbs, low: NDArray[np.uint32], high: NDArray[np.uint8], part: Limbs, sums: NDArray[np.uint32], out: Ring
) -> None:
    outer, inner = low.shape
    blocks = (inner + _LINE - 1) // _LINE
    _configure(_FORM, 0)
    for first in range(0, blocks, DEEP):
        count = min(DEEP, blocks - first)
        for o in range(0, outer, _SIDE):
            for k in range(count):
                at = min(_LINE * (first + k), inner - _LINE)
                for i in range(min(_SIDE, outer - o)):
                    word = (o + i) * inner + at
                    _split_limbs_4(low, 4 * word, part, _BLOCK * k + _LINE * i)
                    _split_limbs_1(high, word, part, _BLOCK * k + 4 * _TILE + _LINE * i)
            _add_columns(x, part, _LOW_LIMBS, first, count, blocks, sums, out, o)
    _release()


@dataclass(frozen=True, slots=True, repr=False)
class Tiles:
    """What is multiplied by several matrices, in one thread: its limbs, and room for a part of a matrix's and for sums."""

    shape: tuple[int, int]
    limbs: Limbs
    part: Limbs
    sums: NDArray[np.uint32]

    def check(self, w: tuple[int, ...], out: tuple[int, ...]) -> None:
        """Addresses are computed: of other shapes, what lies elsewhere would be read, and written to."""
        if (self.shape[0], w[0]) != out or self.shape[1] != w[1]:
            raise ValueError(f"{self.shape} by {w} is no {out}")


def spread(x: Ring) -> Tiles:
    """x [rows, in >= `FEWEST_WORDS`], C-contiguous, in tiles. They may be used where they are `granted`, and only there."""
    rows, inner = x.shape
    blocks = -(-inner // _LINE)
    ends = np.cumsum([-(-rows // _SIDE) * blocks * _BLOCK, min(blocks, DEEP) * _BLOCK, (_LIMBS + 1) * _TILE])
    room = np.empty(ends[-1] + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE  # where a cache line begins: no line of a tile lies in two
    limbs, part, sums = np.split(room[start : start + ends[-1]], ends[:-1])
    _spread(only_read(x), limbs)
    return Tiles((rows, inner), limbs, part, sums.view(np.uint32))


def multiply(x: Tiles, w: Ring, out: Ring, *, low40: bool = False) -> None:
    """``out += x @ w.T``, with `low40` modulo 2^40; w [out, in], out [rows, out], C-contiguous."""
    x.check(w.shape, out.shape)
    _multiply(x.limbs, only_read(w), _LOW_LIMBS if low40 else _LIMBS, x.part, x.sums, out)


def multiply_low40(x: Tiles, low: NDArray[np.uint32], high: NDArray[np.uint8], out: Ring) -> None:
    """``out += x @ w.T`` modulo 2^40 for w = ``low + 2^32·high``."""
    x.check(low.shape, out.shape)
    x.check(high.shape, out.shape)
    _multiply_low40(x.limbs, only_read(low), only_read(high), x.part, x.sums, out)
