"""Point functions for two over many octaves: f(x) for x = c - ρ, c public, ρ known to the dealer alone (protocol, section 4).

Boyle, Gilboa and Ishai, "Function secret sharing: improvements and extensions" (CCS 2016), with values at inner nodes (Boneh
et al., "Lightweight techniques for private heavy hitters", 2021). A binary tree has the leaves of `depth` = top + STEP * stages
bits of ρ from bit `lo` up. Stage 0 is its first `top` levels, each further stage STEP more; a node at the end of stage s stands
for a cell of 2^(lo + STEP * (stages - s)). Of an opened c, the node that stands for ρ_hi holds x_hi = c_hi - ρ_hi: nodes with
x_hi < REFINED are divided, all others serve as they are, the last stage's too. So for x below the window's last cell exactly
one leaf is ρ's, whatever is borrowed, and its cell is as narrow as x is small. (In the last cell there may be none: 0 is read.)

A node is a seed of 126 bits (the lowest two of its first word are 0) and a bit t. It grows to a block of
`engine.ring.kernels.chacha`, salted with the public place of its key (row, section, gate, element): two words each for its
children, four for its cell. Both evaluators' nodes are alike off ρ's path; on it their t differ.

Rule 1. Evaluator i draws a root from its own stream. A root serves for one key.
Rule 2. A key, which both receive, holds of each level the XOR that makes the children off the path alike, with both children's
        t in its lowest bits, and of each stage the difference that makes the shares at ρ's cell those of the powers of
        ρ_lo. Each is masked by what grew from the root that the receiver does not hold.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from engine.ring.fixed import Ring
from engine.ring.kernels.chacha import half_blocks
from engine.ring.kernels.jit import kernel
from engine.ring.kernels.lookups import Table, fixed_powers

STEP = 2
REFINED = 8
HALF = 4  #: words that a node grows to for its children, and for its cell
_CHILDREN = 1 << STEP
_SEED = ~np.int64(3)
_BATCH = 8  # values whose trees grow together: their nodes fill the lanes, and stay in a core's cache


class Tree(NamedTuple):
    """Which tree: see the head of this file. REFINED < 2^top."""

    lo: int
    top: int
    stages: int

    @property
    def depth(self) -> int:
        """Levels."""
        return self.top + STEP * self.stages

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each stage's leaves begin, and their number behind the last one's."""
        return _starts(self)

    def first(self, stage: int) -> int:
        """x_hi of a stage's first leaf."""
        return REFINED if stage < self.stages else 0

    def cell(self, stage: int) -> int:
        """log2 of the width of a stage's cells."""
        return self.lo + STEP * (self.stages - stage)

    def words(self, columns: int) -> int:
        """Words of a key: two a level, then `columns` a stage."""
        return 2 * self.depth + columns * (self.stages + 1)


@cache
def _starts(tree: Tree) -> tuple[int, ...]:
    counts = [(1 << tree.top) - (REFINED if tree.stages else 0)]
    counts += [(_CHILDREN - 1) * REFINED] * (tree.stages - 1)
    counts += [_CHILDREN * REFINED] * (tree.stages > 0)
    return (0, *np.cumsum(counts).tolist())


@kernel
def _plant(root: Ring, serials: Ring, each: int, place: int, i: int, seed: Ring) -> None:
    """The root of value i, one of `each` a row, with its salt."""
    seed[0], seed[1] = root[i, 0] & _SEED, root[i, 1]
    seed[2], seed[3] = serials[i // each], place + i % each


@kernel
def deal_points(
    rho: Ring, one: Ring, two: Ring, serials: Ring, place: int, tree: Tree, columns: int, q: int, key: Ring
) -> None:
    """The keys of ρ [N] for roots one, two [N, 2]: key [N, words]. A cell gives the `fixed_powers` of ρ_lo at q bits.

    `serials` of the rows, which have equally many values, and `place` (a multiple of 2^32) are public and name the keys.
    """
    count, depth = rho.size, tree.top + STEP * tree.stages
    each = count // max(serials.size, 1)
    seeds, bits = np.empty((2 * count, 4), np.int64), np.empty(2 * count, np.int64)
    grown, powers = np.empty((2 * count, HALF), np.int64), np.empty((1, columns), np.int64)
    for i in range(count):
        _plant(one, serials, each, place, i, seeds[2 * i])
        _plant(two, serials, each, place, i, seeds[2 * i + 1])
        bits[2 * i], bits[2 * i + 1] = 0, 1
    for level in range(depth + 1):
        shift = tree.lo + depth - level
        if level >= tree.top and (level - tree.top) % STEP == 0:
            at = 2 * depth + columns * ((level - tree.top) // STEP)
            half_blocks(seeds, True, grown)
            for i in range(count):
                fixed_powers(rho[i : i + 1], shift, columns - 1, q, powers)
                for e in range(columns):
                    difference = grown[2 * i, e] - grown[2 * i + 1, e]
                    key[i, at + e] = (powers[0, e] - difference) * (1 - 2 * bits[2 * i + 1])
        if level == depth:
            break
        half_blocks(seeds, False, grown)
        for i in range(count):
            keep = (rho[i] >> np.int64(shift - 1)) & np.int64(1)
            lose = 1 - keep
            w0 = (grown[2 * i, 2 * lose] ^ grown[2 * i + 1, 2 * lose]) & _SEED
            w1 = grown[2 * i, 2 * lose + 1] ^ grown[2 * i + 1, 2 * lose + 1]
            for child in range(2):
                differ = (grown[2 * i, 2 * child] ^ grown[2 * i + 1, 2 * child]) & np.int64(1)
                w0 |= (differ ^ np.int64(child == keep)) << np.int64(child)
            key[i, 2 * level], key[i, 2 * level + 1] = w0, w1
            for node in range(2 * i, 2 * i + 2):
                _grow(grown, node, keep, bits[node], w0, w1, seeds, seeds, bits, node)


@kernel
def _grow(
    grown: Ring, node: int, child: int, t: int, w0: int, w1: int, seeds: Ring, below: Ring, below_bits: Ring, to: int
) -> None:
    """Child 0 or 1 of a node with bit t, corrected, into below[to], below_bits[to]."""
    first, mask = grown[node, 2 * child], -np.int64(t)
    below_bits[to] = (first ^ (mask & (w0 >> np.int64(child)))) & np.int64(1)
    below[to, 0] = (first ^ (mask & w0)) & _SEED
    below[to, 1] = grown[node, 2 * child + 1] ^ (mask & w1)
    below[to, 2], below[to, 3] = seeds[node, 2], seeds[node, 3]


@kernel
def read_points(
    c: Ring,
    roots: Ring,
    role: int,
    serials: Ring,
    place: int,
    key: Ring,
    tree: Tree,
    table: Table,
    binomial: Ring,
    q: int,
    out: Ring,
) -> None:
    """An evaluator's unsigned shares of f(c - ρ) at q bits more than the table's; out [N]. `serials` and `place` as dealt.

    ``Σ_leaves Σ_e share_e · A_e``, A_e = Σ_{k≥e} binomial[k, e] · T_k · c_lo^(k-e): T [columns, leaves] of polynomials in
    x - x_hi (cells), the powers at q bits and A_e rounded to T's: public, and alike at both.
    """
    top, stages, leaves = tree.top, tree.stages, table.shape[1]
    most = max(1 << top, REFINED * _CHILDREN)
    shape, each = min(_BATCH, max(c.size, 1)), c.size // max(serials.size, 1)
    seeds, bits = np.empty((shape * most, 4), np.int64), np.empty(shape * most, np.int64)
    below, below_bits = np.empty_like(seeds), np.empty_like(bits)
    grown = np.empty((shape * most, HALF), np.int64)
    ends, end_bits = np.empty((shape * leaves, 4), np.int64), np.empty(shape * leaves, np.int64)
    words = np.empty((shape * leaves, HALF), np.int64)
    for start in range(0, c.size, _BATCH):
        count = min(_BATCH, c.size - start)
        for i in range(count):
            _plant(roots, serials, each, place, start + i, seeds[i])
            bits[i] = role - 1
        nodes = 1  # of each value
        found = 0  # leaves so far: by stage, then by value, then by rising x_hi
        for stage in range(stages + 1):
            for level in range(top + STEP * (stage - 1) if stage else 0, top + STEP * stage):
                half_blocks(seeds[: count * nodes], False, grown)
                for i in range(count):
                    w0, w1 = key[start + i, 2 * level], key[start + i, 2 * level + 1]
                    for node in range(i * nodes, (i + 1) * nodes):
                        for child in range(2):
                            _grow(grown, node, child, bits[node], w0, w1, seeds, below, below_bits, 2 * node + child)
                seeds, below, bits, below_bits = below, seeds, below_bits, bits
                nodes *= 2
            cell = np.int64(tree.lo + STEP * (stages - stage))
            first = REFINED if stage < stages else 0
            for i in range(count):
                hi = c[start + i] >> cell
                for k in range(nodes):
                    if stage == 0:
                        part = (hi - k) & (nodes - 1)
                    else:  # children of the divided nodes, which lie by rising x_hi
                        part = (k // _CHILDREN) * _CHILDREN + (hi & (_CHILDREN - 1)) - (k & (_CHILDREN - 1))
                    node = i * nodes + k
                    if part >= first:
                        to = found + part - first
                        end_bits[to] = bits[node]
                        for j in range(4):
                            ends[to, j] = seeds[node, j]
                    elif part >= 0:
                        to = i * REFINED + part
                        below_bits[to] = bits[node]
                        for j in range(4):
                            below[to, j] = seeds[node, j]
                found += _leaves(hi, stage, nodes) - first
            seeds, below, bits, below_bits = below, seeds, below_bits, bits
            nodes = REFINED
        half_blocks(ends[:found], True, words)
        here = slice(start, start + count)
        _gather(c[here], key[here], tree, words, end_bits, table, binomial, q, out[here])


@kernel
def _leaves(hi: int, stage: int, nodes: int) -> int:
    """The first x_hi at the end of a stage that has no node: they are as many as there are, or end behind the divided ones'."""
    return nodes if stage == 0 else nodes - (_CHILDREN - 1) + (hi & (_CHILDREN - 1))


@kernel
def _gather(c: Ring, key: Ring, tree: Tree, words: Ring, bits: Ring, table: Table, binomial: Ring, q: int, out: Ring) -> None:
    """The sum of `read_points` over the leaves, as they lie."""
    columns, stages = table.shape[0], tree.stages
    powers, f = np.empty((1, columns), np.int64), np.empty(4, np.int64)
    half = (np.int64(1) << q) >> 1
    out[:] = 0
    at = begin = 0  # in the leaves, and in the table
    given = 2 * (tree.top + STEP * stages)
    for stage in range(stages + 1):
        cell = tree.lo + STEP * (stages - stage)
        first = REFINED if stage < stages else 0
        nodes = REFINED * _CHILDREN if stage else 1 << tree.top
        for i in range(c.size):
            count = _leaves(c[i] >> np.int64(cell), stage, nodes) - first
            fixed_powers(c[i : i + 1], cell, columns - 1, q, powers)
            t0, t1 = table[0, begin:], table[min(1, columns - 1), begin:]
            t2, t3 = table[min(2, columns - 1), begin:], table[min(3, columns - 1), begin:]
            total = np.int64(0)
            for e in range(columns):
                f[:] = 0
                for k in range(e, columns):
                    f[k] = binomial[k, e] * powers[0, k - e]
                f0, f1, f2, f3, given_word = f[0], f[1], f[2], f[3], key[i, given + e]
                for a in range(count):
                    factor = (half + f0 * t0[a] + f1 * t1[a] + f2 * t2[a] + f3 * t3[a]) >> q
                    total += (words[at + a, e] + (-bits[at + a] & given_word)) * factor
            out[i] += total
            at += count
        given += columns
        begin += nodes - first
