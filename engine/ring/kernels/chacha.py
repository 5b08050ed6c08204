"""ChaCha20's block function as a generator of pseudorandom bytes: one block of 64 bytes from a seed of 128 bits and a salt.

The seed is a key as Bernstein's "ChaCha, a variant of Salsa20" (2008) takes one of 128 bits: it stands in the state twice, and
the constants are "expand 16-byte k", so that no block is that of a key of 256 bits. RFC 8439 has the latter alone.

A node of a tree is grown hundreds of times a value, a few nodes at a time: a library's call for each would cost more than the
blocks. Additions, XORs and rotations alone: its time does not depend on a seed.
"""

import numpy as np
from numpy.typing import NDArray

from engine.ring.fixed import Ring
from engine.ring.kernels.jit import inlined, kernel

LANES = 32
_ROUNDS = 20
_CONSTANTS = (0x61707865, 0x3120646E, 0x79622D36, 0x6B206574)  # "expand 16-byte k"


@inlined
def _turned(word: np.uint32, by: np.uint32) -> np.uint32:
    return np.uint32((word << by) | (word >> (np.uint32(32) - by)))


@inlined
def _quarter(s: NDArray[np.uint32], a: int, b: int, c: int, d: int) -> None:
    for i in range(LANES):
        x, y, z, w = s[a, i], s[b, i], s[c, i], s[d, i]
        x = np.uint32(x + y)
        w = _turned(w ^ x, np.uint32(16))
        z = np.uint32(z + w)
        y = _turned(y ^ z, np.uint32(12))
        x = np.uint32(x + y)
        w = _turned(w ^ x, np.uint32(8))
        z = np.uint32(z + w)
        y = _turned(y ^ z, np.uint32(7))
        s[a, i], s[b, i], s[c, i], s[d, i] = x, y, z, w


@kernel
def half_blocks(seeds: Ring, second: bool, out: Ring) -> None:
    """``out[i]``: half of the block of the key `seed` (16 bytes) and the counter and nonce `salt`, the first one or the
    second. seeds [N, 4] are two words of seed and two of salt; out [N, 4]. (A block's way out of the lanes is half its time.)
    """
    count = seeds.shape[0]
    keys, words = seeds.view(np.uint32), out.view(np.uint32)
    s = np.empty((16, LANES), np.uint32)
    for at in range(0, count, LANES):
        here = min(LANES, count - at)
        s[4:] = 0  # lanes that hold no seed are computed, too
        for j in range(4):
            s[j] = _CONSTANTS[j]
        for i in range(here):
            for j in range(4):
                s[4 + j, i] = s[8 + j, i] = keys[at + i, j]
                s[12 + j, i] = keys[at + i, 4 + j]
        for _ in range(_ROUNDS // 2):
            _quarter(s, 0, 4, 8, 12)
            _quarter(s, 1, 5, 9, 13)
            _quarter(s, 2, 6, 10, 14)
            _quarter(s, 3, 7, 11, 15)
            _quarter(s, 0, 5, 10, 15)
            _quarter(s, 1, 6, 11, 12)
            _quarter(s, 2, 7, 8, 13)
            _quarter(s, 3, 4, 9, 14)
        if second:
            for i in range(here):
                for j in range(4):
                    words[at + i, j] = s[8 + j, i] + keys[at + i, j]
                    words[at + i, 4 + j] = s[12 + j, i] + keys[at + i, 4 + j]
        else:
            for i in range(here):
                for j in range(4):
                    words[at + i, j] = s[j, i] + np.uint32(_CONSTANTS[j])
                    words[at + i, 4 + j] = s[4 + j, i] + keys[at + i, j]
