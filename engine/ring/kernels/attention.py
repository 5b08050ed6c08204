"""Kernels of attention: rows see different numbers of keys, so scores lie flat as [row][head][key].

Rows r has ``keys[r]`` keys; ``starts[r]`` = sum of the keys of the rows before it. Caches are [kv_head, capacity, head_dim].
"""

import numpy as np

from engine.ring.fixed import Ring
from engine.ring.kernels.jit import inlined, kernel
from engine.ring.kernels.words import mix


@kernel
def turned(words: Ring, cos: Ring, sin: Ring, shift: int, out: Ring) -> None:
    """``out = words >> shift`` (logically) behind a rotation of the pairs (i, i + head_dim / 2) of each head's elements.

    words, out [rows, heads * head_dim]; cos, sin [rows, head_dim / 2].
    """
    rows, half = cos.shape
    down = np.uint64(shift)
    for r in range(rows):
        for at in range(0, words.shape[1], 2 * half):
            for i in range(half):
                a, b, c, s = words[r, at + i], words[r, at + half + i], cos[r, i], sin[r, i]
                out[r, at + i] = np.int64(np.uint64(a * c - b * s) >> down)
                out[r, at + half + i] = np.int64(np.uint64(b * c + a * s) >> down)


@kernel
def scores(q: Ring, cache: Ring, keys: Ring, starts: Ring, out: Ring) -> None:
    """``out[r, h, j] += q[r, h] . cache[h // group, j]``; q [rows, heads, head_dim]."""
    rows, heads, dim = q.shape
    group = heads // cache.shape[0]
    for r in range(rows):
        n = keys[r]
        for h in range(heads):
            at = heads * starts[r] + h * n
            g = h // group
            for j in range(n):
                total = np.int64(0)
                for i in range(dim):
                    total += q[r, h, i] * cache[g, j, i]
                out[at + j] += total


@kernel
def mixture(p: Ring, cache: Ring, keys: Ring, starts: Ring, out: Ring) -> None:
    """``out[r, h] += sum_j p[r, h, j] * cache[h // group, j]``; out [rows, heads, head_dim]."""
    rows, heads, dim = out.shape
    group = heads // cache.shape[0]
    for r in range(rows):
        n = keys[r]
        for h in range(heads):
            at = heads * starts[r] + h * n
            g = h // group
            for j in range(n):
                weight = p[at + j]
                for i in range(dim):
                    out[r, h, i] += weight * cache[g, j, i]


@kernel
def sum_keys(p: Ring, keys: Ring, starts: Ring, out: Ring) -> None:
    """``out[r, h] = sum_j p[r, h, j]``."""
    rows, heads = out.shape
    for r in range(rows):
        for h in range(heads):
            at = heads * starts[r] + h * keys[r]
            total = np.int64(0)
            for j in range(keys[r]):
                total += p[at + j]
            out[r, h] = total


@kernel
def minus_row(x: Ring, m: Ring, keys: Ring, starts: Ring, out: Ring) -> None:
    """``out[r, h, j] = x[r, h, j] - m[r, h]``."""
    rows, heads = m.shape
    for r in range(rows):
        for h in range(heads):
            at = heads * starts[r] + h * keys[r]
            for j in range(at, at + keys[r]):
                out[j] = x[j] - m[r, h]


@kernel
def add_bits(onehot: Ring, at: Ring, sign: int, out: Ring) -> None:
    """``out[i] += sign * (bit at[i] of the i-th vector)``; onehot has equally many words a vector."""
    flat, places, total = onehot.reshape(-1), at.reshape(-1), out.reshape(-1)
    each = flat.size // max(places.size, 1)
    for i in range(places.size):
        word = flat[i * each + (places[i] >> 6)]
        total[i] += sign * ((word >> (places[i] & 63)) & np.int64(1))


@inlined
def _sums(y: np.uint64) -> np.uint64:
    """Bit i = the XOR of bits 0 … i."""
    y ^= y << np.uint64(1)
    y ^= y << np.uint64(2)
    y ^= y << np.uint64(4)
    y ^= y << np.uint64(8)
    y ^= y << np.uint64(16)
    return y ^ (y << np.uint64(32))


@kernel
def _above(bits: Ring, at: int, words: int, turn: int, top: int) -> np.uint64:
    """Bit 63 - b = the XOR of bits 0 … top - b of vector `at` turned right by `turn`, b < 64; 64 * words bits, words a power of
    two.
    """
    first, down = turn >> 6, np.uint64(turn & 63)
    carry = found = np.uint64(0)
    for k in range(words):
        u = np.uint64(bits[at * words + ((first + k) & (words - 1))])
        v = np.uint64(bits[at * words + ((first + k + 1) & (words - 1))])
        y = _sums((u >> down) | ((v << np.uint64(1)) << (np.uint64(63) - down))) ^ carry
        carry = np.uint64(0) - (y >> np.uint64(63))
        place = top - 64 * k
        if 0 <= place < 64:
            found |= y << np.uint64(63 - place)
        elif 64 <= place < 127:
            found |= y >> np.uint64(place - 63)
    return found


@kernel
def level_hashes(
    c: Ring,
    bits: Ring,
    lo: int,
    bottom: int,
    level: int,
    rows: Ring,
    keys: Ring,
    starts: Ring,
    seed: int,
    out: Ring,
) -> None:
    """A share of the 10-bit hash of {keys j : bin(s_j) >= b} for each tested level b = level … level + levels - 1.

    c [row][head][key]: the scores' opening; bits, `words` a score: the one-hot share of its 64 * words bins, read in place:
    ``e_j[b] = u_j[(c_bin - bottom - b) mod bins]``. Each (row, key, level) has a public random word of 10 bits;
    out[r, h, b] is the XOR of those of the keys at or above b. A non-empty set hashes to 0 with probability 2^-10,
    independently for each row and level (protocol, section 5; docs/protocol.md says why the row is in it).
    """
    heads, levels = out.shape[1], out.shape[2]
    triples = (levels + 5) // 6
    words = bits.size // max(c.size, 1)
    top = 64 * words - 1 - (level - bottom)
    for r in range(rows.size):
        n = keys[r]
        base = mix(seed ^ mix(rows[r]))
        for h in range(heads):
            for b in range(levels):
                out[r, h, b] = 0
        for j in range(n):
            for t in range(triples):
                word = mix(base + j * triples + t)
                last = min(6, levels - 6 * t)
                for h in range(heads):
                    at = heads * starts[r] + h * n + j
                    turn = ((c[at] >> lo) - bottom + 1) & (64 * words - 1)
                    if words == 1:  # the usual case, in one register
                        u, down = np.uint64(bits[at]), np.uint64(turn)
                        y = _sums((u >> down) | (u << ((np.uint64(64) - down) & np.uint64(63)))) << np.uint64(63 - top)
                    else:
                        y = _above(bits, at, words, turn, top)
                    for k in range(last):
                        inside = np.int64((y >> np.uint64(63 - 6 * t - k)) & np.uint64(1))
                        out[r, h, 6 * t + k] ^= -inside & ((word >> np.int64(10 * k)) & np.int64(1023))
