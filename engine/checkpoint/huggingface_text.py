"""A Hugging Face checkpoint's tokenizer, special tokens and chat template, as transformers reads them.

transformers is imported here alone, when a checkpoint is read, and offline. It is never given the checkpoint's directory: what
it may read is checked first (lengths, then JSON, then keys) and copied into a directory of our own, with a configuration that
says no more than that this is a LLaMA. So it meets no link, no pipe, no pickle, no file that a configuration names, no code.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from engine.checkpoint.checkpoint import MAX_VOCAB, ModelText
from engine.checkpoint.control_tokens import settled
from engine.checkpoint.fields import Fields, read_bounded, read_json, read_text
from engine.checkpoint.tokenizer import (
    MAX_TOKEN,
    MAX_TOKENIZER,
    TokenKind,
    Vocabulary,
    as_model_error,
    load_tokenizer,
    merges_by_score,
)
from engine.errors import ModelError
from engine.generate.template import MAX_TEMPLATE, TemplateText

__all__ = ["prepare", "read_huggingface_text"]

MAX_WORDS = 1 << 24
"""Bytes of tokenizer_config.json and of the files beside it."""
_NAMED = (
    "additional_special_tokens",
    "extra_special_tokens",
    "model_specific_special_tokens",
    "added_tokens_decoder",
    "add_bos_token",
    "add_eos_token",
)
_KEYS = frozenset({*_NAMED, "add_prefix_space", "legacy", "chat_template", "clean_up_tokenization_spaces"})
"""The keys of tokenizer_config.json that count, beside those that name a token (bos_token, …)."""
_CLASS = re.compile(r"(?!Auto)[A-Z][A-Za-z0-9]{0,50}Tokenizer(?:Fast)?")
_AS_IT_IS = "PreTrainedTokenizerFast"
_BYTE_LEVEL = '"ByteLevel"'


@dataclass(frozen=True)
class _Piece:
    """A piece of a sentencepiece model."""

    text: str
    score: float
    kind: int


def read_huggingface_text(path: Path, words: Fields | None, rows: int) -> ModelText:
    """The text side of the checkpoint directory `path`: `words` is its tokenizer_config.json, `rows` its embedding's.

    Raises:
        ModelError: it cannot be read, or can produce tokens that the model does not have.
    """
    _require_no_code(words)
    placed: dict[str, int] = {}
    with TemporaryDirectory(prefix="trine-") as made:
        copies = Path(made)
        if os.path.lexists(path / "tokenizer.json"):
            settings, placed = _copy_tokenizer(path / "tokenizer.json", words, copies)
            pieces: list[_Piece] = []
        elif os.path.lexists(path / "tokenizer.model"):
            settings, pieces = _copy_sentencepiece(path / "tokenizer.model", words, copies)
        else:
            raise ModelError("neither tokenizer.json nor tokenizer.model is there", path)
        for name in ("special_tokens_map.json", "added_tokens.json"):
            if os.path.lexists(path / name):
                values = read_json(path / name, MAX_WORDS)
                _write(copies / name, values.values)
                if name == "added_tokens.json" and pieces:
                    placed = {token: values.integer(token, 0, MAX_VOCAB) for token in values.values}
        if os.path.lexists(path / "chat_template.jinja"):
            (copies / "chat_template.jinja").write_text(read_text(path / "chat_template.jinja", MAX_TEMPLATE), "utf-8")
        _write(copies / "config.json", {"model_type": "llama"})
        _write(copies / "tokenizer_config.json", settings)
        with as_model_error(path):
            tokenizer, template, tokens = _from_transformers(copies)
    if template is not None and len(template) > MAX_TEMPLATE:
        raise ModelError(f"the chat template is longer than {MAX_TEMPLATE} characters", path)
    if pieces:
        tokenizer = _as_sentencepiece(tokenizer, pieces, path)
        placed |= _declared(words)
    named = TemplateText(template or "", tokens)
    tokenizer = settled(tokenizer, named, rows, path, placed)
    return ModelText(tokenizer, None if template is None else named)


def prepare() -> Any:
    """Import transformers' `AutoTokenizer`, which takes a second: offline, and silent about what it does not find."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    os.environ["HF_HUB_OFFLINE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer
    return AutoTokenizer


def _from_transformers(directory: Path) -> tuple[Tokenizer, str | None, dict[str, str]]:
    """What transformers makes of a directory of checked copies: the tokenizer, the chat template, the special tokens."""
    auto = prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = auto.from_pretrained(directory, local_files_only=True)
        template = theirs.get_chat_template() if theirs.chat_template else None
    tokens = {name: token for name, token in theirs.special_tokens_map.items() if isinstance(token, str)}
    return theirs.backend_tokenizer, template, tokens


def _require_no_code(words: Fields | None) -> None:
    """Refuse a tokenizer that is a program."""
    if words and "auto_map" in words:
        raise words.error("auto_map: the tokenizer is code of the model's own, which is never run")


def _settings(words: Fields | None, usual_class: str) -> dict[str, Any]:
    """What transformers is told of tokenizer_config.json; `usual_class` reads the tokenizer if that names none."""
    values = words.values if words else {}
    settings = {key: value for key, value in values.items() if key in _KEYS}
    tokens = {key: value for key, value in values.items() if key.endswith("_token") and key not in _KEYS}
    settings |= {key: {**token, "__type": "AddedToken"} if isinstance(token, dict) else token for key, token in tokens.items()}
    wanted = values.get("tokenizer_class")
    known = isinstance(wanted, str) and _CLASS.fullmatch(wanted)
    return settings | {"tokenizer_class": wanted if known else usual_class}


def _copy_tokenizer(source: Path, words: Fields | None, copies: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Copy a tokenizer.json; returns the settings that go with it, and the ids at which it wants added tokens.

    A byte-level one is taken as it is: the classes that checkpoints name in its place (LlamaTokenizer, GPT2Tokenizer) would
    build another one from its vocabulary, with other words.
    """
    load_tokenizer(source)  # its structure is what it must be
    content = read_json(source, MAX_TOKENIZER)
    _write(copies / "tokenizer.json", content.values)
    settings = _settings(words, _AS_IT_IS)
    if _BYTE_LEVEL in json.dumps([content.values.get(step) for step in ("pre_tokenizer", "decoder")]):
        settings["tokenizer_class"] = _AS_IT_IS
    added: Any = content.values.get("added_tokens") or []
    return settings, {token["content"]: token["id"] for token in added}


def _copy_sentencepiece(source: Path, words: Fields | None, copies: Path) -> tuple[dict[str, Any], list[_Piece]]:
    """Copy a tokenizer.model; returns the settings that go with it, and its pieces.

    Raises:
        ModelError: it is not BPE with byte fallback and text taken as it is, as all LLaMA models have it.
    """
    from sentencepiece import sentencepiece_model_pb2  # protobuf, for this alone

    data = read_bounded(source, MAX_TOKENIZER)
    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # protobuf makes it when it is imported
    try:
        SentencePieceProcessor(model_proto=data or b"\0")  # it takes an empty one for none at all
        model.ParseFromString(data)
    except Exception as error:  # RuntimeError, or protobuf's own, which is none of ValueError and OSError
        raise ModelError("not a sentencepiece model that can be read", source) from error
    pieces = [_Piece(piece.piece, piece.score, piece.type) for piece in model.pieces]
    if model.trainer_spec.model_type != model.trainer_spec.BPE or TokenKind.BYTE not in {piece.kind for piece in pieces}:
        raise ModelError("only sentencepiece BPE models with byte fallback are supported", source)
    if model.normalizer_spec.precompiled_charsmap or model.normalizer_spec.remove_extra_whitespaces:
        raise ModelError("a sentencepiece model that rewrites its text is not supported", source)
    if any(len(piece.text) > MAX_TOKEN for piece in pieces):
        raise ModelError(f"a token is longer than {MAX_TOKEN} characters", source)
    (copies / "tokenizer.model").write_bytes(data)
    settings = _settings(words, "LlamaTokenizer")
    if not model.normalizer_spec.add_dummy_prefix:
        settings.setdefault("add_prefix_space", False)
    return settings, pieces


def _declared(words: Fields | None) -> dict[str, int]:
    """The ids at which tokenizer_config.json wants added tokens."""
    section = words.section("added_tokens_decoder") if words else None
    if section is None:
        return {}
    placed: dict[str, int] = {}
    for key in section.values:
        entry = section.section(key)
        if entry is None or not key.isdecimal() or len(key) > 9:
            raise section.error("added_tokens_decoder must map token ids to objects")
        placed[entry.text("content")] = int(key)
    return placed


def _as_sentencepiece(tokenizer: Tokenizer, pieces: list[_Piece], path: Path) -> Tokenizer:
    """The tokenizer, where transformers makes other tokens of a piece than sentencepiece does."""
    state = json.loads(tokenizer.to_str())
    if "merges" not in state["model"]:  # another class was asked for, which merges nothing
        return tokenizer
    if not any([_merge_as_scored(state, pieces), _leave_unused(state, pieces, path), _find_spaces(state, pieces)]):
        return tokenizer
    with as_model_error(path):
        return Tokenizer.from_str(json.dumps(state))


def _merge_as_scored(state: dict[str, Any], pieces: list[_Piece]) -> bool:
    """Put merges in the order of the pieces' scores.

    transformers takes the pieces' order for that of their scores, which it is as long as nobody has appended any.
    """
    scores = [piece.score for piece in pieces if piece.kind == TokenKind.NORMAL]
    if scores == sorted(scores, reverse=True):
        return False
    vocabulary = Vocabulary(
        model="llama",
        pre="default",
        tokens=[piece.text for piece in pieces],
        kinds=[piece.kind for piece in pieces],
        scores=[piece.score for piece in pieces],
    )
    state["model"]["merges"] = merges_by_score(vocabulary)
    return True


def _leave_unused(state: dict[str, Any], pieces: list[_Piece], path: Path) -> bool:
    """Take out the merges that make pieces of type UNUSED, which no text becomes.

    Raises:
        ModelError: one is on the way to a piece that is used; sentencepiece takes it back if it gets no further.
    """
    unused = {piece.text for piece in pieces if piece.kind == TokenKind.UNUSED}
    merges = state["model"]["merges"]
    way = next(
        (half for left, right in merges for half in (left, right) if half in unused and left + right not in unused), None
    )
    if way is not None:
        raise ModelError(
            f"tokenizer.model: piece {way[:40]!r} is unused, but others are merged from it, which is not supported", path
        )
    state["model"]["merges"] = [[left, right] for left, right in merges if left + right not in unused]
    return len(state["model"]["merges"]) < len(merges)


def _find_spaces(state: dict[str, Any], pieces: list[_Piece]) -> bool:
    """Spell what users defined with spaces in place of ▁, if no merge makes it: text is searched for it as it was typed."""
    made = {left + right for left, right in state["model"]["merges"]}
    defined = {piece.text for piece in pieces if piece.kind == TokenKind.USER_DEFINED and "▁" in piece.text} - made
    names = {text: text.replace("▁", " ") for text in defined if text.replace("▁", " ") not in state["model"]["vocab"]}
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    state["model"]["vocab"] = {names.get(text, text): index for text, index in state["model"]["vocab"].items()}
    return bool(names)


def _write(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values), "utf-8")
