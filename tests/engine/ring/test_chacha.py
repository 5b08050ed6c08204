"""The block function against OpenSSL's, for any number of seeds."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from engine.ring.chacha import LANES, halves
from tests.engine.gates.alone import words


@pytest.mark.parametrize("count", [0, 1, LANES - 1, LANES, LANES + 1, 100])
def test_each_seed_and_salt_give_chacha20s_block(count: int) -> None:
    seeds, out = words(np.random.default_rng(count), count, 4), np.zeros((2, count + 1, 4), np.int64)
    seeds[:3] = np.array([[0, 0, 0, 0], [-1, -1, -1, -1], [1 << 62, -(1 << 63), 1, 2]])[: min(count, 3)]
    for half in (0, 1):
        halves(seeds, bool(half), out[half, :count])
    for i, seed in enumerate(seeds):
        cipher = Cipher(algorithms.ChaCha20(seed[:2].tobytes() + bytes(16), seed[2:].tobytes()), mode=None).encryptor()
        assert out[:, i].tobytes() == cipher.update(bytes(64))
    assert not out[:, count].any()
