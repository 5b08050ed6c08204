"""Tokenizers of GGUF files, against what transformers computed for the demo model."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.checkpoint.open import open_checkpoint
from engine.checkpoint.tokenizer import (
    PRE_TOKENIZERS,
    TokenKind,
    Vocabulary,
    build_tokenizer,
    load_tokenizer,
    save_tokenizer,
    writes_first,
)
from engine.errors import ModelError
from tests.models import small_llama
from tests.models.demo_model import demo_gguf
from tests.models.golden import real_case
from tests.models.small_llama import MERGES, SPECIAL

SOURCE = Path("/model")
SMALL = small_llama.UNTIED
TOKENS = small_llama.vocabulary(SMALL)
BYTES = Vocabulary(
    model="gpt2",
    pre="gpt-2",
    tokens=TOKENS,
    kinds=[TokenKind.CONTROL if token in SPECIAL else TokenKind.NORMAL for token in TOKENS],
    merges=MERGES,
)


@pytest.fixture(scope="module")
def demo_tokenizer() -> Tokenizer:
    return open_checkpoint(demo_gguf()).tokenizer


@pytest.mark.parametrize(("text", "ids"), real_case().strings)
def test_strings_of_the_demo_model(text: str, ids: list[int], demo_tokenizer: Tokenizer) -> None:
    assert demo_tokenizer.encode(text).ids == ids
    assert demo_tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_chat_of_the_demo_model(demo_tokenizer: Tokenizer) -> None:
    case = real_case()
    assert demo_tokenizer.encode(case.chat_text).ids == case.chat_tokens
    assert demo_tokenizer.decode(case.greedy, skip_special_tokens=False) == case.answer
    assert demo_tokenizer.decode(case.greedy) == "The capital of France is Paris."


def test_the_demo_tokenizer_survives_its_file(demo_tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(demo_tokenizer, tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.get_vocab() == demo_tokenizer.get_vocab()
    for text, ids in real_case().strings:
        assert loaded.encode(text).ids == ids
        assert loaded.decode(ids, skip_special_tokens=False) == text


# What each pre-tokenizer makes of a text, by llama.cpp's patterns.
TEXT = "It's  12345 x=y; We'LL\n\n go!"
PIECES = {
    "gpt-2": ["It", "'s", " ", " 12345", " x", "=", "y", ";", " We", "'", "LL", "\n\n", " go", "!"],
    "smollm": ["It", "'s", "  ", "1", "2", "3", "4", "5", " x", "=", "y", ";", " We", "'", "LL", "\n\n", " go", "!"],
    "llama-bpe": ["It", "'s", " ", " ", "123", "45", " x", "=y", ";", " We", "'LL", "\n\n", " go", "!"],
    "default": ["It", "'", "s", " ", " ", "123", "45", " x", "=", "y", ";", " We", "'", "LL", "\n\n", " go", "!"],
}


@pytest.mark.parametrize("name", PIECES)
def test_the_cuts_of_each_pre_tokenizer(name: str) -> None:
    tokenizer = build_tokenizer(replace(BYTES, pre=name), SOURCE)
    assert tokenizer.pre_tokenizer is not None
    cuts = tokenizer.pre_tokenizer.pre_tokenize_str(TEXT)
    assert [TEXT[start:end] for _, (start, end) in cuts] == PIECES[name]


def test_names_for_the_same_pre_tokenizer() -> None:
    assert PRE_TOKENIZERS["gpt2"] == PRE_TOKENIZERS["gpt-2"]
    assert PRE_TOKENIZERS["llama3"] == PRE_TOKENIZERS["llama-v3"] == PRE_TOKENIZERS["llama-bpe"]


def test_llama_3_looks_whole_words_up_before_it_merges() -> None:
    more = replace(BYTES, tokens=[*TOKENS, "harbour"], kinds=[*BYTES.kinds, TokenKind.NORMAL])
    for name, whole in (("llama-bpe", True), ("gpt-2", False)):
        tokenizer = build_tokenizer(replace(more, pre=name), SOURCE)
        assert (tokenizer.encode("harbour").ids == [len(TOKENS)]) is whole


@given(st.text(max_size=40))
def test_byte_level_text_comes_back(text: str) -> None:
    tokenizer = build_tokenizer(BYTES, SOURCE)
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_are_found_in_text_and_bytes_cannot_make_them() -> None:
    kinds = [TokenKind.USER_DEFINED if token == "<|im_end|>" else kind for token, kind in zip(TOKENS, BYTES.kinds, strict=True)]
    tokenizer = build_tokenizer(replace(BYTES, kinds=kinds), SOURCE)
    ids = tokenizer.encode("<|im_start|>a<|im_end|>").ids
    assert ids == [1, TOKENS.index("a"), 2]
    assert tokenizer.decode(ids) == "a<|im_end|>"


def test_the_first_token_of_plain_text() -> None:
    tokenizer = build_tokenizer(replace(BYTES, bos_id=1), SOURCE)
    assert tokenizer.encode("a").ids == [1, TOKENS.index("a")]
    assert tokenizer.encode("a", add_special_tokens=False).ids == [TOKENS.index("a")]
    assert writes_first(tokenizer, 1, SOURCE)
    assert not writes_first(tokenizer, 2, SOURCE)
    assert not writes_first(tokenizer, None, SOURCE)


LLAMA = Vocabulary(model="llama", pre="default", tokens=["<unk>", "a"], kinds=[2, 1], scores=[0.0, -1.0])
REFUSED = [
    (replace(BYTES, model="rwkv"), "tokenizer model 'rwkv' is not supported (gpt2 and llama are)"),
    (
        replace(BYTES, pre="qwen2"),
        "pre-tokenizer 'qwen2' is not supported (default, gpt-2, gpt2, smollm, llama-bpe, llama3, llama-v3 are)",
    ),
    (replace(BYTES, kinds=[1]), "1 token types for 307 tokens"),
    (replace(BYTES, kinds=[9] * 307), "token type 9 is unknown"),
    (replace(BYTES, tokens=["a"] * 307), "a token stands twice in the vocabulary"),
    (replace(BYTES, tokens=[*TOKENS[:-1], "x" * 513]), "a token is longer than 512 characters"),
    (replace(BYTES, bos_id=307), "the first token 307 is not in the vocabulary"),
    (replace(LLAMA, scores=[0.0]), "1 token scores for 2 tokens"),
]


@pytest.mark.parametrize(("vocabulary", "what"), REFUSED)
def test_vocabularies_that_are_refused(vocabulary: Vocabulary, what: str) -> None:
    with pytest.raises(ModelError) as caught:
        build_tokenizer(vocabulary, SOURCE)
    assert str(caught.value) == f"/model: {what}"


def test_merges_of_unknown_tokens() -> None:
    with pytest.raises(ModelError, match=r"/model: not a tokenizer that can be built \(.*Token `zq` out of vocabulary\)"):
        build_tokenizer(replace(BYTES, merges=["z q"]), SOURCE)


def test_padding_and_truncation_of_a_file_are_not_kept(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(BYTES, SOURCE)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    assert len(load_tokenizer(tmp_path / "tokenizer.json").encode("a b c d").ids) > 2
    assert len(load_tokenizer(tmp_path / "tokenizer.json").encode("a").ids) == 1


@settings(max_examples=60)
@given(st.data())
def test_only_model_errors_escape_a_spoiled_tokenizer_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = json.dumps(small_llama.tokenizer_json(replace(SMALL, vocab=262)))
    at = data.draw(st.integers(0, len(text) - 1))
    path = tmp_path_factory.getbasetemp() / "spoiled.json"
    path.write_text(text[:at] + data.draw(st.text('{}[]",:0e-ab \\', max_size=3)) + text[at + 1 :])
    with contextlib.suppress(ModelError):
        load_tokenizer(path).encode("a")
