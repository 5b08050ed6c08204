"""Session keys: fresh for each session, epoch, pair of parties and purpose.

Rule 1. A key depends on the client's seed, which travels only inside TLS, and on a fresh nonce of
        either side, so neither side alone can bring an old key back.
Rule 2. A key dies with its epoch; nothing of it goes to disk.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 32
SEED_BYTES = 32


def fresh(count: int) -> bytes:
    """`count` bytes from the operating system."""
    return secrets.token_bytes(count)


def derive(
    seed: bytes,
    nonces: tuple[bytes, bytes],
    *,
    session: bytes,
    epoch: int,
    pair: str,
    purpose: str,
) -> bytes:
    """The 32-byte key of a pair of parties ("D-E1") for one purpose ("streams").

    HKDF-SHA256 with salt = the client's nonce | the node's nonce, input = `seed` and
    info = "trine/1" | session (16 bytes) | epoch (u64) | pair | 0 | purpose.
    """
    if len(seed) != SEED_BYTES or any(len(nonce) != NONCE_BYTES for nonce in nonces):
        raise ValueError("a seed and a nonce have 32 bytes each")
    info = b"trine/1" + session + epoch.to_bytes(8, "little") + pair.encode() + b"\0" + purpose.encode()
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=b"".join(nonces), info=info).derive(seed)
