"""The header of a GGUF file against the gguf package's own reader, and files that lie."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.gguf_header import read_header
from engine.errors import ModelError
from tests.models import small_llama
from tests.models.demo_model import demo_gguf

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
KINDS = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0)


def agrees_with_the_gguf_package(path: Path) -> None:
    header, reader = read_header(path), gguf.GGUFReader(path)
    expected = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert header.metadata == expected
    assert list(header.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        place = header.tensors[tensor.name]
        assert place.size == tuple(tensor.shape[::-1].tolist())
        assert (place.stored, place.offset) == (tensor.tensor_type, tensor.data_offset)
        assert place.length == tensor.n_bytes


@pytest.mark.parametrize("stored", KINDS)
def test_small_files_are_read_as_the_gguf_package_reads_them(stored: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    agrees_with_the_gguf_package(small_llama.write_gguf(small_llama.ALIGNED, tmp_path / "small.gguf", stored))


def test_the_demo_model_is_read_as_the_gguf_package_reads_it() -> None:
    agrees_with_the_gguf_package(demo_gguf())


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def tensor(name: bytes, size: tuple[int, ...], stored: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(size)}QIQ", len(size), *size, stored, offset)


def file(keys: list[bytes], tensors: list[bytes], data: bytes = b"", version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys + tensors)
    return head + b"\0" * (-len(head) % 32) + data


ONE = key(b"one", UINT32, struct.pack("<I", 1))
STRING_OF_2_60 = key(b"s", STRING, struct.pack("<Q", 2**60))
ARRAY_OF_2_60 = key(b"a", ARRAY, struct.pack("<IQ", UINT32, 2**60))
ARRAY_OF_2_20 = key(b"a", ARRAY, struct.pack("<IQ", UINT32, 2**20))
LIES: list[tuple[bytes, str]] = [
    (b"", "not a GGUF file (byte 0)"),
    (b"PK\3\4 a zip file", "not a GGUF file (byte 0)"),
    (file([], [], version=1), "GGUF version 1 is not supported (2 and 3 are) (byte 4)"),
    (b"GGUF" + struct.pack(">I", 3), "GGUF version 50331648 is not supported (2 and 3 are) (byte 4)"),
    (b"GGUF\3\0", "the header ends beyond the file (truncated?) (byte 6)"),
    (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), f"{2**40} tensors are more than 65536 (byte 8)"),
    (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), f"{2**40} keys are more than 65536 (byte 16)"),
    (file([STRING_OF_2_60], []), f"{2**60} bytes in a string are more than 16777216 (byte 37)"),
    (file([ARRAY_OF_2_60], []), f"{2**60} array items are more than 2097152 (byte 41)"),
    (file([ARRAY_OF_2_20], []), "the header ends beyond the file (truncated?) (byte 64)"),
    (file([key(b"a", ARRAY, struct.pack("<IQ", ARRAY, 1))], []), "an array of arrays is not supported (byte 41)"),
    (file([key(b"k", 99, b"")], []), "value type 99 is unknown (byte 33)"),
    (file([key(b"\xff", UINT32, b"")], []), "a string is not UTF-8 (byte 24)"),
    (file([ONE, ONE], []), "key one stands twice (byte 43)"),
    (file([], [tensor(b"t", (1,), 0, 0)] * 2, bytes(32)), "tensor t stands twice (byte 57)"),
    (file([], [tensor(b"t", (1,) * 5, 0, 0)]), "5 dimensions are more than 4 (byte 33)"),
    (file([], [tensor(b"t", (1,), 77, 0)]), "tensor type 77 is unknown (byte 45)"),
    (file([], [tensor(b"t", (8,), 0, 0)], bytes(31)), "tensor t ends beyond the file (truncated?) (byte 95)"),
    (file([], [tensor(b"t", (2**63,), 0, 0)], bytes(32)), "tensor t ends beyond the file (truncated?) (byte 96)"),
    (file([], [tensor(b"t", (1,), 0, 2**63)], bytes(32)), "tensor t ends beyond the file (truncated?) (byte 96)"),
    (file([], [tensor(b"t", (33,), 8, 0)], bytes(99)), "tensor t: rows of 33 do not divide into blocks of 32 (byte 57)"),
    (
        file([key(b"general.alignment", UINT32, struct.pack("<I", 0))], []),
        "general.alignment is out of range (byte 57)",
    ),
    (
        file([key(b"general.alignment", STRING, string(b"x"))], []),
        "general.alignment is out of range (byte 62)",
    ),
]


@pytest.mark.parametrize(("content", "what"), LIES)
def test_files_that_lie(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert str(caught.value) == f"{path}: {what}"


def test_a_header_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros take no place on a disk, but as numbers in memory."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + key(b"a", ARRAY, struct.pack("<IQ", 0, 2**21)))
    with path.open("r+b") as sparse:
        sparse.truncate(1 << 40)
    monkeypatch.setattr("engine.checkpoint.gguf_header.MAX_GGUF_HEADER", 1 << 20)
    with pytest.raises(ModelError, match=r"the header is longer than 1048576 bytes \(byte 49\)"):
        read_header(path)


def test_what_a_file_calls_its_tensors_does_not_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(file([], [tensor(b"\x1b[2J\n", (1,), 0, 0)] * 2, bytes(32)))
    with pytest.raises(ModelError, match="tensor \ufffd\\[2J\ufffd stands twice"):
        read_header(path)


def test_every_kind_of_value(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    values = [
        struct.pack("<" + form, value) for form, value in zip("BbHhIif?", (200, -3, 60000, -9, 7, -7, 0.5, True), strict=True)
    ]
    keys = [key(str(kind).encode(), kind, value) for kind, value in enumerate(values)]
    keys += [key(b"8", STRING, string("ü".encode())), key(b"10", 10, struct.pack("<Q", 2**60))]
    keys += [key(b"11", 11, struct.pack("<q", -(2**60))), key(b"12", 12, struct.pack("<d", 0.1))]
    keys += [key(b"9", ARRAY, struct.pack("<IQ3B", 7, 3, 1, 0, 1))]
    keys += [key(b"none", ARRAY, struct.pack("<IQ", STRING, 0))]
    path.write_bytes(file(keys, [tensor(b"t", (3, 2), 0, 32)], bytes(56), version=2))
    header = read_header(path)
    assert header.metadata == {
        **{"0": 200, "1": -3, "2": 60000, "3": -9, "4": 7, "5": -7, "6": 0.5, "7": True},
        **{"8": "ü", "10": 2**60, "11": -(2**60), "12": 0.1, "9": [True, False, True], "none": []},
    }
    place = header.tensors["t"]
    assert place.size == (2, 3)
    assert place.length == 24
    assert place.offset + place.length == path.stat().st_size


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file or directory"):
        read_header(tmp_path / "none.gguf")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A small file that a test may spoil, and its bytes."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    keys = [ONE, key(b"s", STRING, string(b"text")), key(b"a", ARRAY, struct.pack("<IQ2f", FLOAT32, 2, 1, 2))]
    content = file(keys, [tensor(b"t", (4, 2), 0, 0), tensor(b"u", (32,), 8, 32)], bytes(66))
    path.write_bytes(content)
    return path, content


@settings(max_examples=200)
@given(data=st.data())
def test_only_model_errors_escape_a_spoiled_header(sample: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = sample
    changed = np.frombuffer(content, np.uint8).copy()
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, changed.size - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed[: data.draw(st.integers(0, changed.size))].tobytes())
    with contextlib.suppress(ModelError):
        header = read_header(path)
        for place in header.tensors.values():
            assert place.offset + place.length <= path.stat().st_size
