"""Matrix products, squares and products of wires are exact modulo 2^64, at odd shapes."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.matmul import matmul
from engine.gates.product import multiply, sum_of_squares
from engine.gates.truncation import as_wire
from engine.parties.gate_trio import Input
from engine.ring.fixed import low
from engine.wire import Rho
from tests.engine.gates.alone import Context, big, play, words, wrapped

ODD = (1, 3, 4, 5, 8, 13)
seeds = st.integers(0, 2**32)
few = settings(max_examples=12)


@given(rows=st.sampled_from(ODD), inner=st.sampled_from(ODD), outer=st.sampled_from(ODD), seed=seeds)
@few
def test_a_matrix_product_is_exact_modulo_2_64(rows: int, inner: int, outer: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = words(rng, rows, inner), words(rng, outer, inner)

    played = play(lambda p, z: matmul(p, as_wire(p, z), "w", outer), Input(x), context=Context({"w": w}), seed=seed)

    np.testing.assert_array_equal(played.out, wrapped(big(x) @ big(w).T))
    assert played.rounds == 1
    assert played.sent[0] == [8 * rows * outer]


def test_every_tile_remainder_of_a_matrix_product() -> None:
    rng = np.random.default_rng(3)
    for rows, outer in product(range(1, 10), repeat=2):
        x, w = words(rng, rows, 3), words(rng, outer, 3)
        played = play(lambda p, z, outer=outer: matmul(p, as_wire(p, z), "w", outer), Input(x), context=Context({"w": w}))
        np.testing.assert_array_equal(played.out, wrapped(big(x) @ big(w).T))


@given(rows=st.sampled_from(ODD), outer=st.sampled_from(ODD), seed=seeds)
@few
def test_five_bytes_open_a_matrix_product_modulo_2_40(rows: int, outer: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = words(rng, rows, 7), words(rng, outer, 7)

    played = play(lambda p, z: matmul(p, as_wire(p, z), "w", outer, low40=True), Input(x), context=Context({"w": w}), seed=seed)

    np.testing.assert_array_equal(played.out, wrapped(big(x) @ big(w).T, 40))
    assert played.sent[0] == [5 * rows * outer]
    c, rho = played.evaluated[0].c, played.dealt
    assert isinstance(rho, Rho)
    assert rho.bits == 40
    np.testing.assert_array_equal(c, low(c, 40))


@given(rows=st.sampled_from(ODD), n=st.sampled_from((1, 2, 3, 5, 64, 65)), seed=seeds)
@few
def test_a_sum_of_squares_is_exact_modulo_2_64(rows: int, n: int, seed: int) -> None:
    x = words(np.random.default_rng(seed), rows, n)

    played = play(lambda p, z: sum_of_squares(p, as_wire(p, z)), Input(x), seed=seed)

    np.testing.assert_array_equal(played.out, wrapped((big(x) ** 2).sum(axis=1, keepdims=True)))
    assert (played.rounds, played.sent[0]) == (1, [8 * rows])


@given(rows=st.sampled_from(ODD), groups=st.sampled_from((1, 2, 3, 7)), each=st.sampled_from((1, 2, 5)), seed=seeds)
@few
def test_a_product_with_a_broadcast_is_exact_modulo_2_64(rows: int, groups: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = words(rng, rows, groups * each), words(rng, rows, groups)

    played = play(lambda p, a, b: multiply(p, as_wire(p, a), as_wire(p, b)), Input(x), Input(y), seed=seed)

    np.testing.assert_array_equal(played.out, wrapped(big(x) * np.repeat(big(y), each, axis=1)))
    assert (played.rounds, played.sent[0]) == (1, [8 * x.size])


def test_independent_products_share_a_round() -> None:
    rng = np.random.default_rng(1)
    x, w, v = words(rng, 2, 5), words(rng, 3, 5), words(rng, 7, 5)

    def program(p: object, z: object) -> tuple[object, ...]:
        a = as_wire(p, z)
        return matmul(p, a, "w", 3), matmul(p, a, "v", 7), sum_of_squares(p, a)

    played = play(program, Input(x), context=Context({"w": w, "v": v}))

    assert played.rounds == 1
    assert played.sent[0] == [8 * 2 * (3 + 7 + 1)]
    np.testing.assert_array_equal(played.outputs[1], wrapped(big(x) @ big(v).T))
