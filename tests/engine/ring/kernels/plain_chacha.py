"""ChaCha20 under keys of 128 bits by its description, in Python's integers: what the kernels are held against."""

from __future__ import annotations


def block(key: bytes, salt: bytes) -> bytes:
    """The 64 bytes of a key of 16 bytes, and of a counter and a nonce of 8 each."""
    names = [int.from_bytes(part, "little") for part in (b"expa", b"nd 1", b"6-by", b"te k")]
    first = names + [int.from_bytes((key + key + salt)[i : i + 4], "little") for i in range(0, 48, 4)]
    x = list(first)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for at, by, onto, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[at] = (x[at] + x[by]) % (1 << 32)
            word = x[onto] ^ x[at]
            x[onto] = (word << turn | word >> (32 - turn)) % (1 << 32)

    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12)
    return b"".join(((a + b) % (1 << 32)).to_bytes(4, "little") for a, b in zip(first, x, strict=True))
