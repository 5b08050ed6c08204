"""Typed reads of metadata that nobody has checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint.fields import Fields, read_json, read_text
from engine.errors import ModelError

PATH = Path("/model/config.json")
SHOWN = {"n": 3, "x": 0.5, "yes": True, "name": "a", "none": None, "part": {"n": 4}, "list": ["a"], "ids": [1, 2], "id": 5}


def test_what_is_there_is_read() -> None:
    fields = Fields(SHOWN, PATH)
    assert fields.integer("n", 1, 3) == 3
    assert fields.number("x", 0, 1) == 0.5
    assert fields.number("n", 0, 9) == 3.0
    assert fields.boolean("yes") is True
    assert fields.text("name") == "a"
    assert fields.strings("list") == ["a"]
    assert fields.integers("ids") == [1, 2]
    assert fields.numbers("ids") == [1, 2]
    assert fields.token_ids("ids", 3) == (1, 2)
    assert fields.token_ids("id", 6) == (5,)
    assert "n" in fields
    assert "none" not in fields


def test_what_is_absent_or_null_takes_its_default() -> None:
    fields = Fields(SHOWN, PATH)
    assert fields.integer("none", 1, 3, 2) == 2
    assert fields.text("no", "x") == "x"
    assert fields.boolean("no", False) is False
    assert fields.token_ids("no", 3) == ()
    assert fields.strings("none") == []
    assert fields.integers("no") == []
    assert fields.numbers("no") == []
    assert fields.section("none") is None


READS: list[tuple[Callable[[Fields], object], str]] = [
    (lambda f: f.integer("missing", 1, 2), "missing is missing"),
    (lambda f: f.integer("n", 4, 9), "n must be an integer from 4 to 9, not 3"),
    (lambda f: f.integer("yes", 0, 9), "yes must be an integer from 0 to 9, not True"),
    (lambda f: f.integer("x", 0, 9), "x must be an integer from 0 to 9, not 0.5"),
    (lambda f: f.number("name", 0, 1), "name must be a number from 0 to 1, not 'a'"),
    (lambda f: f.number("n", 0, 1), "n must be a number from 0 to 1, not 3"),
    (lambda f: f.boolean("n"), "n must be true or false, not 3"),
    (lambda f: f.text("n"), "n must be a string, not 3"),
    (lambda f: f.strings("ids"), "ids must be a list of strings, not a list"),
    (lambda f: f.integers("list"), "list must be a list of integers, not a list"),
    (lambda f: f.numbers("name"), "name must be a list of numbers, not 'a'"),
    (lambda f: f.token_ids("ids", 2), "ids must be a token id below 2, not 2"),
    (lambda f: f.section("n"), "n must be an object, not 3"),
    (lambda f: (f.section("part") or f).integer("n", 1, 2), "part.n must be an integer from 1 to 2, not 4"),
]


@pytest.mark.parametrize(("read", "message"), READS)
def test_what_is_wrong_is_named_with_its_file(read: Callable[[Fields], object], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(Fields(SHOWN, PATH))
    assert str(caught.value) == f"/model/config.json: {message}"


def test_no_number_that_is_not_finite() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ModelError, match=r"x must be a number from 0 to 1e\+12, not"):
            Fields({"x": value}, PATH).number("x", 0, 1e12)
        with pytest.raises(ModelError, match="x must be a list of numbers, not a list"):
            Fields({"x": [value]}, PATH).numbers("x")


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ModelError) as caught:
        Fields({"n": "x" * 10_000}, PATH).integer("n", 0, 1)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1', "not JSON (Expecting ',' delimiter, line 1, column 8)"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not UTF-8 text (byte 0)"),
        (b"[" * 100_000, "not JSON that can be read (too deep or too large a number)"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON that can be read (too deep or too large a number)"),
        (b" " * 200_001, "longer than 200000 bytes"),
    ],
)
def test_files_that_are_no_json_object(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_json(path, 200_000)
    assert str(caught.value) == f"{path}: {message}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_text(tmp_path / "none", 10)
    assert str(caught.value) == f"{tmp_path / 'none'}: cannot be read: No such file or directory"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(JSON)
def test_only_model_errors_escape(value: object) -> None:
    fields = Fields({"k": value}, PATH)
    for read in (
        lambda: fields.integer("k", 0, 10),
        lambda: fields.number("k", 0, 10),
        lambda: fields.boolean("k"),
        lambda: fields.text("k"),
        lambda: fields.strings("k"),
        lambda: fields.integers("k"),
        lambda: fields.numbers("k"),
        lambda: fields.token_ids("k", 10),
        lambda: fields.section("k"),
    ):
        with contextlib.suppress(ModelError):
            read()
