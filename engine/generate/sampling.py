"""Choosing the next token from the logits, at the client: composed functions, one for each option.

The order is that of transformers: repetition penalty, temperature, top-k, top-p, draw. A draw is the largest of
logit + Gumbel noise (Gumbel 1954), and the noise is a function of (key, position in the context, token). So a position
that is drawn again gives the same token: a step that has to be redone cannot change a token that has been sent. And the
rounding noise of the secure computation changes a draw about as rarely as it can at all; on a cumulative sum it would
move every boundary behind it.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from math import isfinite

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from engine.errors import InputError

__all__ = ["Chooser", "Logits", "keep_top_k", "keep_top_p", "make_chooser", "penalize_repetition"]

Logits = NDArray[np.float64]
Chooser = Callable[[Logits, Sequence[int]], int]

_KEY_BYTES = 16
_MANTISSA = 53
"""Bits of a float64 in [0, 1)."""


def make_chooser(
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
) -> Chooser:
    """A function from logits (float64, [vocab]) and the context's tokens so far to the next token.

    `temperature` 0 takes the largest logit (of equal ones the first). `top_k` 0 and `top_p` 1 keep every token,
    `repetition_penalty` 1 changes nothing. Without a `seed` the key comes from the operating system.

    Raises:
        InputError: an option outside its range.
    """
    _check(temperature, top_k, top_p, repetition_penalty, seed)
    keep: list[Callable[[Logits], Logits]] = []
    if top_k:
        keep.append(partial(keep_top_k, count=top_k))
    if top_p < 1:
        keep.append(partial(keep_top_p, mass=top_p))
    key = _key(seed)

    def chooser(logits: Logits, context: Sequence[int]) -> int:
        if repetition_penalty != 1:
            logits = penalize_repetition(logits, context, repetition_penalty)
        if temperature == 0:
            return int(np.argmax(logits))
        with np.errstate(over="ignore"):  # at a tiny temperature the others go to minus infinity
            logits = (logits - logits.max()) / temperature
        for step in keep:
            logits = step(logits)
        return int(np.argmax(logits + _gumbel(key, len(context), len(logits))))

    return chooser


def penalize_repetition(logits: Logits, context: Sequence[int], penalty: float) -> Logits:
    """Positive logits of tokens in the context divided by `penalty`, negative ones multiplied (arXiv 1909.05858)."""
    seen = np.unique(np.asarray(context, np.int64))
    seen = seen[seen < len(logits)]
    changed = logits.copy()
    old = logits[seen]
    changed[seen] = np.where(old > 0, old / penalty, old * penalty)
    return changed


def keep_top_k(logits: Logits, count: int) -> Logits:
    """All but the `count` largest logits at minus infinity; of equal ones the first stay."""
    if count >= len(logits):
        return logits
    return _only(logits, _descending(logits)[:count])


def keep_top_p(logits: Logits, mass: float) -> Logits:
    """All but the fewest most probable tokens that together have at least `mass` at minus infinity."""
    order = _descending(logits)
    before = np.cumsum(_softmax(logits)[order])
    return _only(logits, order[: int(np.searchsorted(before, mass)) + 1])


def _descending(logits: Logits) -> NDArray[np.int64]:
    return np.argsort(-logits, kind="stable").astype(np.int64)


def _only(logits: Logits, kept: NDArray[np.int64]) -> Logits:
    result = np.full_like(logits, -np.inf)
    result[kept] = logits[kept]
    return result


def _softmax(logits: Logits) -> Logits:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _gumbel(key: bytes, position: int, count: int) -> Logits:
    """`count` independent Gumbel variables: AES in counter mode, each position with counters of its own."""
    stream = Cipher(AES(key), CTR(position.to_bytes(8) + bytes(8))).encryptor()
    words = np.frombuffer(stream.update(bytes(8 * count)), "<u8")
    uniform = ((words >> np.uint64(64 - _MANTISSA)) + 0.5) * 2.0**-_MANTISSA  # inside (0, 1)
    return np.asarray(-np.log(-np.log(uniform)), np.float64)


def _key(seed: int | None) -> bytes:
    """128 bits from the operating system, or derived from the seed."""
    if seed is None:
        return os.urandom(_KEY_BYTES)
    return blake2b(seed.to_bytes(8, "little"), digest_size=_KEY_BYTES, person=b"trine seed").digest()


def _check(temperature: float, top_k: int, top_p: float, repetition_penalty: float, seed: int | None) -> None:
    if not (isfinite(temperature) and temperature >= 0):
        raise InputError(f"temperature is {temperature}; it must be 0 (always the likeliest token) or more")
    if top_k < 0:
        raise InputError(f"top-k is {top_k}; it must be 0 (every token) or more")
    if not 0 < top_p <= 1:
        raise InputError(f"top-p is {top_p}; it must lie above 0 and at most at 1 (every token)")
    if not (isfinite(repetition_penalty) and repetition_penalty > 0):
        raise InputError(f"repetition penalty is {repetition_penalty}; it must be above 0 (1 changes nothing)")
    if seed is not None and not 0 <= seed < 1 << 64:
        raise InputError(f"seed is {seed}; it must be a whole number from 0 to 2^64 - 1")
