"""Tokenizers against sentencepiece itself, and against what transformers computed for the demo model."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.errors import ModelError
from engine.provision import tokenizer as tokenizer_module
from engine.provision.checkpoint import open_checkpoint
from engine.provision.tokenizer import (
    PRE_TOKENIZERS,
    Kind,
    Vocabulary,
    build_tokenizer,
    load_tokenizer,
    read_sentencepiece,
    require_ids_below,
    save_tokenizer,
    writes_first,
)
from tests.models import small_llama
from tests.models.demo_model import demo_gguf
from tests.models.golden import real_case
from tests.models.small_llama import MERGES, SPECIAL, SmallLlama

SOURCE = Path("/model")
SMALL = small_llama.UNTIED
TOKENS = small_llama.vocabulary(SMALL)
BYTES = Vocabulary(
    model="gpt2",
    pre="gpt-2",
    tokens=TOKENS,
    kinds=[Kind.CONTROL if token in SPECIAL else Kind.NORMAL for token in TOKENS],
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
    more = replace(BYTES, tokens=[*TOKENS, "harbour"], kinds=[*BYTES.kinds, Kind.NORMAL])
    for name, whole in (("llama-bpe", True), ("gpt-2", False)):
        tokenizer = build_tokenizer(replace(more, pre=name), SOURCE)
        assert (tokenizer.encode("harbour").ids == [len(TOKENS)]) is whole


@given(st.text(max_size=40))
def test_byte_level_text_comes_back(text: str) -> None:
    tokenizer = build_tokenizer(BYTES, SOURCE)
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_are_found_in_text_and_bytes_cannot_make_them() -> None:
    kinds = [Kind.USER_DEFINED if token == "<|im_end|>" else kind for token, kind in zip(TOKENS, BYTES.kinds, strict=True)]
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


def test_tokens_beyond_the_embedding_or_none_at_all() -> None:
    tokenizer = build_tokenizer(BYTES, SOURCE)
    require_ids_below(tokenizer, 307, SOURCE)
    with pytest.raises(ModelError) as caught:
        require_ids_below(tokenizer, 306, SOURCE)
    assert str(caught.value) == "/model: the tokenizer knows token 306, the model only 306 tokens"
    empty = build_tokenizer(Vocabulary(model="gpt2", pre="gpt-2", tokens=[], kinds=[]), SOURCE)
    with pytest.raises(ModelError) as caught:
        require_ids_below(empty, 306, SOURCE)
    assert str(caught.value) == "/model: the tokenizer has no tokens"


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


# sentencepiece


CORPUS = [
    "The harbour was empty when the first of the boats came back.",
    "Nobody on the quay asked what the boats had brought; they could smell it.",
    "In the evening the children counted the boats again, and there was one more.",
    "Über den Hafen zog Nebel; the boats rang their bells.",
    "and then, and then, and then the bells stopped",
]


def trained(**more: object) -> bytes:
    """A sentencepiece model as LLaMA's are, of 340 pieces."""
    model = io.BytesIO()
    options: dict[str, object] = {
        "vocab_size": 340,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "minloglevel": 2,
    }
    trainer = sentencepiece.SentencePieceTrainer
    trainer.train(sentence_iterator=iter(CORPUS), model_writer=model, **(options | more))
    return model.getvalue()


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return trained()


@pytest.fixture
def piece_file(pieces: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(pieces)
    return path


SPM_TEXTS = ("the boats", " the  boats came ", "the the bells, Über Ω 😀 9", "\n\tand then", "a", "x" * 9, "anded", "thethen")


@pytest.mark.parametrize("text", SPM_TEXTS)
def test_sentencepiece_text_is_cut_as_sentencepiece_does(text: str, piece_file: Path) -> None:
    vocabulary = read_sentencepiece(piece_file, {})
    tokenizer = build_tokenizer(vocabulary, piece_file)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(piece_file))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == theirs.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text).ids == [theirs.bos_id(), *ids]


WORDS = st.lists(st.sampled_from([*" ".join(CORPUS).split(), " ", "é", "7", "😀", "theboats"]), max_size=8)


@settings(max_examples=50)
@given(words=WORDS)
def test_any_sentencepiece_text(words: list[str], pieces: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.model"
    path.write_bytes(pieces)
    tokenizer = build_tokenizer(replace(read_sentencepiece(path, {}), bos_id=None), path)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    assert tokenizer.encode(" ".join(words)).ids == theirs.encode(" ".join(words))


def test_sentencepiece_without_a_space_in_front(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(trained(add_dummy_prefix=False))
    vocabulary = replace(read_sentencepiece(path, {}), bos_id=None)
    assert vocabulary.space_prefix is False
    tokenizer = build_tokenizer(vocabulary, path)
    ids = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode("the boats")
    assert tokenizer.encode("the boats").ids == ids
    assert tokenizer.decode(ids) == "the boats"


def test_pieces_that_users_defined_are_found_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(trained(user_defined_symbols=["<x>"]))
    vocabulary = read_sentencepiece(path, {})
    assert vocabulary.kinds[vocabulary.tokens.index("<x>")] == Kind.USER_DEFINED
    tokenizer = build_tokenizer(vocabulary, path)
    assert vocabulary.tokens.index("<x>") in tokenizer.encode("the<x>boats").ids


def test_tokens_added_behind_a_sentencepiece_model(piece_file: Path) -> None:
    vocabulary = read_sentencepiece(piece_file, {1: ("<s>", True), 340: ("<|im_start|>", True), 341: ("<x>", False)})
    assert list(vocabulary.tokens[340:]) == ["<|im_start|>", "<x>"]
    assert list(vocabulary.kinds[340:]) == [Kind.CONTROL, Kind.USER_DEFINED]
    tokenizer = build_tokenizer(vocabulary, piece_file)
    assert tokenizer.encode("<|im_start|>", add_special_tokens=False).ids == [340]
    with pytest.raises(ModelError) as caught:
        read_sentencepiece(piece_file, {341: ("<x>", False)})
    assert str(caught.value) == f"{piece_file}: added token 0 has id 341, not 340"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"byte_fallback": False, "vocab_size": 80}, "only sentencepiece BPE models with byte fallback are supported"),
        ({"model_type": "unigram", "vocab_size": 320}, "only sentencepiece BPE models with byte fallback are supported"),
        ({"normalization_rule_name": "nmt_nfkc"}, "a sentencepiece model that rewrites its text is not supported"),
        ({"remove_extra_whitespaces": True}, "a sentencepiece model that rewrites its text is not supported"),
    ],
)
def test_sentencepiece_models_that_are_refused(more: dict[str, object], what: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(trained(**more))
    with pytest.raises(ModelError) as caught:
        read_sentencepiece(path, {})
    assert str(caught.value) == f"{path}: {what}"


def test_pieces_that_are_not_used(pieces: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    end = b"</s>\x15\0\0\0\0\x18"  # its score and, next, its kind
    path.write_bytes(pieces.replace(end + b"\x03", end + b"\x05"))
    vocabulary = read_sentencepiece(path, {})
    assert vocabulary.kinds[vocabulary.tokens.index("</s>")] == Kind.UNUSED


def test_a_sentencepiece_model_that_is_too_long(piece_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "MAX_TOKENIZER", 1000)
    with pytest.raises(ModelError) as caught:
        read_sentencepiece(piece_file, {})
    assert str(caught.value) == f"{piece_file}: longer than 1000 bytes"


def test_files_that_are_no_sentencepiece_model(pieces: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    for content in (b"", b"no model", pieces[:-9]):
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            read_sentencepiece(path, {})
        assert str(caught.value) == f"{path}: not a sentencepiece model that can be read"


def test_a_checkpoint_directory_with_a_sentencepiece_model(pieces: bytes, tmp_path: Path) -> None:
    small_llama.write_huggingface(SmallLlama(vocab=341, layers=1), tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(pieces)
    words = tmp_path / "tokenizer_config.json"
    added = {"340": {"content": "<|im_start|>", "special": True}}
    small_llama.write_json(words, {"added_tokens_decoder": added})
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.shape.add_bos is True
    assert checkpoint.tokenizer.token_to_id("<|im_start|>") == 340
    small_llama.write_json(words, {"added_tokens_decoder": added, "add_bos_token": False})
    assert open_checkpoint(tmp_path).shape.add_bos is False
    words.unlink()
    assert open_checkpoint(tmp_path).tokenizer.token_to_id("<|im_start|>") is None
    for wrong, what in (
        ({"x": 1}, "added_tokens_decoder.x must be an object, not 1"),
        ({"x": {}}, "added_tokens_decoder must map token ids to objects"),
        ({"340": {}}, "added_tokens_decoder.340.content is missing"),
    ):
        small_llama.write_json(words, {"added_tokens_decoder": wrong})
        with pytest.raises(ModelError) as caught:
            open_checkpoint(tmp_path)
        assert str(caught.value) == f"{words}: {what}"


def test_a_gguf_file_with_a_sentencepiece_vocabulary(piece_file: Path, tmp_path: Path) -> None:
    vocabulary = read_sentencepiece(piece_file, {})
    changes: dict[str, object] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.tokens": list(vocabulary.tokens),
        "tokenizer.ggml.token_type": [int(kind) for kind in vocabulary.kinds],
        "tokenizer.ggml.scores": list(vocabulary.scores),
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.add_bos_token": None,
    }
    path = small_llama.write_gguf(SmallLlama(vocab=340, layers=1), tmp_path / "model.gguf", changes=changes)
    checkpoint = open_checkpoint(path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(piece_file))
    assert checkpoint.shape.add_bos is True
    for text in SPM_TEXTS:
        assert checkpoint.tokenizer.encode(text).ids == [1, *theirs.encode(text)]
