"""Framing: every field is checked, each with a code of its own, and nothing else escapes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CODES, ProtocolError
from engine.link.frames import (
    BULK_LIMIT,
    HEADER_BYTES,
    LIMITS,
    MAX_MESSAGE,
    Frame,
    FrameReader,
    FrameType,
    FrameWriter,
    decode,
    encode,
)

SESSION = bytes(range(16))
OTHER = bytes(16)


def frame(kind: FrameType = FrameType.BLOCK, payload: bytes = b"abc", sequence: int = 0) -> Frame:
    return Frame(kind, SESSION, sequence, payload)


def code(data: bytes, reader: FrameReader | None = None) -> str:
    with pytest.raises(ProtocolError) as caught:
        reader.read(data) if reader else decode(data)
    assert caught.value.code in CODES
    return caught.value.code


def test_the_header_is_as_documented() -> None:
    data = encode(Frame(FrameType.STEP, SESSION, 0x0102, b"xyz"))
    assert data == b"\x01\x06" + SESSION + b"\x02\x01\0\0\0\0\0\0" + b"xyz"
    assert HEADER_BYTES == 26


@given(
    kind=st.sampled_from(FrameType),
    session=st.binary(min_size=16, max_size=16),
    sequence=st.integers(0, 2**64 - 1),
    payload=st.binary(max_size=200),
)
def test_what_is_encoded_is_decoded(kind: FrameType, session: bytes, sequence: int, payload: bytes) -> None:
    decoded = decode(encode(Frame(kind, session, sequence, payload)))
    assert decoded == Frame(kind, session, sequence, memoryview(payload))


@given(st.binary(max_size=64))
def test_only_the_protocols_own_error_escapes(data: bytes) -> None:
    with suppress(ProtocolError):
        FrameReader().read(data)


def test_a_payload_is_a_view_of_the_message() -> None:
    data = bytearray(encode(frame()))
    decoded = decode(data)
    data[-1] = 0
    assert decoded.payload[-1] == 0


def test_every_prefix_of_a_header_is_truncated() -> None:
    data = encode(frame(payload=b""))
    assert {code(data[:length]) for length in range(HEADER_BYTES)} == {"truncated"}


def test_another_version_is_refused() -> None:
    assert code(b"\x02" + encode(frame())[1:]) == "wrong-version"


def test_unknown_types_are_refused() -> None:
    data = encode(frame())
    unknown = set(range(256)) - {int(kind) for kind in FrameType}
    assert {code(data[:1] + bytes([number]) + data[2:]) for number in unknown} == {"unknown-type"}


@pytest.mark.parametrize("kind", FrameType)
def test_each_type_has_its_limit(kind: FrameType) -> None:
    limits = LIMITS | {kind: 5}
    assert len(decode(encode(frame(kind, b"12345"), limits), limits).payload) == 5
    assert code_with(encode(frame(kind, b"123456")), limits) == "oversized"
    with pytest.raises(ValueError, match="over its limit"):
        encode(frame(kind, b"123456"), limits)


@pytest.mark.parametrize("kind", FrameType)
def test_a_writer_sends_nothing_beyond_the_limit_and_goes_on(kind: FrameType) -> None:
    writer = FrameWriter(SESSION, limits=LIMITS | {kind: 5})
    with pytest.raises(ValueError, match=f"{kind.name} of 6 bytes is over its limit"):
        writer.write(kind, b"123", b"456")
    assert writer.write(kind, b"123", b"45") == encode(frame(kind, b"12345"))


def test_the_first_payload_decides_the_session_and_the_next_belong_to_it() -> None:
    reader = FrameReader()
    assert reader.payload(encode(frame()), FrameType.BLOCK) == b"abc"
    assert reader.payload(encode(frame(sequence=1)), FrameType.BLOCK) == b"abc"
    with pytest.raises(ProtocolError, match="wrong-session"):
        reader.payload(encode(Frame(FrameType.BLOCK, OTHER, 2, b"abc")), FrameType.BLOCK)


def code_with(data: bytes, limits: dict[FrameType, int]) -> str:
    return code(data, FrameReader(limits=limits))


def test_the_limits_are_those_of_the_protocol() -> None:
    assert set(LIMITS) == set(FrameType)
    assert {LIMITS[kind] for kind in (FrameType.HELLO, FrameType.WELCOME, FrameType.PEER_HELLO)} == {16 << 10}
    assert {LIMITS[kind] for kind in (FrameType.MATERIAL, FrameType.ROUND, FrameType.ANSWER)} == {BULK_LIMIT}
    assert LIMITS[FrameType.STOP] == 64 << 10
    assert MAX_MESSAGE == BULK_LIMIT + HEADER_BYTES


def test_a_session_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        encode(Frame(FrameType.BYE, b"short", 0, b""))


def test_writer_and_reader_count_together() -> None:
    writer, reader = FrameWriter(SESSION), FrameReader(SESSION)
    for number in range(3):
        read = reader.read(writer.write(FrameType.MATERIAL, b"head", bytearray(b"body")))
        assert (read.sequence, bytes(read.payload)) == (number, b"headbody")
    assert bytes(reader.read(writer.write(FrameType.BYE)).payload) == b""
    assert writer.sequence == reader.sequence == 4


def test_the_first_frame_decides_the_session_of_the_called_side() -> None:
    reader = FrameReader()
    reader.read(encode(frame()))
    assert reader.session == SESSION
    assert code(encode(Frame(FrameType.BYE, OTHER, 1, b"")), reader) == "wrong-session"


def test_another_session_is_refused() -> None:
    assert code(encode(frame()), FrameReader(OTHER)) == "wrong-session"


@pytest.mark.parametrize("sequence", [0, 2, 2**64 - 1])
def test_a_repeated_or_lost_frame_is_refused(sequence: int) -> None:
    reader = FrameReader(SESSION)
    reader.read(encode(frame()))
    assert code(encode(frame(sequence=sequence)), reader) == "out-of-order"


def test_after_an_error_everything_is_refused() -> None:
    reader = FrameReader(SESSION)
    assert code(b"", reader) == "truncated"
    assert code(encode(frame()), reader) == "truncated"


def test_a_frame_does_not_show_its_payload() -> None:
    assert "secret" not in repr(frame(payload=b"secret"))
