"""The block function of ChaCha20 under keys of 128 bits: published vectors, and a second implementation in plain integers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.ring.kernels.chacha import LANES, half_blocks
from tests.engine.gates.alone import words
from tests.engine.ring.kernels.plain_chacha import block

VECTORS = [  # "Test Vectors for the Stream Cipher ChaCha" (draft-strombergson-chacha-test-vectors), 128 bits and 20 rounds
    (
        "00000000000000000000000000000000", "0000000000000000",
        "89670952608364fd00b2f90936f031c8e756e15dba04b8493d00429259b20f46"
        "cc04f111246b6c2ce066be3bfb32d9aa0fddfbc12123d4b9e44f34dca05a103f",
        "6cd135c2878c832b5896b134f6142a9d4d8d0d8f1026d20a0a81512cbce6e975"
        "8a7143d021978022a384141a80cea3062f41f67a752e66ad3411984c787e30ad",
    ),
    (
        "01000000000000000000000000000000", "0000000000000000",
        "ae56060d04f5b597897ff2af1388dbceff5a2a4920335dc17a3cb1b1b10fbe70"
        "ece8f4864d8c7cdf0076453a8291c7dbeb3aa9c9d10e8ca36be4449376ed7c42",
        "fc3d471c34a36fbbf616bc0a0e7c523030d944f43ec3e78dd6a12466547cb4f7"
        "b3cebd0a5005e762e562d1375b7ac44593a991b85d1a60fba2035dfaa2a642d5",
    ),
    (
        "00000000000000000000000000000000", "0100000000000000",
        "1663879eb3f2c9949e2388caa343d361bb132771245ae6d027ca9cb010dc1fa7"
        "178dc41f8278bc1f64b3f12769a24097f40d63a86366bdb36ac08abe60c07fe8",
        "b057375c89144408cc744624f69f7f4ccbd93366c92fc4dfcada65f1b959d8c6"
        "4dfc50de711fb46416c2553cc60f21bbfd006491cb17888b4fb3521c4fdd8745",
    ),
    (
        "ffffffffffffffffffffffffffffffff", "ffffffffffffffff",
        "992947c3966126a0e660a3e95db048de091fb9e0185b1e41e41015bb7ee50150"
        "399e4760b262f9d53f26d8dd19e56f5c506ae0c3619fa67fb0c408106d0203ee",
        "40ea3cfa61fa32a2fda8d1238a2135d9d4178775240f99007064a6a7f0c731b6"
        "7c227c52ef796b6bed9f9059ba0614bcf6dd6e38917f3b150e576375be50ed67",
    ),
    (
        "55555555555555555555555555555555", "5555555555555555",
        "357d7d94f966778f5815a2051dcb04133b26b0ead9f57dd09927837bc3067e4b"
        "6bf299ad81f7f50c8da83c7810bfc17bb6f4813ab6c326957045fd3fd5e19915",
        "ec744a6b9bf8cbdcb36d8b6a5499c68a08ef7be6cc1e93f2f5bcd2cad4e47c18"
        "a3e5d94b5666382c6d130d822dd56aacb0f8195278e7b292495f09868ddf12cc",
    ),
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa",
        "fc79acbd58526103862776aab20f3b7d8d3149b2fab65766299316b6e5b16684"
        "de5de548c1b7d083efd9e3052319e0c6254141da04a6586df800f64d46b01c87",
        "1f05bc67e07628ebe6f6865a2177e0b66a558aa7cc1e8ff1a98d27f7071f8335"
        "efce4537bb0ef7b573b32f32765f29007da53bba62e7a44d006f41eb28fe15d6",
    ),
    (
        "00112233445566778899aabbccddeeff", "0f1e2d3c4b5a6978",
        "d1abf630467eb4f67f1cfb47cd626aae8afedbbe4ff8fc5fe9cfae307e74ed45"
        "1f1404425ad2b54569d5f18148939971abb8fafc88ce4ac7fe1c3d1f7a1eb7ca",
        "e76ca87b61a9713541497760dd9ae059350cad0dcedfaa80a883119a1a6f987f"
        "d1ce91fd8ee0828034b411200a9745a285554475d12afc04887fef3516d12a2c",
    ),
    (
        "c46ec1b18ce8a878725a37e780dfb735", "1ada31d5cf688221",
        "826abdd84460e2e9349f0ef4af5b179b426e4b2d109a9c5bb44000ae51bea90a"
        "496beeef62a76850ff3f0402c4ddc99f6db07f151c1c0dfac2e56565d6289625",
        "5b23132e7b469c7bfb88fa95d44ca5ae3e45e848a4108e98bad7a9eb15512784"
        "a6a9e6e591dce674120acaf9040ff50ff3ac30ccfb5e14204f5e4268b90a8804",
    ),
]  # fmt: skip


def blocks(seeds: NDArray[np.int64]) -> list[bytes]:
    """Each seed's whole block."""
    out = np.zeros((2, len(seeds) + 1, 4), np.int64)
    for half in (0, 1):
        half_blocks(seeds, bool(half), out[half, : len(seeds)])
    assert not out[:, len(seeds)].any()
    return [out[:, i].tobytes() for i in range(len(seeds))]


def test_the_published_vectors() -> None:
    for number in (0, 1):
        seeds = [bytes.fromhex(key) + number.to_bytes(8, "little") + bytes.fromhex(nonce) for key, nonce, *_ in VECTORS]
        words = np.frombuffer(b"".join(seeds), np.int64).reshape(-1, 4).copy()
        assert [made.hex() for made in blocks(words)] == [streams[number] for _, _, *streams in VECTORS]


@pytest.mark.parametrize("count", [0, 1, LANES - 1, LANES, LANES + 1, 100])
def test_each_seed_and_salt_give_their_block(count: int) -> None:
    seeds = words(np.random.default_rng(count), count, 4)
    seeds[:3] = np.array([[0, 0, 0, 0], [-1, -1, -1, -1], [1 << 62, -(1 << 63), 1, 2]])[: min(count, 3)]
    assert blocks(seeds) == [block(seed[:2].tobytes(), seed[2:].tobytes()) for seed in seeds]
