"""Truncation with its alarm, and the packing of 40, 24 and 10 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ring.kernels.words import (
    join10,
    join40,
    mix,
    pack10,
    pack24,
    pack40,
    truncate_mask,
    truncate_opened,
    unmask24,
    unpack40,
)
from tests.engine.gates.alone import Ring, words

M64 = (1 << 64) - 1


def mixed(x: int) -> int:
    """SplitMix64 in Python's integers."""
    z = ((x & M64) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


@given(x=st.integers(-(1 << 63), (1 << 63) - 1))
def test_public_randomness_is_the_same_everywhere(x: int) -> None:
    assert int(mix(np.int64(x))) & M64 == mixed(x)


@pytest.mark.parametrize("runs", [(), (0,), (1,), (64,), (65,), (3, 3), (130, 1, 64)])
@pytest.mark.parametrize("share", [True, False])
def test_the_dealers_side_of_a_truncation(runs: tuple[int, ...], share: bool) -> None:
    offsets = np.concatenate([[0], np.cumsum(runs)]).astype(np.int64)
    total, bit_words = int(offsets[-1]), sum(-(-n // 64) for n in runs)
    rng = np.random.default_rng(1)
    rho, first = words(rng, total), words(rng, total if share else 0)
    edge1 = words(rng, 2 * bit_words)
    lam, second, edge2 = np.empty(total, np.int64), np.empty_like(first), np.empty_like(edge1)

    truncate_mask(rho, offsets, 9, first, edge1, lam, second, edge2)

    np.testing.assert_array_equal(lam, rho >> 9)
    if share:
        np.testing.assert_array_equal(first + second, lam)
    top = (rho >> 62) & 3
    edge = (edge1 ^ edge2).reshape(-1, 2)
    np.testing.assert_array_equal(bits_of(edge[:, 0], runs), top == 1)
    np.testing.assert_array_equal(bits_of(edge[:, 1], runs), top == 2)


def bits_of(packed: Ring, runs: tuple[int, ...]) -> Ring:
    """The bits of each row's run, which begins a new word; nothing is set behind a run's end."""
    out, at = [], 0
    for n in runs:
        for k in range(n):
            out.append((int(packed[at + k // 64]) >> (k % 64)) & 1)
        if n % 64:
            assert (int(packed[at + n // 64]) & M64) >> (n % 64) == 0
        at += -(-n // 64)
    return np.array(out, bool)


@pytest.mark.parametrize("runs", [(), (0,), (1,), (65,), (130, 1, 64)])
def test_an_evaluators_side_of_a_truncation(runs: tuple[int, ...]) -> None:
    offsets = np.concatenate([[0], np.cumsum(runs)]).astype(np.int64)
    total, bit_words = int(offsets[-1]), sum(-(-n // 64) for n in runs)
    rng = np.random.default_rng(2)
    c, edge, serials = words(rng, total), words(rng, 2 * bit_words), words(rng, len(runs)) >> 20
    a, b = edge[::2], edge[1::2]
    m = np.empty(total, np.int64)

    alarm = truncate_opened(c, offsets, 7, edge, serials, 12345, m)

    np.testing.assert_array_equal(m, c >> 7)
    expected, at = 0, 0
    for r, n in enumerate(runs):
        base = mixed(12345 ^ mixed(int(serials[r])))
        for j in range(n):
            word, place = at + j // 64, j % 64
            top = (int(c[offsets[r] + j]) >> 62) & 3
            hit = (top == 2 and int(a[word]) >> place & 1) or (top == 1 and int(b[word]) >> place & 1)
            expected ^= (mixed(base + j) & 0xFFFF) if hit else 0
        at += -(-n // 64)
    assert alarm == expected


@given(values=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=30))
@settings(max_examples=30)
def test_packing_keeps_the_low_bits(values: list[int]) -> None:
    x = np.array(values, np.int64)
    five, three = np.empty(5 * x.size, np.uint8), np.empty(3 * x.size, np.uint8)
    pack40(x, five)
    pack24(x, three)
    assert five.tobytes() == b"".join((v & ((1 << 40) - 1)).to_bytes(5, "little") for v in values)
    assert three.tobytes() == b"".join((v >> 16 & 0xFFFFFF).to_bytes(3, "little") for v in values)
    out = np.empty_like(x)
    unpack40(five, out)
    np.testing.assert_array_equal(out, x & ((1 << 40) - 1))
    join40(3 * x, five, out)
    np.testing.assert_array_equal(out, 4 * x & ((1 << 40) - 1))


@given(pairs=st.lists(st.tuples(st.integers(0, (1 << 24) - 1), st.integers(-(1 << 23), (1 << 23) - 1)), max_size=7))
def test_a_logit_is_what_its_three_bytes_hold_without_its_mask(pairs: list[tuple[int, int]]) -> None:
    three, out = np.empty(3 * len(pairs), np.uint8), np.empty(len(pairs))
    pack24(np.array([(value + rho) << 16 for rho, value in pairs], np.int64), three)
    unmask24(three, np.array([rho for rho, _ in pairs], np.int32), 2.0**-14, out)
    assert out.tolist() == [value / (1 << 14) for _, value in pairs]


@given(values=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=8))
@settings(max_examples=30)
def test_four_words_of_ten_bits_go_into_five_bytes(values: list[int]) -> None:
    x = np.array(values * 4, np.int64)
    data, out = np.empty(x.size // 4 * 5, np.uint8), np.empty_like(x)
    pack10(x, data)
    whole = sum((int(v) & 1023) << (10 * i) for i, v in enumerate(x))
    assert int.from_bytes(data.tobytes(), "little") == whole
    join10(x << 1, data, out)
    np.testing.assert_array_equal(out, (x ^ x << 1) & 1023)
