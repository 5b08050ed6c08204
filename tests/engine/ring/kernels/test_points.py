"""Point functions: the two shares differ by one cell's polynomial, and a key alone is noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.functions.tables import signed_binomials
from engine.ring.kernels.lookups import fixed_powers
from engine.ring.kernels.points import REFINED, Tree, deal_points, read_points
from tests.engine.gates.alone import Ring, words
from tests.engine.ring.kernels.plain_chacha import block
from tests.privacy.views import Histogram

TREES = [Tree(1, 5, 0), Tree(3, 5, 1), Tree(2, 6, 2), Tree(9, 6, 9), Tree(20, 5, 16)]
Q = 10
PLACE = (7 << 48) | (3 << 32)  # section and gate
trees = st.sampled_from(TREES)
few = settings(max_examples=30)


def keys(rho: Ring, roots: tuple[Ring, Ring], tree: Tree, columns: int) -> Ring:
    made = np.empty((rho.size, tree.words(columns)), np.int64)
    deal_points(rho, *roots, serials(rho.size), PLACE, tree, columns, Q, made)
    return made


def serials(count: int) -> Ring:
    """Rows of three values where that comes out, else a row of one each."""
    return np.arange(100, 100 + (count // 3 if count % 3 == 0 else count))


def shares(c: Ring, root: Ring, role: int, key: Ring, tree: Tree, table: Ring) -> Ring:
    out = np.empty_like(c)
    read_points(c, root, role, serials(c.size), PLACE, key, tree, table, signed_binomials(table.shape[0] - 1), Q, out)
    return out


def place(c: int, rho: int, tree: Tree) -> tuple[int, int]:
    """(stage, leaf) of ρ for the opened c: the first stage in which it lies REFINED cells or more below c, or the last."""
    for stage in range(tree.stages + 1):
        cell = tree.cell(stage)
        apart = ((c >> cell) - (rho >> cell)) % (1 << (tree.lo + tree.depth - cell))
        if apart >= tree.first(stage):
            break
    return stage, tree.starts[stage] + apart - tree.first(stage)


def expected(c: Ring, rho: Ring, tree: Tree, table: Ring) -> Ring:
    """The polynomial of ρ's cell, expanded as the evaluators do, in the ring."""
    columns = table.shape[0]
    binomial, out = signed_binomials(columns - 1), np.zeros_like(c)
    for i in range(c.size):
        stage, leaf = place(int(c[i]), int(rho[i]), tree)
        powers = np.empty((2, columns), np.int64)
        fixed_powers(np.array([c[i], rho[i]]), tree.cell(stage), columns - 1, Q, powers)
        for e in range(columns):
            factor = sum(binomial[k, e] * table[k, leaf] * powers[0, k - e] for k in range(e, columns))
            out[i] += ((factor + (1 << (Q - 1))) >> Q) * powers[1, e]
    return out


@given(tree=trees, columns=st.integers(2, 4), count=st.sampled_from((0, 1, 7, 8, 9, 30)), seed=st.integers(0, 2**32 - 1))
@few
def test_the_shares_differ_by_the_polynomial_of_one_cell(tree: Tree, columns: int, count: int, seed: int) -> None:
    """With coefficients at random in every leaf: what another leaf added would be seen."""
    rng = np.random.default_rng(seed)
    table = words(rng, columns, tree.starts[-1]) >> 20
    rho, roots = words(rng, count), (words(rng, count, 2), words(rng, count, 2))
    x = rng.integers(0, 1 << rng.integers(1, tree.lo + tree.depth, count), count)  # of every size
    key = keys(rho, roots, tree, columns)
    one, two = (shares(x + rho, roots[i], i + 1, key, tree, table) for i in (0, 1))
    np.testing.assert_array_equal(one - two, expected(x + rho, rho, tree, table))


@pytest.mark.parametrize("tree", TREES[:3])
def test_for_every_argument_there_is_one_cell_whatever_is_borrowed(tree: Tree) -> None:
    """All arguments of the window but those of its last cell, under masks that borrow and that do not."""
    size, last = 1 << (tree.lo + tree.depth), 1 << tree.cell(0)
    x = np.arange(0, size - last, max(1, size >> 12))
    rng = np.random.default_rng(0)
    table = words(rng, 4, tree.starts[-1]) >> 20
    for rho in (0, size - 1, last - 1, -last, int(rng.integers(0, size))):
        masks, roots = np.full(x.size, rho), (words(rng, x.size, 2), words(rng, x.size, 2))
        key = keys(masks, roots, tree, 4)
        one, two = (shares(x + rho, roots[i], i + 1, key, tree, table) for i in (0, 1))
        np.testing.assert_array_equal(one - two, expected(x + rho, masks, tree, table))


def test_cells_are_as_narrow_as_an_argument_is_small() -> None:
    tree, rng = Tree(9, 6, 9), np.random.default_rng(3)
    for size in range(tree.lo + 4, tree.lo + tree.depth - 1):
        x, rho = int(rng.integers(1 << size, 2 << size)), int(rng.integers(0, 1 << 60))
        stage, _ = place(x + rho, rho, tree)
        assert (REFINED - 1) << tree.cell(stage) <= x
        assert stage == 0 or x < (REFINED + 1) << tree.cell(stage - 1)


@pytest.mark.parametrize("role", [1, 2])
def test_a_key_is_noise_to_whom_holds_one_root(role: int) -> None:
    """With the same root of its own, for one ρ and for another: every byte of the keys is uniform, and no word comes twice."""
    tree, count = Tree(3, 5, 1), 1 << 14
    rng = np.random.default_rng(role)
    mine = np.tile(words(rng, 1, 2), (count, 1))
    for rho in (0, 1234567):
        other = words(rng, count, 2)
        key = keys(np.full(count, rho, np.int64), (mine, other) if role == 1 else (other, mine), tree, 4)
        seen = [Histogram() for _ in key.T]
        for histogram, column in zip(seen, key.T, strict=True):
            histogram.add(column, 64)
        values = [p for histogram in seen for p in histogram.p_values()]
        assert min(values) * len(values) > 1e-6
        assert np.unique(key).size == key.size


def grown(seed: list[int], salt: bytes) -> list[int]:
    """A seed's block, as eight numbers."""
    made = block(b"".join(word.to_bytes(8, "little") for word in seed), salt)
    return [int.from_bytes(made[at : at + 8], "little") for at in range(0, 64, 8)]


def textbook(rho: int, roots: tuple[list[int], list[int]], salt: bytes, tree: Tree, columns: int) -> list[int]:
    """A key as Boyle, Gilboa and Ishai write it down (figure 1 of 2016), in Python's numbers."""
    nodes = [([root[0] >> 2 << 2, root[1]], party) for party, root in enumerate(roots)]
    levels, cells = list[int](), list[int]()
    for level in range(tree.depth + 1):
        one, two = (grown(seed, salt) for seed, _ in nodes)
        stage, rest = divmod(level - tree.top, 2)
        if stage >= 0 and not rest:
            powers = np.empty((1, columns), np.int64)
            fixed_powers(np.array([rho]), tree.cell(stage), columns - 1, Q, powers)
            sign = -1 if nodes[1][1] else 1
            cells += [sign * (int(powers[0, e]) - one[4 + e] + two[4 + e]) % 2**64 for e in range(columns)]
        if level == tree.depth:
            break
        keep = rho >> (tree.lo + tree.depth - 1 - level) & 1
        lose = 1 - keep
        seed = [(one[2 * lose] ^ two[2 * lose]) >> 2 << 2, one[2 * lose + 1] ^ two[2 * lose + 1]]
        bits = [(one[0] ^ two[0] ^ keep ^ 1) & 1, (one[2] ^ two[2] ^ keep) & 1]
        levels += [seed[0] | bits[0] | bits[1] << 1, seed[1]]
        nodes = [
            ([own[2 * keep] >> 2 << 2 ^ t * seed[0], own[2 * keep + 1] ^ t * seed[1]], own[2 * keep] & 1 ^ t & bits[keep])
            for own, (_, t) in zip((one, two), nodes, strict=True)
        ]
    return levels + cells


@given(tree=trees, columns=st.integers(2, 4), seed=st.integers(0, 2**32 - 1))
@few
def test_a_key_is_the_textbooks_word_for_word(tree: Tree, columns: int, seed: int) -> None:
    """So no words of two blocks' are ever the same ones: a sum of what serves twice would look random all the same."""
    rng = np.random.default_rng(seed)
    rho, roots = words(rng, 6), (words(rng, 6, 2), words(rng, 6, 2))
    key = keys(rho, roots, tree, columns)
    for i in range(6):
        salt = np.array([100 + i // 3, PLACE + i % 3]).tobytes()
        ends = [[int(word) for word in root[i].view(np.uint64)] for root in roots]
        assert [int(word) for word in key[i].view(np.uint64)] == textbook(int(rho[i]), (ends[0], ends[1]), salt, tree, columns)


@pytest.mark.parametrize("tree", TREES[1:4])
def test_each_bit_of_a_root_changes_every_word_of_its_key(tree: Tree) -> None:
    """126 bits a root: the lowest two of its first word are no part of it."""
    rng = np.random.default_rng(tree.lo)
    count = 128
    rho, roots = np.repeat(words(rng, 1), count), (np.tile(words(rng, 1, 2), (count, 1)), np.tile(words(rng, 1, 2), (count, 1)))

    def at_one_place(*ends: Ring) -> Ring:
        made = np.empty((count, tree.words(4)), np.int64)
        for i in range(count):  # each in the place of the others, so that nothing but the bit is different
            deal_points(
                rho[i : i + 1], ends[0][i : i + 1], ends[1][i : i + 1], np.array([7]), PLACE, tree, 4, Q, made[i : i + 1]
            )
        return made

    for party in (0, 1):
        ends = [root.copy() for root in roots]
        for i in range(count):
            ends[party][i, i // 64] ^= np.int64(1) << np.int64(i % 64)
        key = at_one_place(*ends)
        whole = at_one_place(*roots)[0]
        assert (key[:2] == whole).all()
        assert (key[2:] != whole).all()
        assert np.unique(key[2:]).size == key[2:].size


def test_the_same_roots_in_another_place_are_another_key() -> None:
    tree, rng = TREES[1], np.random.default_rng(6)
    rho, roots = np.zeros(1, np.int64), (words(rng, 1, 2), words(rng, 1, 2))
    made = []
    for row, place in ((5, PLACE), (6, PLACE), (5, PLACE + (1 << 32)), (5, PLACE + (1 << 48))):
        key = np.empty((1, tree.words(4)), np.int64)
        deal_points(rho, *roots, np.array([row]), place, tree, 4, Q, key)
        made.append(key)
    together = np.concatenate(made)
    assert np.unique(together).size == together.size


def test_the_holder_of_both_roots_alone_could_tell_masks_apart() -> None:
    """What the test above relies on: under fixed roots two masks' keys differ, from the first level at which they part."""
    tree, rng = Tree(3, 5, 1), np.random.default_rng(5)
    roots = words(rng, 1, 2), words(rng, 1, 2)
    one, two = (keys(np.array([rho]), roots, tree, 4)[0] for rho in (0b0000000_000, 0b0000100_000))
    at = 2 * 4  # bit 5 of ρ: level 4 of 7
    np.testing.assert_array_equal(one[:at], two[:at])
    assert (one[at:] != two[at:]).all()
