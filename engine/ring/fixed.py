"""Fixed point over Z_2^64: a real x at scale f is the integer round(x * 2^f) mod 2^64."""

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]
Real = NDArray[np.float64]
WORD_BYTES = 8  #: of a ring element


def encode(values: Real, bits: int) -> Ring:
    """Round `values` to `bits` fraction bits.

    Raises:
        OverflowError: a value does not fit into 62 bits at that scale (no gate accepts more), or is not a number.
    """
    scaled = np.rint(np.asarray(values, np.float64) * 2.0**bits)
    if scaled.size and not np.abs(scaled).max() < 2.0**62:
        raise OverflowError(f"a value does not fit into 62 bits at {bits} fraction bits")
    return scaled.astype(np.int64)


def decode(words: Ring, bits: int) -> Real:
    """The reals that `words` stand for at `bits` fraction bits."""
    return np.asarray(words, np.int64).astype(np.float64) * 2.0**-bits


def low(words: Ring, bits: int) -> Ring:
    """The lowest `bits` bits of each word, as a number in [0, 2^bits)."""
    if bits == 64:
        return words
    return words & np.int64((1 << bits) - 1)


def signed(words: Ring, bits: int) -> Ring:
    """Read the lowest `bits` bits of each word as two's complement."""
    up = np.int64(64 - bits)
    return (words << up) >> up


def shift_logical(words: Ring, count: int) -> Ring:
    """Shift right, filling with zeros: exact modulo 2^(64 - count)."""
    return (words.view(np.uint64) >> np.uint64(count)).view(np.int64)
