"""The model's masks, drawn from the two model seeds: never stored, read where they are needed."""

from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from engine.host.process import sparse
from engine.models.config import ModelSpec
from engine.prf import FAST, Label, Stream, require_apart
from engine.ring.fixed import Ring
from engine.ring.kernels.linear import PART_ROWS, add_into, adder

TILE_WORDS = 1 << 16
"""Of a matrix's mask at a time: two streams of it stay in a core's cache. Each tile's mask has an address of its own in its
model seed's stream, so this number is part of what a pack is.
"""


def _tile_rows(inner: int) -> int:
    return max(4, TILE_WORDS // inner // 4 * 4)


def tiles(outer: int, inner: int, fewest: int = 1) -> Iterator[tuple[int, int]]:
    """(first row, one behind the last) of the tiles of a matrix [outer, inner], or of several together that have `fewest` rows;
    each begins at an even word.
    """
    one = _tile_rows(inner)
    step = -(-fewest // one) * one
    return ((start, min(start + step, outer)) for start in range(0, outer, step))


class SeedStream:
    """The masks that one model seed gives: of a tensor's tile t, those at row t of the tensor's section, from `FAST` on."""

    def __init__(self, seed: bytes, spec: ModelSpec) -> None:
        self._seed, self._spec = seed, spec
        self._stream = Stream(seed)
        self._tensors = {name: (i, _tile_rows(inner) * inner) for i, (name, (_, inner)) in enumerate(spec.tensors().items())}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a model's seed is secret and is never pickled")

    def again(self) -> "SeedStream":
        """The same masks by a cipher of its own: threads that share one wait for each other."""
        return SeedStream(self._seed, self._spec)

    def fill(self, weight: str, out: Ring, start: int = 0) -> None:
        """The mask words of a tensor (row-major) from word `start` (even) on; fastest tile by tile."""
        section, words = self._tensors[weight]
        flat, at = out.reshape(-1), 0
        while at < flat.size:
            tile, inside = divmod(start + at, words)
            part = flat[at : at + words - inside]
            self._stream.fill(part, Label.WEIGHT, tile, section, 0, FAST + 8 * inside)
            at += part.size

    def prefix(self, layer: int, which: int, shape: tuple[int, ...]) -> Ring:
        """The mask of the public prefix's keys (which = 0) or values (1), [kv_heads, tokens, head_dim]."""
        return self._stream.words(int(np.prod(shape)), Label.PREFIX, 0, layer, which).reshape(shape)


class ModelMasks:
    """Λ_W = λ_W1 + λ_W2 for the dealer, and its caches of λ_K and λ_V, [kv_heads, context, head_dim] a layer."""

    def __init__(self, spec: ModelSpec, seeds: tuple[bytes, bytes], prefix: int, context: int) -> None:
        require_apart(seeds)
        self.spec = spec
        self._one, self._two = SeedStream(seeds[0], spec), SeedStream(seeds[1], spec)
        self._tiles = np.empty((2, 0), np.int64)  #: kept: fresh memory for each tile costs as much as filling it
        room = sparse(2, spec.layers, spec.kv_heads, context, spec.head_dim)
        self.keys, self.values = list(room[0]), list(room[1])
        whole = (spec.kv_heads, len(spec.prefix), spec.head_dim)
        for layer in range(spec.layers):
            for which, cache in ((0, self.keys[layer]), (1, self.values[layer])):
                mask = self._one.prefix(layer, which, whole) + self._two.prefix(layer, which, whole)
                cache[:, :prefix] = mask[:, :prefix]

    def matmul(self, x: Ring, weight: str) -> Ring:
        """``x @ Λ_W.T`` for x [rows, in], the mask drawn tile by tile; modulo 2^40 where no more is read."""
        outer, inner = self.spec.tensors()[weight]
        out = np.empty((x.shape[0], outer), np.int64)
        add = adder(np.ascontiguousarray(x), low40=weight in self.spec.low40)
        for start, stop in tiles(outer, inner, PART_ROWS):
            words = (stop - start) * inner
            if self._tiles[0].size < words:
                self._tiles = np.empty((2, words), np.int64)
            a, b = self._tiles[0, :words], self._tiles[1, :words]
            self._one.fill(weight, a, start * inner)
            self._two.fill(weight, b, start * inner)
            add_into(a, b, a)
            part = np.zeros((x.shape[0], stop - start), np.int64)
            add(a.reshape(-1, inner), part)
            out[:, start:stop] = part
        return out

    def embedding_row(self, token: int) -> Ring:
        """Λ_E of one token, [d_model]."""
        d = self.spec.d_model
        start = token * d
        odd = start % 2
        one, two = np.empty(d + odd, np.int64), np.empty(d + odd, np.int64)
        self._one.fill("embed", one, start - odd)
        self._two.fill("embed", two, start - odd)
        return (one + two)[odd:]
