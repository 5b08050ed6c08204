"""Leaks of a model's masks and seeds and of roots, planted into the real code, each kind in two places or more; those of
indices, keys and pace are in session_leaks.py.

All leave every answer right, but for those that are refused at run time (`REFUSED`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.parties import masks
from engine.parties.masks import SeedStream
from engine.prf import FAST, Label
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.provision import masking
from engine.ring.fixed import Ring
from engine.rows.run import Extent
from tests.privacy import session_leaks
from tests.privacy.mutants import alter_kappa

Words = NDArray[np.int64]
Patch = pytest.MonkeyPatch


# The public prefix's keys and values


def prefix_under(patch: Patch, place: Callable[[int, int, int], tuple[int, int]]) -> None:
    """`place(layer, which, layers)` gives the address in place of (layer, which)."""

    def prefix(self: SeedStream, layer: int, which: int, shape: tuple[int, ...]) -> Ring:
        section, slot = place(layer, which, self._spec.layers)
        return self._stream.words(int(np.prod(shape)), Label.PREFIX, 0, section, slot).reshape(shape)

    patch.setattr(SeedStream, "prefix", prefix)


def prefix_values_under_the_keys_masks(patch: Patch) -> None:
    """K + λ and V + λ: the nodes read K - V."""
    prefix_under(patch, lambda layer, which, layers: (layer, 0))


def prefix_values_under_the_next_layers_keys_masks(patch: Patch) -> None:
    """V of a layer and K of the next one."""
    prefix_under(patch, lambda layer, which, layers: ((layer + which) % layers, 0))


def prefix_layers_under_one_mask(patch: Patch) -> None:
    """K of all layers."""
    prefix_under(patch, lambda layer, which, layers: (layer if which else 0, which))


# Roots of point functions


def _byte(word: int, byte: int) -> Callable[[Words], Words]:
    """Leaves of each root one byte."""

    def kept(words: Words) -> Words:
        pairs = np.zeros_like(words.reshape(-1, 2))
        pairs[:, word] = words.reshape(-1, 2)[:, word] & (np.int64(255) << np.int64(8 * byte))
        return pairs.reshape(words.shape)

    return kept


def roots_of_8_bits(patch: Patch) -> None:
    """2^8 trials find either root, and a pair of both tells ρ."""
    alter_kappa(patch, "lookup_wide", "root", _byte(0, 1))


def roots_of_another_byte(patch: Patch) -> None:
    """The same, of the second word."""
    alter_kappa(patch, "lookup_wide", "root", _byte(1, 6))


def roots_short_of_a_bit(patch: Patch) -> None:
    """One bit of 126 never counts."""
    alter_kappa(patch, "lookup_wide", "root", lambda words: words & ~(np.int64(1) << np.int64(40)))


def _second_roots(patch: Patch, change: Callable[[Any, Words], Words]) -> None:
    """The second evaluator's roots alone are changed, `change(side, words)`."""
    evaluate, deal = Evaluation.kappa, Dealing.kappa

    def evaluators(self: Evaluation, slot: str, extent: Extent) -> Words:
        words = evaluate(self, slot, extent)
        return change(self, words) if slot == "root" and self.role == 2 else words

    def dealers(self: Dealing, slot: str, extent: Extent) -> tuple[Words, Words]:
        one, two = deal(self, slot, extent)
        return (one, change(self, two)) if slot == "root" else (one, two)

    patch.setattr(Evaluation, "kappa", evaluators)
    patch.setattr(Dealing, "kappa", dealers)


def second_roots_of_8_bits_in_one_layer(patch: Patch) -> None:
    """2^16 trials find E2's root, in the second layer alone."""
    _second_roots(patch, lambda side, words: _byte(0, 3)(words) if side.section == 2 else words)


def one_root_for_all_heads(patch: Patch) -> None:
    """The keys of a row's heads grow from one root of E2's."""

    def shared(side: Any, words: Words) -> Words:
        del side
        rows = words.reshape(words.shape[0], -1, 2)
        return np.ascontiguousarray(np.broadcast_to(rows[:, :1], rows.shape)).reshape(words.shape)

    _second_roots(patch, shared)


# Model seeds and the masks of tensors


def _seeds_of(patch: Patch, second: Callable[[bytes], bytes]) -> None:
    fresh = masking.fresh_seeds

    def seeds() -> tuple[bytes, bytes]:
        one, _ = fresh()
        return one, second(one)

    patch.setattr(masking, "fresh_seeds", seeds)


def equal_seeds(patch: Patch) -> None:
    """Either node knows both masks."""
    _seeds_of(patch, bytes)


def seeds_apart_by_a_byte(patch: Patch) -> None:
    """Either node finds the other's seed in 256 trials."""
    _seeds_of(patch, lambda one: one[:-1] + masking.os.urandom(1))


def second_seed_from_the_first(patch: Patch) -> None:
    """The same, without a trial."""
    _seeds_of(patch, lambda one: bytes(byte ^ 0x5A for byte in one))


def second_seed_is_the_firsts_hash(patch: Patch) -> None:
    """The same, and no bit shows it."""
    _seeds_of(patch, lambda one: hashlib.sha256(one).digest())


def _tensors_under(patch: Patch, place: Callable[[int, int], tuple[int, int]]) -> None:
    """`place(tile, section)` gives the address in place of (tile, section)."""

    def fill(self: SeedStream, weight: str, out: Ring, start: int = 0) -> None:
        section, words = self._tensors[weight]
        flat, at = out.reshape(-1), 0
        while at < flat.size:
            tile, inside = divmod(start + at, words)
            part = flat[at : at + words - inside]
            row, other = place(tile, section)
            self._stream.fill(part, Label.WEIGHT, row, other, 0, FAST + 8 * inside)
            at += part.size

    patch.setattr(masks.SeedStream, "fill", fill)


def one_mask_for_all_tensors(patch: Patch) -> None:
    """The nodes read the differences of matrices."""
    _tensors_under(patch, lambda tile, section: (tile, 0))


def one_mask_for_all_layers(patch: Patch) -> None:
    """The same, of a layer's and the next one's."""
    _tensors_under(patch, lambda tile, section: (tile, (section - 1) % 5 + 1 if section else 0))


def one_mask_for_all_tiles(patch: Patch) -> None:
    """The same, of parts of one matrix."""
    _tensors_under(patch, lambda tile, section: (0, section))


def tiles_that_run_into_the_next_tensor(patch: Patch) -> None:
    """The second tile of a matrix has the mask of the next one's first."""
    _tensors_under(patch, lambda tile, section: (0, section + tile))


CAUGHT_BY: dict[Callable[[Patch], None], str] = {
    prefix_values_under_the_keys_masks: "packs",
    prefix_values_under_the_next_layers_keys_masks: "packs",
    prefix_layers_under_one_mask: "seed streams",
    roots_of_8_bits: "roots",
    roots_of_another_byte: "roots",
    roots_short_of_a_bit: "roots",
    second_roots_of_8_bits_in_one_layer: "roots",
    one_root_for_all_heads: "roots",
    equal_seeds: "seeds",
    seeds_apart_by_a_byte: "seeds",
    second_seed_from_the_first: "seeds",
    second_seed_is_the_firsts_hash: "seeds",
    one_mask_for_all_tensors: "packs",
    one_mask_for_all_layers: "seed streams",
    one_mask_for_all_tiles: "seed streams",
    tiles_that_run_into_the_next_tensor: "packs",
    **session_leaks.CAUGHT_BY,
}
"""The check of test_leaks.py that sees each."""

REFUSED = {equal_seeds, seeds_apart_by_a_byte, session_leaks.equal_keys, session_leaks.keys_that_are_half_the_same}
"""Refused at run time, whatever the tests see."""

FIRST = {
    prefix_values_under_the_keys_masks,
    session_leaks.index_by_position,
    session_leaks.index_below_16,
    roots_of_8_bits,
    seeds_apart_by_a_byte,
    second_seed_from_the_first,
    one_mask_for_all_tensors,
    one_mask_for_all_tiles,
    session_leaks.equal_keys,
    session_leaks.keys_apart_by_a_constant,
    session_leaks.blocks_by_the_token,
    session_leaks.a_pause_before_a_block_by_the_token,
}
"""Tried in every run; the others in the long ones."""
