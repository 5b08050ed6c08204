"""AES-256 in counter mode, read at addresses that are functions of (label, row, section, slot).

Rule 1. A counter is never a cursor: it is computed from what is being masked (row serial number, section of the
        program, slot of the section, element), so a retry cannot rewind it onto something else.
Rule 2. Two addresses never overlap: the address fills the upper 88 bits of the 128-bit counter block (label 8, slot 16,
        section 16, row 48) and the block index within it the lower 40. What does not fit its field is not drawn.
Rule 3. A stream never shows its key: no repr, no pickling.

A long range that begins at byte `FAST` of its address may be drawn twice as fast. Galois/counter mode enciphers in counter
mode from block 2 of its nonce on, by kernels of OpenSSL that the plain mode does not have: its nonce is the upper 96 bits of
the counter, so the bytes are the same, and its tag is never asked for. One core, AES-256: with AVX-512, 15.8 GB/s in place of
8.1; without it 2.4 in place of 5.6; a cipher of its own takes 4 to 8 µs. So the process tries both, once (two milliseconds).

The keys come from ``engine.session.keys`` (a session's k1, k2) or from the model seeds of a pack (w1, w2).
"""

import threading
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache, partial
from itertools import combinations
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from engine.ring.fixed import WORD_BYTES

BLOCK = 16
FAST = 2 * BLOCK
"""Byte of an address at which a range had best begin."""
_LONG = (1 << 16, 1 << 18)  # bytes: from which of them on, if any, a cipher of its own pays is found out
_CHUNK = 1 << 18
_MOST = (1 << 32) * BLOCK - FAST  # bytes of one nonce: its counter has 32 bits
_ZEROS = memoryview(bytes(_CHUNK))
ROW_NUMBERS = 1 << 48
"""Serial numbers of rows that a counter tells apart: 0 … ROW_NUMBERS - 1."""
_SECTIONS = _SLOTS = 1 << 16
_BLOCKS = 1 << 40


class Label(IntEnum):
    """What a stream range is for; part of every counter."""

    FIXED = 1  #: a row's slots of constant size, one range a section
    KEYED = 2  #: a row's slots that grow with its number of keys, one range a section
    WEIGHT = 3  #: a model tensor's mask
    PREFIX = 4  #: the mask of the public prefix's keys and values
    CLIENT = 5  #: what the dealer draws for itself (indices of the embedding)


Record = Callable[[int, int, int, int, int, int], None]


class Stream:
    """One key's stream. Thread-safe; `record` (tests) sees each range as (label, row, section, slot, start, stop)."""

    __slots__ = ("_cipher", "_encryptor", "_lock", "_record")

    def __init__(self, key: bytes, record: Record | None = None) -> None:
        if len(key) != 32:
            raise ValueError("a stream's key has 32 bytes")
        self._cipher = algorithms.AES(key)
        self._encryptor = Cipher(self._cipher, modes.CTR(bytes(BLOCK))).encryptor()
        self._lock = threading.Lock()
        self._record = record

    def __repr__(self) -> str:
        return "Stream(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream is secret and is never pickled")

    def fill(self, out: NDArray[Any], label: Label, row: int, section: int, slot: int, start: int = 0) -> None:
        """Fill the C-contiguous `out` with the stream's bytes from byte `start` (a multiple of 16) of an address.

        Raises:
            ValueError: the address does not fit its fields, or `start` is not on a block.
        """
        block, odd = divmod(start, BLOCK)
        if odd or block < 0 or not (0 <= row < ROW_NUMBERS and 0 <= section < _SECTIONS and 0 <= slot < _SLOTS):
            raise ValueError("a stream address does not fit its fields")
        if block + -(-out.nbytes // BLOCK) > _BLOCKS:
            raise ValueError("a stream range leaves its address")
        if not out.nbytes:
            return
        target = memoryview(out).cast("B")  # type: ignore[arg-type]  # an array is a buffer; refused unless it is contiguous
        if self._record is not None:
            self._record(int(label), row, section, slot, start, start + len(target))
        head = (int(label) << 80) | (slot << 64) | (section << 48) | row
        counter = ((head << 40) | block).to_bytes(BLOCK, "big")
        if start == FAST and _LONG[0] <= len(target) <= _MOST and len(target) >= galois_from():
            _draw(_galois(self._cipher, counter), target)
            return
        with self._lock:
            self._encryptor.reset_nonce(counter)
            _draw(self._encryptor, target)

    def words(self, count: int, label: Label, row: int, section: int, slot: int, start: int = 0) -> NDArray[np.int64]:
        """`count` fresh words of an address, from word `start` on (any multiple of 2)."""
        out = np.empty(count, np.int64)
        self.fill(out, label, row, section, slot, start * WORD_BYTES)
        return out


def require_apart(keys: Sequence[bytes]) -> None:
    """Refuse keys of which two are the same, or nearly: of fresh ones no two have the same eight bytes anywhere.

    Raises:
        ValueError: two parties' streams would be one, or one of them could be found by trying.
    """
    for one, two in combinations(keys, 2):
        if any(one[at : at + WORD_BYTES] == two[at : at + WORD_BYTES] for at in range(0, len(one), WORD_BYTES)):
            raise ValueError("two keys are the same, or nearly so: each stream needs a fresh one")


def _galois(cipher: algorithms.AES, counter: bytes) -> CipherContext:
    """What gives the same bytes as counter mode from a counter that ends in block 2."""
    return Cipher(cipher, modes.GCM(counter[:12])).encryptor()


@cache
def galois_from() -> int:
    """The length from which on Galois/counter mode is the faster one on this machine."""
    cipher = algorithms.AES(bytes(32))
    plain = Cipher(cipher, modes.CTR(bytes(BLOCK))).encryptor()

    def seconds(make: Callable[[], CipherContext], length: int) -> float:
        target = memoryview(bytearray(length))
        began = time.perf_counter()
        _draw(make(), target)
        return time.perf_counter() - began

    return faster_from(partial(seconds, lambda: _galois(cipher, bytes(BLOCK))), partial(seconds, lambda: plain))


def faster_from(other: Callable[[int], float], plain: Callable[[int], float]) -> int:
    """The shortest long range that `other` draws faster than `plain`, by the best of a few tries; none: more than the longest.

    Both draw a range of so many bytes, and return the seconds that it took.
    """
    for length in _LONG:
        tries = [(other(length), plain(length)) for _ in range(8)]
        best_other, best_plain = map(min, zip(*tries, strict=True))
        if best_other < best_plain:
            return length
    return _MOST + 1


def _draw(encryptor: CipherContext, target: memoryview) -> None:
    for at in range(0, len(target), _CHUNK):
        part = target[at : at + _CHUNK]
        encryptor.update_into(_ZEROS[: len(part)], part)
