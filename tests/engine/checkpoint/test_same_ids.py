"""Checkpoints × texts: the ids of transformers and of sentencepiece, for plain text and for conversations.

Every checkpoint is read as `trine-model share` reads it. transformers is asked beside it in this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.open import open_checkpoint
from engine.generate.tokenizer import ChatTokenizer
from tests.models import small_llama
from tests.models import tokenizers_made as made
from tests.models.chat_templates import TEMPLATES
from tests.models.texts import COMMANDS, PLAIN

ROWS = 420
CHATML, LLAMA2, LLAMA3 = TEMPLATES["chatml"], TEMPLATES["llama2"], TEMPLATES["llama3"]


@cache
def plain_pieces() -> bytes:
    return made.pieces()


@cache
def user_pieces() -> bytes:
    return made.pieces(user_defined_symbols=["▁▁", "▁▁▁▁", "\n", "<think>"])


def json_of(tokenizer: Tokenizer) -> dict[str, bytes | dict[str, Any]]:
    return {"tokenizer.json": tokenizer.to_str().encode()}


def llama3(path: Path) -> Path:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    return made.directory(path, ROWS, config | {"chat_template": LLAMA3}, json_of(made.llama3()))


def llama3_declared_llama(path: Path) -> Path:
    first = made.entry("<|begin_of_text|>") | {"__type": "AddedToken"}
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": first, "eos_token": "<|eot_id|>"}
    named = [{"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": LLAMA3}]
    return made.directory(path, ROWS, config | {"chat_template": named}, json_of(made.llama3()))


def gpt2(path: Path) -> Path:
    config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": None}
    files = json_of(made.gpt2()) | {"chat_template.jinja": CHATML.encode()}
    return made.directory(path, ROWS, config | {"chat_template": "not this one"}, files)


def legacy(path: Path) -> Path:
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True, "chat_template": LLAMA2}
    return made.directory(path, 400, config, {"tokenizer.model": plain_pieces()})


def not_legacy(path: Path) -> Path:
    added = {str(400 + index): made.entry(text) for index, text in enumerate(("<|im_start|>", "<|im_end|>"))}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "chat_template": CHATML, "added_tokens_decoder": added}
    return made.directory(path, ROWS, config, {"tokenizer.model": plain_pieces()})


def flagged(path: Path) -> Path:
    """Marks of turns that take the space around them, as Phi-3's do."""
    added = {"400": made.entry("<|im_start|>", rstrip=True), "401": made.entry("<|im_end|>", lstrip=True, rstrip=True)}
    added["402"] = made.entry("<think>", special=False, single_word=True, normalized=True)
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "chat_template": CHATML, "added_tokens_decoder": added}
    return made.directory(path, ROWS, config, {"tokenizer.model": plain_pieces()})


def added_by_name(path: Path) -> Path:
    files = {"tokenizer.model": plain_pieces(), "added_tokens.json": {"<|im_start|>": 400, "<|im_end|>": 401, "<think>": 402}}
    config = {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, "chat_template": CHATML, "eos_token": "<|im_end|>"}
    return made.directory(path, ROWS, config, files)


def special_by_map(path: Path) -> Path:
    files = {"tokenizer.model": plain_pieces(), "added_tokens.json": {"<|im_start|>": 400, "<|im_end|>": 401}}
    files |= {
        "special_tokens_map.json": {
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "eos_token": made.entry("</s>"),
        }
    }
    config = {"tokenizer_class": "LlamaTokenizer", "chat_template": CHATML, "add_bos_token": True, "add_eos_token": True}
    return made.directory(path, ROWS, config, files)


def user_defined(path: Path) -> Path:
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "chat_template": LLAMA2}
    return made.directory(path, 400, config, {"tokenizer.model": user_pieces()})


def user_defined_not_legacy(path: Path) -> Path:
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "chat_template": LLAMA2, "add_prefix_space": False}
    return made.directory(path, 400, config, {"tokenizer.model": user_pieces()})


def converted(path: Path) -> Path:
    """A tokenizer.json that transformers made of a tokenizer.model."""
    theirs = AutoTokenizer.from_pretrained(legacy(path.with_name("before")), local_files_only=True)
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "chat_template": LLAMA2}
    return made.directory(path, 400, config, {"tokenizer.json": theirs.backend_tokenizer.to_str().encode()})


def as_it_is(path: Path) -> Path:
    """A tokenizer.json with a normalizer and Metaspace that nobody rebuilds."""
    state = json.loads(AutoTokenizer.from_pretrained(legacy(path.with_name("before"))).backend_tokenizer.to_str())
    state["normalizer"] = {"type": "NFKC"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "chat_template": LLAMA2}
    return made.directory(path, 400, config, {"tokenizer.json": state})


MADE = [
    llama3,
    llama3_declared_llama,
    gpt2,
    legacy,
    not_legacy,
    flagged,
    added_by_name,
    special_by_map,
    user_defined,
    user_defined_not_legacy,
    converted,
    as_it_is,
]


def chat_of(checkpoint: Checkpoint) -> ChatTokenizer:
    return ChatTokenizer(checkpoint.tokenizer, checkpoint.chat_template, checkpoint.shape.eos_ids)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_the_ids_of_transformers(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "model")
    checkpoint = open_checkpoint(path)
    chat, theirs = chat_of(checkpoint), AutoTokenizer.from_pretrained(path, local_files_only=True)
    for text in (*PLAIN, *COMMANDS):  # where nobody keeps users' words apart, control words are control tokens
        assert checkpoint.tokenizer.encode(text).ids == theirs(text).input_ids, text
        assert (
            checkpoint.tokenizer.encode(text, add_special_tokens=False).ids == theirs(text, add_special_tokens=False).input_ids
        )
        ids = theirs(text, add_special_tokens=False).input_ids
        assert checkpoint.tokenizer.decode(ids, skip_special_tokens=False) == theirs.decode(ids)
    for text in PLAIN:
        for messages in (said(text), said(text, text, "more"), said("q", "a", text)):
            assert chat.encode_chat(messages) == theirs.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_control_words_of_a_user_are_text(make: Callable[[Path], Path], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(make(tmp_path / "model"))
    chat = chat_of(checkpoint)
    controls = {index for index, token in checkpoint.tokenizer.get_added_tokens_decoder().items() if token.special}
    calm = [index for index in chat.encode_chat(said("x", "x", "x")) if index in controls]
    assert len(calm) > 2
    for text in COMMANDS:
        ids = chat.encode_chat(said(text, text, text))
        assert [index for index in ids if index in controls] == calm
        if make is not as_it_is:  # which normalizes
            assert letters(checkpoint.tokenizer.decode(ids, skip_special_tokens=False)).count(letters(text)) == 3


def letters(text: str) -> str:
    """Without spaces, and what sentencepiece takes for one: it writes some where nobody typed any."""
    return text.replace(" ", "").replace("▁", "")


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


Pair = tuple[ChatTokenizer, Any]  # ours and transformers'


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Every checkpoint of the table, read by both."""
    paths = {make.__name__: make(tmp_path_factory.mktemp(make.__name__) / "model") for make in MADE}
    return {
        name: (chat_of(open_checkpoint(path)), AutoTokenizer.from_pretrained(path, local_files_only=True))
        for name, path in paths.items()
    }


NAMES = st.sampled_from([make.__name__ for make in MADE])
PARTS = [
    "the boats",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "<",
    "think>",
    "<think>",
    "well",
    "é",
    "▁",
    "im_",
    "|",
    "12",
    "公",
    "\ufeff",
]
WORDS = st.text(max_size=20) | st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
MARKS = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<s>", "</s>", "<|im_", "end|>", "</", "s>", "<|", "x"]


@settings(max_examples=60)
@given(name=NAMES, texts=st.tuples(WORDS, WORDS, WORDS))
def test_any_conversation_has_the_ids_of_transformers(name: str, texts: tuple[str, ...], pairs: dict[str, Pair]) -> None:
    chat, theirs = pairs[name]
    ids = theirs.apply_chat_template(said(*texts), add_generation_prompt=True, return_dict=False)
    assert chat.encode_chat(said(*texts)) == ids


@settings(max_examples=60)
@given(name=NAMES, parts=st.lists(st.sampled_from(MARKS), max_size=6))
def test_no_text_is_a_control_token_of_any_checkpoint(name: str, parts: list[str], pairs: dict[str, Pair]) -> None:
    chat, theirs = pairs[name]
    marks = {index for index, token in theirs.added_tokens_decoder.items() if token.special or token.content in MARKS}
    found = [[index for index in chat.encode_chat(said(text, text, text)) if index in marks] for text in ("x", "".join(parts))]
    assert found[0] == found[1]


def test_a_byte_level_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    """transformers would build GPT-2's in its place, which does not cut digits."""
    source = made.gpt2(digits=True)
    path = made.directory(tmp_path / "model", ROWS, {"tokenizer_class": "GPT2Tokenizer"}, json_of(source))
    tokenizer = open_checkpoint(path).tokenizer
    for text in PLAIN:
        assert tokenizer.encode(text).ids == source.encode(text).ids


# GGUF


def gguf(path: Path, rows: int, changes: dict[str, object]) -> Checkpoint:
    return open_checkpoint(small_llama.write_gguf(small_llama.SmallLlama(vocab=rows, layers=1), path, changes=changes))


def sentencepiece_keys(data: bytes) -> dict[str, object]:
    """What llama.cpp's converter writes of a sentencepiece model: spaces of what users defined in place of ▁."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(data)
    own = [
        (piece.piece.replace("▁", " ") if piece.type == 4 else piece.piece, piece.score, piece.type) for piece in model.pieces
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": [text for text, _, _ in own],
        "tokenizer.ggml.scores": [score for _, score, _ in own],
        "tokenizer.ggml.token_type": [kind for _, _, kind in own],
        "tokenizer.ggml.add_bos_token": None,
        "tokenizer.chat_template": LLAMA2,
    }


def as_llama_cpp(data: bytes, text: str) -> list[int]:
    """llama.cpp, src/llama-vocab.cpp: tokens that users defined are cut out of the text, and a space goes before what is behind
    one and before the beginning."""
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    ids: list[int] = []
    for number, cut in enumerate(text.split("\n")):
        ids += [theirs.piece_to_id("\n")] if number else []
        ids += theirs.encode(cut) if cut else []
    return ids


def test_a_gguf_file_of_sentencepiece_has_its_ids(tmp_path: Path) -> None:
    data = plain_pieces()
    checkpoint = gguf(tmp_path / "plain.gguf", 400, sentencepiece_keys(data))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in PLAIN:
        assert checkpoint.tokenizer.encode(text).ids == [1, *theirs.encode(text)], text
        assert checkpoint.tokenizer.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))


def test_a_gguf_file_with_pieces_that_users_defined(tmp_path: Path) -> None:
    data = made.pieces(user_defined_symbols=["\n"])
    checkpoint = gguf(tmp_path / "user.gguf", 400, sentencepiece_keys(data))
    chat, line_end = chat_of(checkpoint), checkpoint.tokenizer.token_to_id("\n")
    for text in ("the boats\nthe boats", "\n\nthe\n", "a\n\n b"):
        assert checkpoint.tokenizer.encode(text, add_special_tokens=False).ids == as_llama_cpp(data, text)
        assert line_end in chat.encode_chat(said(f"x{text}x"))


def test_both_files_of_a_byte_level_tokenizer_have_the_same_ids(tmp_path: Path) -> None:
    theirs = open_checkpoint(llama3(tmp_path / "model"))
    state = json.loads(theirs.tokenizer.to_str())
    tokens = [text for text, _ in sorted(theirs.tokenizer.get_vocab().items(), key=lambda item: item[1])]
    changes: dict[str, object] = {
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in made.HEADERS else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in state["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 4,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": LLAMA3,
    }
    ours = gguf(tmp_path / "model.gguf", len(tokens), changes)
    for text in (*PLAIN, *COMMANDS):
        assert ours.tokenizer.encode(text).ids == theirs.tokenizer.encode(text).ids
        assert chat_of(ours).encode_chat(said(text)) == chat_of(theirs).encode_chat(said(text))
    assert chat_of(ours).stop_ids == {1, 4}
