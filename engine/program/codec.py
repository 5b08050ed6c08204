"""How words travel: those of openings between the evaluators, those that are dealt from the dealer to an evaluator."""

from enum import IntEnum

import numpy as np

from engine.ring.fixed import WORD_BYTES, Ring
from engine.ring.kernels.words import Bytes, join10, join40, pack10, pack40, unpack40


class Codec(IntEnum):
    """How an opening travels, in bits a word: whole, the low 40 bits, or XOR shares of 10 or 16 bits."""

    WORDS = 64
    LOW40 = 40
    XOR10 = 10
    XOR16 = 16


def encode(masked: Ring, codec: Codec) -> bytes:
    """This evaluator's part of an opening, as it is sent."""
    if codec is Codec.WORDS:
        return masked.tobytes()
    flat = masked.reshape(-1)
    if codec is Codec.XOR10 and flat.size % 4:
        raise ValueError("words of 10 bits are opened four at a time")
    if codec is Codec.XOR16:
        return flat.astype(np.uint16).tobytes()
    out = np.empty(flat.size * codec // 8, np.uint8)
    (pack40 if codec is Codec.LOW40 else pack10)(flat, out)
    return out.tobytes()


def join(masked: Ring, theirs: bytes, at: int, codec: Codec) -> Ring:
    """The opening of `masked` and of what lies at byte `at` of the peer's message."""
    if codec is Codec.WORDS:
        c: Ring = masked + np.ndarray(masked.shape, np.int64, theirs, at)
        return c
    if codec is Codec.XOR16:
        return masked ^ np.ndarray(masked.shape, np.uint16, theirs, at).astype(np.int64)
    data, c = np.ndarray(masked.size * codec // 8, np.uint8, theirs, at), np.empty(masked.shape, np.int64)
    (join40 if codec is Codec.LOW40 else join10)(masked.reshape(-1), data, c.reshape(-1))
    return c


def packed(words: Ring, width: int) -> Bytes:
    """Dealt words in `width` (5 or 8) bytes each."""
    if width == WORD_BYTES:
        return np.ascontiguousarray(words)
    out = np.empty(words.size * 5, np.uint8)
    pack40(words.reshape(-1), out)
    return out


def unpacked(data: Bytes, words: int, width: int) -> Ring:
    """So many dealt words that came in `width` bytes each, flat."""
    if width == WORD_BYTES:
        return data.view(np.int64)
    out = np.empty(words, np.int64)
    unpack40(data, out)
    return out
