"""Element kernels: truncation with its wrap alarm, masks for alarms, packing of 40-bit and 10-bit words.

An array that a gate handles has one run of elements a row; `offsets` [rows + 1] are the runs' bounds in the flat
array. Bits are packed into words, 64 a word, each row's run beginning a new word.
"""

import numpy as np
from numpy.typing import NDArray

from engine.ring.fixed import Real, Ring
from engine.ring.kernels.jit import inlined, kernel

Bytes = NDArray[np.uint8]


@kernel
def mix(x: np.int64) -> np.int64:
    """Public pseudo-randomness (the finaliser of SplitMix64): no secret depends on it."""
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@kernel
def truncate_mask(
    rho: Ring,
    offsets: Ring,
    shift: int,
    first: Ring,
    edge1: Ring,
    lam: Ring,
    second: Ring,
    edge2: Ring,
) -> None:
    """The dealer's side: ``lam = rho >> shift``, ``second = lam - first``, and the XOR shares edge2 of the alarm's indicator
    bits, given the first evaluator's edge1: for 64 elements a word of [top two bits of rho are 01], then one of [... are 10].
    `first` and `second` may be empty: then no share of lam is dealt.
    """
    share = first.size > 0
    word = 0
    for r in range(offsets.size - 1):
        start, stop = offsets[r], offsets[r + 1]
        i = start
        while i < stop:
            a = np.uint64(0)
            b = np.uint64(0)
            end = min(i + 64, stop)
            for j in range(i, end):
                top = (rho[j] >> np.int64(62)) & np.int64(3)
                bit = np.uint64(j - i)
                a |= np.uint64(top == 1) << bit
                b |= np.uint64(top == 2) << bit
            edge2[word] = edge1[word] ^ np.int64(a)
            edge2[word + 1] = edge1[word + 1] ^ np.int64(b)
            word += 2
            i = end
        for j in range(start, stop):
            lam[j] = rho[j] >> shift
        if share:
            for j in range(start, stop):
                second[j] = lam[j] - first[j]


@kernel
def truncate_opened(opened: Ring, offsets: Ring, shift: int, edge: Ring, rows: Ring, seed: int, shifted: Ring) -> int:
    """An evaluator's side: ``shifted = opened >> shift``; returns its share of the alarm word of this array.

    A wrap happened exactly when the top two bits of (rho, c) are (01, 10) or (10, 01), for |z| < 2^62.
    Each hit carries a public 16-bit mask of its own, drawn from (seed, row, element). Arrays of any shape, C-contiguous.
    """
    c, bits, m = opened.reshape(-1), edge.reshape(-1), shifted.reshape(-1)
    alarm = np.int64(0)
    word = 0
    for r in range(offsets.size - 1):
        start, stop = offsets[r], offsets[r + 1]
        base = mix(seed ^ mix(rows[r]))
        for j in range(start, stop):
            m[j] = c[j] >> shift
        i = start
        while i < stop:
            aw, bw = bits[word], bits[word + 1]
            word += 2
            end = min(i + 64, stop)
            for j in range(i, end):
                top = (c[j] >> np.int64(62)) & np.int64(3)
                bit = np.int64(j - i)
                hit = (np.int64(top == 2) & (aw >> bit)) ^ (np.int64(top == 1) & (bw >> bit))
                alarm ^= -(hit & np.int64(1)) & mix(base + (j - start))
            i = end
    return int(alarm & np.int64(0xFFFF))


@kernel
def pack40(words: Ring, out: Bytes) -> None:
    """The low 40 bits of each word as 5 little-endian bytes."""
    for i in range(words.size):
        w = words[i]
        k = 5 * i
        out[k] = np.uint8(w & 255)
        out[k + 1] = np.uint8((w >> 8) & 255)
        out[k + 2] = np.uint8((w >> 16) & 255)
        out[k + 3] = np.uint8((w >> 24) & 255)
        out[k + 4] = np.uint8((w >> 32) & 255)


@inlined
def _word40(data: Bytes, k: int) -> np.int64:
    return (
        np.int64(data[k])
        | (np.int64(data[k + 1]) << 8)
        | (np.int64(data[k + 2]) << 16)
        | (np.int64(data[k + 3]) << 24)
        | (np.int64(data[k + 4]) << 32)
    )


@kernel
def unpack40(data: Bytes, out: Ring) -> None:
    """5 little-endian bytes a word, zero-extended."""
    for i in range(out.size):
        out[i] = _word40(data, 5 * i)


@kernel
def join40(words: Ring, data: Bytes, out: Ring) -> None:
    """``out = words + data`` modulo 2^40, zero-extended; data as `pack40` makes it."""
    for i in range(out.size):
        out[i] = (words[i] + _word40(data, 5 * i)) & np.int64((1 << 40) - 1)


@kernel
def pack24(words: Ring, out: Bytes) -> None:
    """Bits [16, 40) of each word as 3 little-endian bytes: an answer's logits (protocol, section 7)."""
    for i in range(words.size):
        w = words[i]
        out[3 * i] = np.uint8((w >> 16) & 255)
        out[3 * i + 1] = np.uint8((w >> 24) & 255)
        out[3 * i + 2] = np.uint8((w >> 32) & 255)


@kernel
def unmask24(data: Bytes, rho: NDArray[np.int32], unit: float, out: Real) -> None:
    """``out = unit * (data - rho)``, the difference taken modulo 2^24 and signed; data as `pack24` makes it."""
    for i in range(out.size):
        word = np.int64(data[3 * i]) | (np.int64(data[3 * i + 1]) << 8) | (np.int64(data[3 * i + 2]) << 16)
        out[i] = unit * (((word - rho[i]) << 40) >> 40)


@kernel
def pack10(words: Ring, out: Bytes) -> None:
    """The low 10 bits of each word, four words in 5 bytes; ``words.size`` is a multiple of 4."""
    for i in range(words.size // 4):
        v = np.int64(0)
        for j in range(4):
            v |= (words[4 * i + j] & np.int64(1023)) << np.int64(10 * j)
        for j in range(5):
            out[5 * i + j] = np.uint8((v >> np.int64(8 * j)) & 255)


@kernel
def join10(words: Ring, data: Bytes, out: Ring) -> None:
    """``out = words ^ data`` modulo 2^10, zero-extended; data as `pack10` makes it."""
    for i in range(out.size // 4):
        v = np.int64(0)
        for j in range(5):
            v |= np.int64(data[5 * i + j]) << np.int64(8 * j)
        for j in range(4):
            out[4 * i + j] = (words[4 * i + j] ^ (v >> np.int64(10 * j))) & np.int64(1023)
