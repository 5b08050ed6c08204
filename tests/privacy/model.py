"""The masks of a shared model: each tensor's own, and both nodes' independent of each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from engine.models.config import ModelSpec
from engine.parties import masks
from engine.parties.dealer import Dealer
from engine.parties.pack import NodePack, OnlineHalves
from engine.parties.plain import Plain
from engine.prf import Stream
from engine.provision import masking
from tests.privacy.ledger import Draw, LeakError, Ledger
from tests.privacy.reference import Words, prefix_mask, require_free, tensor_mask
from tests.privacy.small import CONTEXT, Shared, small

SHARINGS = 620  # 100 more than two seeds have bits


@contextmanager
def small_tiles() -> Iterator[None]:
    """Tiles of a few rows, so that each tensor of the small model has several and a rest."""
    small()  # which every test shares, has tiles as they are
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "TILE_WORDS", 200)
        yield


def shared_anew() -> Shared:
    """The small model, shared once more, tile by small tile."""
    model = small()
    seeds, packs = masking.in_memory(model.spec, model.weights.__getitem__)
    return Shared(model.spec, seeds, packs, model.weights)


def plain_words(model: Shared) -> dict[str, Words]:
    """What is masked, by the names under which a pack holds it."""
    spec = model.spec
    words = {name: masking.encoded(spec, name, model.weights[name]) for name in spec.tensors()}
    plain = Plain(spec, model.weights.__getitem__, context=len(spec.prefix))
    plain.run(spec.prefix, answers=1)
    for layer in range(spec.layers):
        bits = spec.scales.activation
        words[f"prefix.{layer}.0"] = np.rint(plain.keys[layer] * 2.0**bits).astype(np.int64)
        words[f"prefix.{layer}.1"] = np.rint(plain.values[layer] * 2.0 ** (bits + spec.layer[layer].value_extra)).astype(
            np.int64
        )
    return words


def masked_words(pack: NodePack) -> dict[str, Words]:
    """A pack's words, by the same names."""
    prefixes = {f"prefix.{layer}.{which}": pair[which] for layer, pair in enumerate(pack.prefixes) for which in (0, 1)}
    return {**pack.masked, **prefixes}


def own_mask(seed: bytes, spec: ModelSpec, name: str, shape: tuple[int, ...]) -> Words:
    """The mask that a node's seed gives a tensor, or a layer's keys or values of the prefix."""
    if not name.startswith("prefix"):
        return tensor_mask(seed, spec, name)
    _, layer, which = name.split(".")
    return prefix_mask(seed, int(layer), int(which), shape)


def check_packs() -> int:
    """Move a model's words mask by mask: each tensor, and each layer's K and V of the prefix, is under a mask of its own from
    either seed, of whose words none comes twice. Returns the number of masked words.
    """
    with small_tiles():
        model = shared_anew()
        plain, seen = plain_words(model), []
        for name, words in masked_words(model.packs[0]).items():
            one, two = (own_mask(seed, model.spec, name, words.shape) for seed in model.seeds)
            if not np.array_equal(words - one - two, plain[name]):
                raise LeakError(f"{name} is not under the two masks of its own")
            if not np.array_equal(words, masked_words(model.packs[1])[name]):
                raise LeakError(f"the nodes hold {name} under different masks")
            seen += [one.reshape(-1), two.reshape(-1)]
        together = np.concatenate(seen)
        if np.unique(together).size != together.size:
            raise LeakError("two words of the model are under one mask")
        return together.size // 2


def check_seed_streams() -> None:
    """Sharing draws no byte of a model seed twice, and what parties draw of it later lies within what was drawn then."""
    ledger = Ledger()
    with small_tiles(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "Stream", lambda key: Stream(key, ledger.record("model", key)))
        model, spec = small(), small().spec
        seeds = masking.fresh_seeds()
        words = dict(masking.masked_words(spec, model.weights.__getitem__, seeds))
        ledger.check_nothing_twice()
        masked = {owner: list(draws) for owner, draws in ledger.draws.items()}
        if len(masked) != 2 or sum(draw.stop - draw.start for draws in masked.values() for draw in draws) != 16 * sum(
            array.size for array in words.values()
        ):
            raise LeakError("a word of the model has not two masks of its own")
        ledger.draws.clear()
        _use(Shared(spec, seeds, model.packs, model.weights))
        for owner, draws in ledger.draws.items():
            whole = {draw.address: draw for draw in masked[owner]}
            if any(not _within(draw, whole.get(draw.address)) for draw in draws):
                raise LeakError("a party draws of a model's seed what masks nothing of the model")


def _use(model: Shared) -> None:
    """Everything that reads a model's masks: the dealer's products, rows of the embedding, and both nodes' halves."""
    spec = model.spec
    keys = [bytes([i]) * 32 for i in range(1, 4)]
    dealer = Dealer(spec, model.seeds, (keys[0], keys[1]), keys[2], prefix=len(spec.prefix), context=CONTEXT)
    for _ in dealer.deal(2):
        pass
    dealer.request([0, spec.vocab - 1])
    for role, pack in enumerate(model.packs, 1):
        seeds = masks.SeedStream(model.seeds[role - 1], spec)
        drawn = NodePack(role, spec, pack.masked, {}, pack.tables, pack.prefixes, seeds, pack.digest, pack.model_digest)
        halves = OnlineHalves(drawn)
        for name, (outer, inner) in spec.tensors().items():
            halves.multiply(name, np.ones((2, inner), np.int64), np.zeros((2, outer), np.int64))
        for layer in range(spec.layers):
            drawn.prefix(layer, 0)
            drawn.prefix(layer, 1)


def _within(draw: Draw, whole: Draw | None) -> bool:
    return whole is not None and whole.start <= draw.start and draw.stop <= whole.stop


def check_seeds() -> None:
    """Both seeds of a sharing come from the operating system as they are, and no bit of either follows from the others."""
    handed: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        inner = masking.os.urandom

        def urandom(count: int) -> bytes:
            handed.append(inner(count))
            return handed[-1]

        patch.setattr(masking.os, "urandom", urandom)
        pairs = [masking.fresh_seeds() for _ in range(SHARINGS)]
    drawn = b"".join(handed)
    if b"".join(one + two for one, two in pairs) != drawn:
        raise LeakError("a model's seeds are not what the operating system gave")
    require_free([one + two for one, two in pairs], "a model's seeds")
