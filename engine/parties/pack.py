"""A model as a node holds it: masked matrices, one mask seed, and the halves of products that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from engine.host.process import long_lived
from engine.models.config import ModelSpec
from engine.parties.masks import SeedStream, tiles
from engine.ring.fixed import Ring
from engine.ring.kernels.linear import PART_ROWS, Low40, adder, multiply_into, multiply_low40_into
from engine.ring.kernels.lookups import Table, shortest
from engine.wire import Secret


@dataclass(frozen=True, slots=True, repr=False)
class NodePack(Secret):
    """`masked`: m_W of each tensor (memory-mapped, the same at both nodes).

    `stored`: A_i = m_W - λ_W1, or -λ_W2, of each tensor but the embedding, as far as its products are read
    (``ModelSpec.low40``); empty where A_i is drawn while multiplying.
    """

    role: int
    spec: ModelSpec
    masked: dict[str, Ring]
    stored: dict[str, Ring | Low40]
    tables: dict[str, Table]
    prefixes: list[tuple[Ring, Ring]]  #: m of the public prefix's (keys, values), a layer
    seeds: SeedStream
    digest: str  #: of this pack
    model_digest: str  #: of what both nodes' packs share

    def prefix(self, layer: int, which: int) -> tuple[Ring, Ring]:
        """(m, A_i) of the prefix's keys (which = 0) or values (1) in a layer, [kv_heads, tokens, head_dim]."""
        masked = self.prefixes[layer][which]
        lam = self.seeds.prefix(layer, which, masked.shape)
        return masked, (masked - lam if self.role == 1 else -lam)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pack is secret and is never pickled")


class OnlineHalves(Secret):
    """x·A_i for one session: from what the pack stores, or with A_i drawn tile by tile.

    A tile stays in the core's cache, is drawn once for all rows and is kept, so that no memory is asked for. Not
    thread-safe: only the session's stepping thread multiplies.
    """

    __slots__ = ("_pack", "_seeds", "_tile")

    def __init__(self, pack: NodePack) -> None:
        self._pack, self._seeds = pack, pack.seeds.again()
        self._tile = np.empty(0, np.int64)

    def multiply(self, weight: str, x: Ring, out: Ring) -> None:
        """``out += x @ A_i.T`` for x [rows, in], A_i [out, in], out [rows, out], all C-contiguous; modulo 2^40 where no more
        is read.
        """
        stored = self._pack.stored.get(weight)
        if isinstance(stored, Low40):
            multiply_low40_into(x, *stored, out)
            return
        if stored is not None:
            multiply_into(x, stored, out)
            return
        masked, first = self._pack.masked[weight], self._pack.role == 1
        if first and x.shape[0] == 1:  # x·m_W - x·λ: two passes over one row cost less than a difference of matrices
            multiply_into(x, masked, out)
        self._drawn(weight, x, out, masked if first and x.shape[0] > 1 else None)

    def _drawn(self, weight: str, x: Ring, out: Ring, masked: Ring | None) -> None:
        """``out -= x @ λ_Wi.T``, or with `masked`: ``out += x @ (masked - λ_Wi).T``."""
        outer, inner = self._pack.spec.tensors()[weight]
        add = adder(x if masked is not None else -x, low40=weight in self._pack.spec.low40)
        for start, stop in tiles(outer, inner, PART_ROWS):
            words = (stop - start) * inner
            if self._tile.size < words:
                self._tile = np.empty(words, np.int64)
            tile = self._tile[:words].reshape(-1, inner)
            self._seeds.fill(weight, tile, start * inner)
            if masked is not None:
                np.subtract(masked[start:stop], tile, out=tile)
            part = np.zeros((x.shape[0], stop - start), np.int64)
            add(tile, part)
            out[:, start:stop] += part


def node_pack(
    role: int,
    spec: ModelSpec,
    seed: bytes,
    masked: dict[str, Ring],
    prefixes: list[tuple[Ring, Ring]],
    tables: dict[str, Ring],
    digests: tuple[str, str],
    *,
    stored: bool = True,
) -> NodePack:
    """A pack; with `stored`, the online halves are made: m_W - λ_W1 at the first evaluator, -λ_W2 at the second."""
    stream = SeedStream(seed, spec)
    halves = _halves(role, stream, spec, masked) if stored else {}
    short = {name: shortest(table) for name, table in tables.items()}
    return NodePack(role, spec, masked, halves, short, prefixes, stream, *digests)


def half_bytes(spec: ModelSpec) -> int:
    """Memory of the stored A_i."""
    words = {name: outer * inner for name, (outer, inner) in spec.tensors().items() if name != "embed"}
    return sum((5 if name in spec.low40 else 8) * count for name, count in words.items())


def _halves(role: int, stream: SeedStream, spec: ModelSpec, masked: dict[str, Ring]) -> dict[str, Ring | Low40]:
    """A_i of each tensor, all in one mapping: in huge pages a processor reads ahead."""
    room, at = long_lived(half_bytes(spec)), 0
    halves: dict[str, Ring | Low40] = {}
    for name in sorted(spec.tensors().keys() - {"embed"}, key=lambda name: name in spec.low40):  # 8-byte words first: aligned
        shape, words = masked[name].shape, masked[name].size
        if name in spec.low40:
            low = room[at : at + 4 * words].view(np.uint32).reshape(shape)
            high = room[at + 4 * words : at + 5 * words].reshape(shape)
            at += 5 * words
            halves[name] = Low40(low, high)
            for start, stop, half in _tiles_of_half(role, stream, name, masked[name]):
                low[start:stop], high[start:stop] = half, half >> 32
        else:
            whole = halves[name] = room[at : at + 8 * words].view(np.int64).reshape(shape)
            at += 8 * words
            for start, stop, half in _tiles_of_half(role, stream, name, masked[name]):
                whole[start:stop] = half
    return halves


def _tiles_of_half(role: int, stream: SeedStream, name: str, masked: Ring) -> Iterator[tuple[int, int, Ring]]:
    for start, stop in tiles(*masked.shape):
        half = np.empty((stop - start, masked.shape[1]), np.int64)
        stream.fill(name, half, start * masked.shape[1])
        yield start, stop, (np.subtract(masked[start:stop], half, out=half) if role == 1 else np.negative(half, out=half))
