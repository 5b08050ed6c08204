"""A model's masks: each tile of a tensor has an address of its own, and reading in parts gives the same words."""

from __future__ import annotations

import numpy as np
import pytest

from engine.parties import masks
from engine.parties.masks import ModelMasks, SeedStream, tiles
from engine.prf import FAST, Label, Stream
from tests.engine.trio import key, small_model

SEED = key("a model's seed")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 20 rows of the small model's matrices, so that each has several and a rest."""
    monkeypatch.setattr(masks, "TILE_WORDS", 20 * small_model().spec.d_model)


def test_a_tile_is_a_row_of_its_tensors_section() -> None:
    spec = small_model().spec
    outer, inner = spec.tensors()["0.qkv"]
    mask = np.empty((outer, inner), np.int64)
    SeedStream(SEED, spec).fill("0.qkv", mask)
    section = list(spec.tensors()).index("0.qkv")
    assert len(list(tiles(outer, inner))) > 2
    for tile, (start, stop) in enumerate(tiles(outer, inner)):
        expected = Stream(SEED).words((stop - start) * inner, Label.WEIGHT, tile, section, 0, FAST // 8)
        np.testing.assert_array_equal(mask[start:stop].reshape(-1), expected)


def test_no_two_tiles_have_the_same_words() -> None:
    spec = small_model().spec
    stream, seen = SeedStream(SEED, spec), set()
    for name, (outer, inner) in spec.tensors().items():
        mask = np.empty(outer * inner, np.int64)
        stream.fill(name, mask)
        seen.update(mask.tolist())
    assert len(seen) == sum(outer * inner for outer, inner in spec.tensors().values())


@pytest.mark.parametrize(("start", "count"), [(0, 1), (2, 957), (958, 4), (960, 960), (1900, 3000), (48 * 306, 48)])
def test_any_run_of_words_may_be_read_alone(start: int, count: int) -> None:
    spec = small_model().spec
    stream, whole = SeedStream(SEED, spec), np.empty(spec.tensors()["embed"], np.int64)
    stream.fill("embed", whole)
    part = np.empty(count, np.int64)
    stream.fill("embed", part, start)
    np.testing.assert_array_equal(part, whole.reshape(-1)[start : start + count])


def test_the_dealers_product_is_that_with_both_masks() -> None:
    model = small_model()
    seeds = key("one"), key("two")
    lam = [np.empty(model.spec.tensors()["1.down"], np.int64) for _ in seeds]
    for seed, mask in zip(seeds, lam, strict=True):
        SeedStream(seed, model.spec).fill("1.down", mask)
    dealer = ModelMasks(model.spec, seeds, len(model.spec.prefix), 32)
    x = np.random.default_rng(1).integers(-(1 << 63), 1 << 63, (3, model.spec.d_ffn), dtype=np.int64)
    np.testing.assert_array_equal(dealer.matmul(x, "1.down"), x @ (lam[0] + lam[1]).T)
    row = dealer.embedding_row(model.spec.vocab - 1)
    last = [np.empty(model.spec.tensors()["embed"], np.int64) for _ in seeds]
    for seed, mask in zip(seeds, last, strict=True):
        SeedStream(seed, model.spec).fill("embed", mask)
    np.testing.assert_array_equal(row, (last[0] + last[1])[-1])
