"""Halves that are drawn while multiplying are, to the bit, those that are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.parties import masks
from engine.parties.masks import SeedStream
from engine.parties.pack import NodePack, OnlineHalves, half_bytes, node_pack
from engine.ring.kernels.linear import Low40
from tests.engine.gates.alone import words
from tests.engine.trio import Model, Trio, key, prompt, small_model

WEIGHTS = ("0.qkv", "0.gate", "0.down", "2.o", "head")


def drawn(pack: NodePack) -> NodePack:
    """The same pack, nothing stored."""
    return replace(pack, stored={})


@pytest.fixture(params=[1 << 4, 1 << 10, masks.TILE_WORDS])
def tile_words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of four rows, of a few rows with a rest, and one for all."""
    small_model()  # made once, for other tests too: with the tiles that packs have
    monkeypatch.setattr(masks, "TILE_WORDS", request.param)
    return int(request.param)


@pytest.mark.usefixtures("tile_words")
@pytest.mark.parametrize("role", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 64])
def test_drawn_products_equal_stored_ones(role: int, rows: int) -> None:
    model = small_model()
    pack = node_pack(role, model.spec, model.seeds[role - 1], model.packs[role - 1].masked, [], {}, ("", ""))
    stored, fresh = OnlineHalves(pack), OnlineHalves(drawn(pack))
    rng = np.random.default_rng(rows)
    for weight in WEIGHTS:
        outer, inner = pack.spec.tensors()[weight]
        x, before = words(rng, rows, inner), words(rng, rows, outer)
        one, two = before.copy(), before.copy()
        stored.multiply(weight, x, one)
        fresh.multiply(weight, x, two)
        read = (1 << 40) - 1 if weight in pack.spec.low40 else -1
        np.testing.assert_array_equal(one & read, two & read)
        assert not np.array_equal(one, before)


def test_no_more_is_stored_of_a_half_than_is_read() -> None:
    pack = small_model().packs[0]
    assert {name for name, half in pack.stored.items() if isinstance(half, Low40)} == pack.spec.low40
    assert {"head", "0.gate", "2.gate"} <= pack.spec.low40
    assert sum(part.nbytes for half in pack.stored.values() for part in (half if isinstance(half, Low40) else (half,))) == (
        half_bytes(pack.spec)
    )


def test_tables_are_held_short_where_they_can_be() -> None:
    """Half to read: SiLU's values have 21 bits at most, an exponential's more."""
    kinds = {name: table.dtype for name, table in small_model().packs[0].tables.items()}
    assert kinds["0.silu"] == np.int32
    assert kinds["exp"] == kinds["pow.fine"] == kinds["0.mlp_norm"] == kinds["reciprocal"] == np.int64


@pytest.mark.parametrize("role", [1, 2])
def test_the_halves_are_the_formula(role: int) -> None:
    model = small_model()
    pack = model.packs[role - 1]
    for weight in WEIGHTS:
        lam = np.empty(pack.masked[weight].shape, np.int64)
        SeedStream(model.seeds[role - 1], model.spec).fill(weight, lam)
        x = words(np.random.default_rng(1), 2, lam.shape[1])
        out = np.zeros((2, lam.shape[0]), np.int64)
        OnlineHalves(drawn(pack)).multiply(weight, x, out)
        np.testing.assert_array_equal(out, x @ (pack.masked[weight] - lam if role == 1 else -lam).T)


def test_the_two_evaluators_halves_add_up_to_the_matrix() -> None:
    model = small_model()
    weight = "1.up"
    x = words(np.random.default_rng(2), 3, model.spec.d_model)
    out = np.zeros((3, model.spec.d_ffn), np.int64)
    for pack in (model.packs[0], drawn(model.packs[1])):
        OnlineHalves(pack).multiply(weight, x, out)
    bits = model.spec.weight_bits[weight]
    np.testing.assert_array_equal(out, x @ np.rint(model.weights[weight] * 2.0**bits).astype(np.int64).T)


def test_what_is_drawn_takes_no_memory_of_a_matrix_size() -> None:
    model = small_model()
    pack = node_pack(1, model.spec, model.seeds[0], model.packs[0].masked, [], {}, ("", ""), stored=False)
    assert pack.stored == {}
    assert set(model.packs[0].stored) == set(model.spec.tensors()) - {"embed"}


@pytest.mark.parametrize("which", [(True, True), (True, False)])
def test_a_step_with_drawn_halves_sends_the_same_bytes(which: tuple[bool, bool]) -> None:
    model = small_model()
    packs = [drawn(pack) if is_drawn else pack for pack, is_drawn in zip(model.packs, which, strict=True)]
    other = Model(model.spec, model.weights, model.seeds, (packs[0], packs[1]))
    for tokens in (prompt(7), prompt(1)):
        expected, made = (Trio(m, seed=5).step(tokens) for m in (model, other))
        assert made.sent == expected.sent
        np.testing.assert_array_equal(made.logits, expected.logits)


def test_a_seed_is_not_pickled_and_its_copy_gives_the_same_masks() -> None:
    spec = small_model().spec
    stream = SeedStream(key("a seed"), spec)
    one, two = np.empty(10, np.int64), np.empty(10, np.int64)
    stream.fill("0.o", one)
    stream.again().fill("0.o", two)
    np.testing.assert_array_equal(one, two)
    with pytest.raises(TypeError, match="never pickled"):
        stream.__reduce__()
    for shown in (repr(stream), repr(OnlineHalves(small_model().packs[0]))):
        assert key("a seed").hex() not in shown
        assert str(key("a seed")) not in shown
