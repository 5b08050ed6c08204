"""A model as a node holds it: masked matrices, one mask seed, and the halves of products that follow from them."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from engine.models.config import ModelSpec
from engine.parties.masks import SeedStream
from engine.ring.fixed import Ring
from engine.wire import Secret


@dataclass(frozen=True, slots=True, repr=False)
class NodePack(Secret):
    """`masked`: m_W of each tensor (memory-mapped, the same at both nodes); `online`: A_i = m_W - λ_W1, or -λ_W2."""

    role: int
    spec: ModelSpec
    masked: dict[str, Ring]
    online: dict[str, Ring]
    tables: dict[str, Ring]
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


def node_pack(
    role: int,
    spec: ModelSpec,
    seed: bytes,
    masked: dict[str, Ring],
    prefixes: list[tuple[Ring, Ring]],
    tables: dict[str, Ring],
    digests: tuple[str, str],
) -> NodePack:
    """Make the online halves: m_W - λ_W1 at the first evaluator, -λ_W2 at the second (not of the embedding table)."""
    stream = SeedStream(seed, spec)
    online: dict[str, Ring] = {}
    for name, shape in spec.tensors().items():
        if name == "embed":
            continue
        half = np.empty(shape, np.int64)
        stream.fill(name, half)
        if role == 1:
            np.subtract(masked[name], half, out=half)
        else:
            np.negative(half, out=half)
        online[name] = half
    return NodePack(role, spec, masked, online, tables, prefixes, stream, *digests)
