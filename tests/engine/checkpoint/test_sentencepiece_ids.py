"""tokenizer.model: the ids of sentencepiece itself, and what of it is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import sentencepiece

from engine.checkpoint.open import open_checkpoint
from engine.errors import ModelError
from tests.models import tokenizers_made as made
from tests.models.texts import PLAIN


@cache
def plain() -> bytes:
    return made.pieces()


@cache
def users() -> bytes:
    return made.pieces(user_defined_symbols=["▁▁", "▁▁▁▁", "\n", "<think>"])


def comparable(text: str) -> bool:
    """transformers puts no space before one, nor before an added token, and takes a ▁ that somebody typed for one."""
    return not text.startswith((" ", "<think>")) and "▁" not in text


@pytest.mark.parametrize("data", [plain, users], ids=["plain", "user"])
def test_the_ids_of_sentencepiece(data: Callable[[], bytes], tmp_path: Path) -> None:
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False}
    path = made.directory(tmp_path / "model", 400, config, {"tokenizer.model": data()})
    tokenizer, theirs = open_checkpoint(path).tokenizer, sentencepiece.SentencePieceProcessor(model_proto=data())
    for text in PLAIN:
        if comparable(text):
            assert tokenizer.encode(text).ids == theirs.encode(text), text


def test_pieces_appended_to_a_sentencepiece_model_are_merged_by_their_scores(tmp_path: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(plain())
    for text in ("whe", "ats", "▁h"):  # as the makers of other languages' models have added theirs
        model.pieces.add(piece=text, score=0.0, type=1)
    data = model.SerializeToString()
    path = made.directory(tmp_path / "model", 403, {"legacy": False}, {"tokenizer.model": data})
    tokenizer, theirs = open_checkpoint(path).tokenizer, sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in filter(comparable, (*made.CORPUS, *PLAIN)):
        assert tokenizer.encode(text).ids == theirs.encode(text), text
    assert set(tokenizer.encode(made.CORPUS[0]).ids) & {400, 401, 402}


def unused(*texts: str) -> bytes:
    """A sentencepiece model in which these pieces are of type UNUSED."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(plain())
    for piece in model.pieces:
        piece.type = 5 if piece.piece in texts else piece.type
    return bytes(model.SerializeToString())


def test_unused_pieces_come_of_no_text(tmp_path: Path) -> None:
    data = unused("▁boats", "▁then")
    path = made.directory(tmp_path / "model", 400, {"legacy": False}, {"tokenizer.model": data})
    tokenizer, theirs = open_checkpoint(path).tokenizer, sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in ("the boats", "counted the boats", *filter(comparable, made.CORPUS)):
        assert tokenizer.encode(text).ids == theirs.encode(text), text


def test_unused_pieces_on_the_way_to_others_are_refused(tmp_path: Path) -> None:
    path = made.directory(tmp_path / "model", 400, {"legacy": False}, {"tokenizer.model": unused("ed")})
    with pytest.raises(ModelError, match=r"piece 'ed' is unused, but others are merged from it"):
        open_checkpoint(path)


@pytest.mark.parametrize("appended", [(), ("qzq",)], ids=["in order", "appended"])
def test_pieces_with_spaces_that_users_defined(appended: tuple[str, ...], tmp_path: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(made.pieces(user_defined_symbols=["▁▁", "▁Lead", "trail▁", "in▁side", "\t"]))
    for text in appended:
        model.pieces.add(piece=text, score=0.0, type=1)
    data = model.SerializeToString()
    path = made.directory(tmp_path / "model", 401, {"legacy": False}, {"tokenizer.model": data})
    tokenizer, theirs = open_checkpoint(path).tokenizer, sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in ("x Lead y", "a trail x", "an in side b", "a\tb", "a  b", "a Leader", "the boats Lead in side  trail"):
        assert tokenizer.encode(text).ids == theirs.encode(text), text
        assert tokenizer.decode(theirs.encode(text)) == text


def test_a_sentencepiece_model_without_a_space_in_front(tmp_path: Path) -> None:
    data = made.pieces(add_dummy_prefix=False)
    path = made.directory(tmp_path / "model", 400, {"legacy": False}, {"tokenizer.model": data})
    tokenizer, theirs = open_checkpoint(path).tokenizer, sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in PLAIN:
        if comparable(text):
            assert tokenizer.encode(text).ids == theirs.encode(text), text
    assert tokenizer.decode(tokenizer.encode("the boats").ids) == "the boats"
