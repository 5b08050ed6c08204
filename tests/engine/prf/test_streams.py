"""The stream is AES-256 in counter mode at addresses; its words are known, its addresses never meet, its key never shows."""

from __future__ import annotations

import copy
import pickle  # to see that it refuses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.prf import FAST, Label, Stream, streams

KEY = bytes(range(32))
labels = st.sampled_from(list(Label))
rows = st.integers(0, (1 << 48) - 1)
small = st.integers(0, (1 << 16) - 1)


def reference(key: bytes, label: int, row: int, section: int, slot: int, start: int, length: int) -> bytes:
    """The same bytes, block by block: AES of label (1 byte), slot (2), section (2), row (6), block (5), big-endian."""
    out = b""
    block = start // 16
    while len(out) < length:
        fields = ((label, 1), (slot, 2), (section, 2), (row, 6), (block, 5))
        counter = b"".join(value.to_bytes(size, "big") for value, size in fields)
        out += Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(counter)  # noqa: S305  a counter block
        block += 1
    return out[:length]


def drawn(stream: Stream, length: int, label: Label, row: int, section: int, slot: int, start: int = 0) -> bytes:
    out = np.empty(length, np.uint8)
    stream.fill(out, label, row, section, slot, start)
    return out.tobytes()


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ((Label.FIXED, 1, 0, 0, 0), "1a24a221b5ae3cddaca19cb7876d9958"),
        ((Label.KEYED, 7, 3, 2, 16), "3675e3c7ede522420fb8eaa6522739b7"),
        ((Label.WEIGHT, 0, 5, 0, 0), "0dc44280f523e090bde2069cc18fc314"),
        ((Label.PREFIX, 0, 29, 1, 0), "7c21d8ae71ee5bc9220180759328d33b"),
        ((Label.CLIENT, (1 << 48) - 1, 65535, 65535, 16 * ((1 << 40) - 1)), "2657968f83f0d9afafdbcdfc68f28b12"),
    ],
)
def test_known_answers(address: tuple[Label, int, int, int, int], known: str) -> None:
    label, row, section, slot, start = address
    assert drawn(Stream(KEY), 16, label, row, section, slot, start).hex() == known


@given(
    key=st.binary(min_size=32, max_size=32), label=labels, row=rows, section=small, slot=small, block=st.integers(0, 1 << 39)
)
@settings(max_examples=25)
def test_every_address_is_that_of_the_reference(
    key: bytes, label: Label, row: int, section: int, slot: int, block: int
) -> None:
    for length in (1, 15, 16, 17, 100):
        expected = reference(key, label, row, section, slot, 16 * block, length)
        assert drawn(Stream(key), length, label, row, section, slot, 16 * block) == expected


@pytest.mark.parametrize("since", [1 << 16, 1 << 18, 1 << 60], ids=["64 kB", "256 kB", "never"])
@pytest.mark.parametrize("length", [(1 << 16) - 1, 1 << 16, (1 << 16) + 1, (1 << 18) + 40])
@pytest.mark.parametrize("start", [0, 16, FAST, 48])
def test_long_ranges_are_those_of_the_reference_too(
    start: int, length: int, since: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `FAST` on another mode of the library draws them, of the lengths at which it is the faster one."""
    monkeypatch.setattr(streams, "galois_from", lambda: since)
    top = (1 << 48) - 1, (1 << 16) - 1, (1 << 16) - 1
    assert drawn(Stream(KEY), length, Label.CLIENT, *top, start) == reference(KEY, 5, *top, start, length)


@pytest.mark.parametrize(
    ("making", "byte", "since"), [(0, 0.5, 1 << 16), (50_000, 0.5, 1 << 18), (500_000, 0.5, None), (0, 2, None)]
)
def test_another_mode_serves_from_where_its_making_pays(making: float, byte: float, since: int | None) -> None:
    """`making`: of a cipher, and `byte`: of its range, in what a byte of the plain mode takes."""
    found = streams.faster_from(lambda length: making + byte * length, float)
    assert found == since if since else found > 1 << 30


def test_a_range_may_be_read_in_parts() -> None:
    stream = Stream(KEY)
    whole = stream.words(100, Label.WEIGHT, 0, 5, 0)
    parts = [stream.words(n, Label.WEIGHT, 0, 5, 0, at) for at, n in ((0, 30), (30, 2), (32, 68))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_any_shape_is_filled_in_c_order() -> None:
    out = np.empty((3, 5), np.int64)
    Stream(KEY).fill(out, Label.FIXED, 1, 2, 3)
    np.testing.assert_array_equal(out.reshape(-1), Stream(KEY).words(15, Label.FIXED, 1, 2, 3))


@pytest.mark.parametrize(
    "address",
    [
        {"row": -1},
        {"row": 1 << 48},
        {"section": -1},
        {"section": 1 << 16},
        {"slot": -1},
        {"slot": 1 << 16},
        {"start": 8},
        {"start": 1},
    ],
)
def test_an_address_that_does_not_fit_is_refused(address: dict[str, int]) -> None:
    whole = {"row": 1, "section": 1, "slot": 1, "start": 0} | address
    with pytest.raises(ValueError, match="does not fit"):
        Stream(KEY).fill(np.empty(4, np.int64), Label.FIXED, **whole)


def test_a_range_never_runs_into_the_next_address() -> None:
    last = 16 * ((1 << 40) - 1)
    Stream(KEY).fill(np.empty(16, np.uint8), Label.FIXED, 1, 1, 1, last)
    for start, length in ((last, 17), (last, 32), (last + 16, 1)):
        with pytest.raises(ValueError, match="leaves its address"):
            Stream(KEY).fill(np.empty(length, np.uint8), Label.FIXED, 1, 1, 1, start)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Stream(bytes(length))


def test_the_record_sees_each_range_and_nothing_of_an_empty_one() -> None:
    seen: list[tuple[int, ...]] = []
    stream = Stream(KEY, lambda *a: seen.append(a))
    stream.words(3, Label.KEYED, 9, 8, 7, 2)
    stream.words(0, Label.KEYED, 9, 8, 7)
    assert seen == [(2, 9, 8, 7, 16, 40)]


def test_it_shows_and_pickles_nothing() -> None:
    stream = Stream(KEY)
    assert repr(stream) == str(stream) == "Stream(…)"
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            take(stream)
    assert not hasattr(stream, "__dict__")


def test_threads_do_not_disturb_each_other() -> None:
    stream = Stream(KEY)
    alone = [Stream(KEY).words(5000, Label.FIXED, row, 0, 0) for row in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: stream.words(5000, Label.FIXED, row, 0, 0), range(40)))
    np.testing.assert_array_equal(alone, together)
