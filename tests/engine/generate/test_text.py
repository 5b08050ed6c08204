from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from engine.generate.text import TextStream
from tests.models import small_llama


def byte_tokens(text: str) -> list[int]:
    return list(text.encode())


def decode_bytes(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def streamed(tokens: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(decode_bytes, stop)
    return [*(stream.feed(token) for token in tokens), stream.finish()]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
@example("naïve 日本 👩‍👩‍👧 e\u0301")
def test_the_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(streamed(byte_tokens(text))) == text


@given(st.text())
def test_no_piece_holds_a_part_of_a_character(text: str) -> None:
    text = text.encode(errors="ignore").decode().replace("\ufffd", "")
    assert not any("\ufffd" in piece for piece in streamed(byte_tokens(text)))


@given(st.lists(st.integers(0, 255)))
def test_broken_bytes_come_out_as_replacements_and_never_stop_the_stream(tokens: list[int]) -> None:
    text = "".join(streamed([*tokens, *b" and more text"]))
    assert text.endswith(" and more text")


def test_an_incomplete_character_at_the_end_is_left_out() -> None:
    assert "".join(streamed(byte_tokens("ok 👍")[:-1])) == "ok "


def test_broken_bytes_are_held_no_longer_than_a_character_may_be() -> None:
    stream = TextStream(decode_bytes)
    assert [stream.feed(0x80) for _ in range(8)] == ["", "", "", *["\ufffd"] * 5]


def test_a_character_is_out_with_its_last_byte() -> None:
    assert streamed(byte_tokens("é!")) == ["", "é", "!", ""]


def test_text_ends_before_a_stop_string() -> None:
    stream = TextStream(decode_bytes, ["\nUser:", "STOP"])
    text = "".join(stream.feed(token) for token in byte_tokens("one\nUse it\nUser: two"))
    assert text == "one\nUse it"
    assert stream.stopped
    assert stream.feed(65) == ""
    assert stream.finish() == ""


def test_the_first_of_several_stop_strings_counts() -> None:
    assert "".join(streamed([*byte_tokens("abXcdY")], ["Y", "X"])) == "ab"


def test_the_beginning_of_a_stop_string_is_held_and_then_given() -> None:
    pieces = streamed(byte_tokens("a<en"), ["<end>"])
    assert pieces == ["a", "", "", "", "<en"]


@given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=4))
def test_stop_strings_cut_where_find_does(text: str, stop: str) -> None:
    assert "".join(streamed(byte_tokens(text), [stop])) == text.partition(stop)[0]


def spelled(parts: list[bytes]) -> tuple[Tokenizer, list[int]]:
    """A byte-level tokenizer that has each of these pieces as a token, and the pieces' tokens."""
    words = ["".join(LETTERS[byte] for byte in part) for part in parts]
    vocab = {word: index for index, word in enumerate(dict.fromkeys([*words, *LETTERS]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, [vocab[word] for word in words]


LETTERS = small_llama.byte_tokens()
SCRIPTS = "公园散步今天 오늘날씨 สวัสดีครับ नमस्ते आप 👩‍👩‍👧👍🏽 مرحبا é\u0301 ab\n"


def pieces_of(data: bytes, cuts: set[int]) -> list[bytes]:
    ends = sorted(cut for cut in cuts if 0 < cut < len(data))
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True) if start < end]


@given(st.text(st.sampled_from(SCRIPTS), max_size=120), st.sets(st.integers(1, 500)), st.booleans())
@example("公园散步" * 30, {cut for cut in range(360) if cut % 3}, False)
@example("公园散步" * 30, {cut for cut in range(360) if cut % 3 == 1}, False)
def test_tokens_may_end_one_character_and_begin_the_next(text: str, cuts: set[int], single: bool) -> None:
    data = text.encode()
    tokenizer, tokens = spelled(pieces_of(data, set(range(len(data))) if single else cuts))
    stream = TextStream(tokenizer.decode)
    pieces = [stream.feed(token) for token in tokens]
    assert "".join(pieces) == text
    assert stream.finish() == ""


BROKEN = [b"\x80", b"\xe4", b"\xbd", b"\xa0", b"\xff", b"\xf0\x9f", "你".encode(), b"a", b"a\xe4"]


@given(st.lists(st.sampled_from(BROKEN), max_size=80))
def test_bytes_that_are_no_text_come_out_as_in_the_whole(parts: list[bytes]) -> None:
    tokenizer, tokens = spelled([*parts, b" end"])
    stream = TextStream(tokenizer.decode)
    text = ""
    for count, token in enumerate(tokens, 1):
        text += stream.feed(token)
        assert len(tokenizer.decode(tokens[:count])) - len(text) <= 3 * 2  # three tokens, of two bytes at most
    assert text == tokenizer.decode(tokens)


@pytest.mark.parametrize("cut", [1, 2, 3], ids=["aligned now and then", "never aligned", "whole"])
def test_a_token_costs_the_same_however_long_the_answer_is(cut: int) -> None:
    data = "公园散步".encode() * 200
    cuts = set(range(cut, len(data), 3)) if cut > 1 else set(range(0, len(data), 4))
    tokenizer, tokens = spelled(pieces_of(data, cuts))
    decoded = []

    def decode(some: Sequence[int]) -> str:
        decoded.append(len(some))
        return str(tokenizer.decode(list(some)))

    stream = TextStream(decode)
    assert "".join(map(stream.feed, tokens)) == data.decode()
    assert max(decoded) <= 32
    assert sum(decoded) <= 32 * len(tokens)


def test_a_thousand_tokens_without_text_are_not_kept() -> None:
    decoded = []

    def decode(some: Sequence[int]) -> str:
        decoded.append(len(some))
        return "".join("x" for token in some if token)

    stream = TextStream(decode)
    assert "".join(stream.feed(token) for token in [*[0] * 1000, 1, 0, 1]) == "xx"
    assert max(decoded) <= 128


def sentencepiece() -> Tokenizer:
    """Every byte as a token, and a few words, as LLaMA's first tokenizers have it."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁the", "▁cat", "é", "."]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


WORDS = [[257], [258], [259], [260], [261], [262], [byte + 1 for byte in "👍".encode()], [0xC4, 0xAA]]


@given(st.lists(st.sampled_from(WORDS)))
@example(WORDS * 30)
@example([WORDS[-2], WORDS[-1]] * 30)
def test_spaces_and_byte_tokens_of_sentencepiece_come_out_whole(words: list[list[int]]) -> None:
    tokenizer = sentencepiece()
    tokens = [token for word in words for token in word]
    stream = TextStream(tokenizer.decode)
    assert "".join([*map(stream.feed, tokens), stream.finish()]) == tokenizer.decode(tokens)
