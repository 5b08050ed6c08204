"""The angles that all three parties turn by are integers of their own making, not of a mathematical library's."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gates.rotary import Rotary, angles, whole_angles


@given(
    position=st.integers(0, (1 << 17) - 40),
    count=st.integers(0, 40),
    head_dim=st.sampled_from([2, 12, 64, 128]),
    theta=st.sampled_from([1.5, 1e4, 1e5, 5e5, 1e12]),
    bits=st.sampled_from([10, 14]),
)
def test_whole_angles_are_the_angles_rounded(position: int, count: int, head_dim: int, theta: float, bits: int) -> None:
    """Within 0.51 units, and what float64's own argument (up to 2^17 at 2^-53) is off by."""
    for exact, whole in zip(
        angles(position, count, head_dim, theta), whole_angles(position, count, head_dim, theta, bits), strict=True
    ):
        assert whole.dtype == np.int64
        assert whole.shape == (count, head_dim // 2)
        np.testing.assert_allclose(whole, exact * 2.0**bits, rtol=0, atol=0.51 + 1e-5)


def test_whole_angles_are_the_same_integers_on_every_machine() -> None:
    digest = blake2b(digest_size=16)
    for words in whole_angles(0, 8192, 64, 1e5, 14):
        digest.update(words.astype("<i8").tobytes())
    assert digest.hexdigest() == "9588734e59a4016fd97d68fbf0eeb241"


def test_a_row_turns_alike_in_any_pass() -> None:
    cos, sin = whole_angles(100, 50, 12, 1e4, 14)
    for r in range(50):
        one = whole_angles(100 + r, 1, 12, 1e4, 14)
        np.testing.assert_array_equal((one[0][0], one[1][0]), (cos[r], sin[r]))


def test_a_position_beyond_the_longest_context_is_refused() -> None:
    with pytest.raises(ValueError, match="longest context"):
        whole_angles((1 << 18) - 1, 2, 12, 1e4, 14)


def test_words_of_a_part_of_a_head_are_not_turned() -> None:
    with pytest.raises(ValueError, match="whole heads"):
        Rotary(0, 1, 4, 1e4, 14).turn(np.ones((1, 6), np.int64), 0)
