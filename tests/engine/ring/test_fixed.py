"""Fixed point: encoding, its limits, and the bits of a word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ring.fixed import decode, encode, low, shift_logical, signed

int64 = st.integers(-(1 << 63), (1 << 63) - 1)


@given(x=st.floats(-1e6, 1e6), bits=st.integers(0, 40))
def test_encoding_is_within_half_a_unit(x: float, bits: int) -> None:
    word = encode(np.array([x]), bits)
    assert abs(decode(word, bits)[0] - x) <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf, 2.0**50, -(2.0**50)])
def test_what_does_not_fit_into_62_bits_is_refused(x: float) -> None:
    with pytest.raises(OverflowError, match="12 fraction bits"):
        encode(np.array([0.0, x]), 12)


def test_the_largest_that_fits() -> None:
    assert encode(np.array([2.0**50 - 2.0**-2]), 12)[0] == (1 << 62) - (1 << 10)
    assert encode(np.empty((0, 3)), 12).shape == (0, 3)


@given(word=int64, bits=st.integers(1, 64))
def test_the_low_bits_as_a_number_and_as_twos_complement(word: int, bits: int) -> None:
    words = np.array([word])
    if bits < 64:
        assert int(low(words, bits)[0]) == word % (1 << bits)
    else:
        assert low(words, bits) is words
    half = 1 << (bits - 1)
    assert int(signed(words, bits)[0]) == (word + half) % (1 << bits) - half


@given(word=int64, count=st.integers(0, 63))
def test_a_logical_shift_fills_with_zeros(word: int, count: int) -> None:
    expected = (word % (1 << 64)) >> count
    assert int(shift_logical(np.array([word]), count)[0]) % (1 << 64) == expected
