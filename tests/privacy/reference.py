"""What streams, masks and keys are, written anew from docs/protocol.md: what the engine draws is held against it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from engine.models.config import ModelSpec
from engine.parties import masks
from tests.privacy.ledger import LeakError

Words = NDArray[np.int64]
WEIGHT, PREFIX, CLIENT = 3, 4, 5  # labels
FIRST = 32  # byte at which a tile's mask begins


def stream(key: bytes, label: int, row: int, section: int, slot: int, start: int, count: int) -> Words:
    """`count` words of an address from byte `start` (of a block) on: the cipher's own blocks, one a counter."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  the primitive, to check a mode
    head = bytes([label]) + slot.to_bytes(2, "big") + section.to_bytes(2, "big") + row.to_bytes(6, "big")
    first = start // 16
    counters = b"".join(head + number.to_bytes(5, "big") for number in range(first, first + -(-count // 2)))
    return np.frombuffer(block.update(counters), np.int64)[:count]


def tile_rows(inner: int) -> int:
    """Rows of a tensor that are masked from one address."""
    return max(4, masks.TILE_WORDS // inner // 4 * 4)


def tensor_mask(seed: bytes, spec: ModelSpec, name: str) -> Words:
    """A node's mask of a tensor: tile t is at row t of the tensor's section."""
    shapes = spec.tensors()
    (outer, inner), section = shapes[name], list(shapes).index(name)
    step = tile_rows(inner)
    parts = [
        stream(seed, WEIGHT, tile, section, 0, FIRST, (min(start + step, outer) - start) * inner)
        for tile, start in enumerate(range(0, outer, step))
    ]
    return np.concatenate(parts).reshape(outer, inner)


def prefix_mask(seed: bytes, layer: int, which: int, shape: tuple[int, ...]) -> Words:
    """A node's mask of the public prefix's keys (0) or values (1) in a layer."""
    return stream(seed, PREFIX, 0, layer, which, 0, int(np.prod(shape))).reshape(shape)


def index_of(own: bytes, row: int, vocab: int) -> int:
    """The index of the embedding that a row is dealt: 64 bits of the dealer's own stream, modulo the vocabulary."""
    return int(stream(own, CLIENT, row, 0, 0, 0, 1).view(np.uint64)[0]) % vocab


def session_key(seed: bytes, nonces: bytes, session: bytes, role: int) -> bytes:
    """A session's key of the dealer and a node (RFC 5869, one block of output)."""
    secret = hmac.digest(nonces, seed, hashlib.sha256)
    info = b"trine/1" + session + bytes(8) + b"D-E%d\0streams" % role
    return hmac.digest(secret, info + b"\1", hashlib.sha256)


def rank(rows: Iterable[bytes]) -> tuple[int, int]:
    """(rank over GF(2), columns) of rows of bits and a column of ones.

    A bit that never changes, that follows another one, or that is the XOR of others takes one from the rank. Of random rows,
    d more than there are columns, it is lower with probability 2^-d.
    """
    basis: dict[int, int] = {}
    columns = 0
    for row in rows:
        columns = 8 * len(row) + 1
        left = int.from_bytes(row, "big") << 1 | 1
        while left and (top := left.bit_length()) in basis:
            left ^= basis[top]
        if left:
            basis[left.bit_length()] = left
    return len(basis), columns


def require_free(rows: list[bytes], what: str) -> None:
    """LeakError unless no bit of the rows follows from the others; there must be 100 rows more than bits."""
    if len(rows) < 8 * len(rows[0]) + 100:
        raise ValueError("too few rows for their bits")
    found, columns = rank(rows)
    if found < columns:
        raise LeakError(f"{what}: {columns - found} bits follow from the others")
