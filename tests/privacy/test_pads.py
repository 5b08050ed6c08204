"""Every bit of every message is under a one-time pad: shown exactly, see tests/privacy/pads.py."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.prf import Label, Stream
from tests.privacy import pads
from tests.privacy.small import small


@pytest.mark.parametrize("role", [1, 2])
def test_every_word_between_the_nodes_has_a_mask_of_its_own(role: int) -> None:
    assert pads.check_messages(small(), role) > 3000


def test_every_dealt_word_has_a_pad_of_its_own() -> None:
    assert pads.check_dealt(small()) > 5000


def test_the_last_mask_of_the_embedding_is_padded() -> None:
    pads.check_online(small())


def check_streams() -> None:
    """A stream is AES-256 at (label, slot, section, row, block): read with the block cipher alone."""
    key = bytes(range(32))
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  the primitive, to check a mode
    stream = Stream(key)
    for label, row, section, slot, start in (
        (1, 0, 0, 0, 0),
        (2, 1 << 40, 31, 200, 48),
        (5, 7, 0, 1, 1 << 20),
        (3, 7, 0, 0, 0),
        *((label, 0, 0, 0, 32) for label in range(1, 6)),
        *((1, 1 << bit, 0, 0, 32) for bit in range(48)),  # no bit of an address is lost, or folded onto another
        *((1, 0, 1 << bit, 0, 32) for bit in range(16)),
        *((1, 0, 0, 1 << bit, 32) for bit in range(16)),
        *((1, 0, 0, 0, 16 << bit) for bit in range(39)),
    ):
        got = np.empty(5 * 16, np.uint8)
        stream.fill(got, Label(label), row, section, slot, start)
        head = bytes([label]) + slot.to_bytes(2, "big") + section.to_bytes(2, "big") + row.to_bytes(6, "big")
        expected = b"".join(block.update(head + (start // 16 + i).to_bytes(5, "big")) for i in range(5))
        if got.tobytes() != expected:
            raise pads.LeakError(f"the stream at label {label}, row {row} is not its own")
    for row, section, slot in ((1 << 47, 3, 0), (5, 1 << 15, 0), (5, 3, 1 << 15)):  # long ones may be drawn in another mode
        long = np.empty(1 << 19, np.uint8)
        stream.fill(long, Label.WEIGHT, row, section, slot, 32)
        head = bytes([3]) + slot.to_bytes(2, "big") + section.to_bytes(2, "big") + row.to_bytes(6, "big")
        if long.tobytes() != block.update(b"".join(head + (2 + i).to_bytes(5, "big") for i in range(1 << 15))):
            raise pads.LeakError(f"the long stream at row {row} is not its own")


def test_a_stream_is_the_block_cipher_at_its_own_addresses() -> None:
    check_streams()
