"""Tokenizers, from a GGUF file's vocabulary or a tokenizer.json; the latter is what the client's file carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors
from tokenizers import models as tokenizer_models
from tokenizers import pre_tokenizers as pre

from engine.checkpoint.fields import read_text
from engine.errors import ModelError

__all__ = [
    "MAX_TOKEN",
    "MAX_TOKENIZER",
    "PRE_TOKENIZERS",
    "TokenKind",
    "Vocabulary",
    "as_model_error",
    "build_tokenizer",
    "load_tokenizer",
    "merges_by_score",
    "parsed_tokenizer",
    "save_tokenizer",
    "writes_first",
]

MAX_TOKENIZER = 1 << 26
MAX_TOKEN = 512
"""Characters in one token: merging a sentencepiece vocabulary takes time quadratic in them."""

# What no alternative matches is a piece of its own.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
PRE_TOKENIZERS: dict[str, tuple[str, ...]] = {
    "default": _DEFAULT,
    "gpt-2": (_GPT2,),
    "gpt2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "llama-v3": (_LLAMA3,),
}
"""What tokenizer.ggml.pre stands for: patterns that cut the text one after another.

As in llama.cpp, src/llama-vocab.cpp.
"""
WHOLE_WORDS_FIRST = frozenset({"llama-bpe", "llama3", "llama-v3"})
"""Pre-tokenizers whose words are looked up whole before anything is merged."""


class TokenKind(IntEnum):
    """What a token is; the numbers are those of sentencepiece and of tokenizer.ggml.token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary by token id, as GGUF files store it."""

    model: str
    """"gpt2": byte-level BPE with ``merges``; "llama": sentencepiece BPE with ``scores``."""
    pre: str
    tokens: Sequence[str]
    kinds: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    bos_id: int | None = None
    """The token that plain text begins with, if any."""
    space_prefix: bool = True
    """Whether a sentencepiece text begins with a space that nobody typed."""


def build_tokenizer(vocabulary: Vocabulary, path: Path) -> Tokenizer:
    """A tokenizer with this vocabulary; ``path`` is named in errors."""
    _check(vocabulary, path)
    with as_model_error(path):
        byte_level = vocabulary.model == "gpt2"
        tokenizer = _byte_level(vocabulary, path) if byte_level else _sentencepiece(vocabulary)
        special = {TokenKind.UNKNOWN: True, TokenKind.CONTROL: True, TokenKind.USER_DEFINED: False}
        tokenizer.add_tokens(
            [
                AddedToken(token, special=special[TokenKind(kind)], normalized=False)
                for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
                if kind in special
            ]
        )
        if vocabulary.bos_id is not None:
            first = vocabulary.tokens[vocabulary.bos_id]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=[first, "$A"],
                pair=[first, "$A", "$B:1"],
                special_tokens=[(first, vocabulary.bos_id)],
            )
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, without the truncation and padding that it may ask for."""
    return parsed_tokenizer(read_text(path, MAX_TOKENIZER), path)


def parsed_tokenizer(text: str, path: Path) -> Tokenizer:
    """The same of a tokenizer.json's text; ``path`` is named in errors."""
    with as_model_error(path):
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write ``tokenizer`` as a tokenizer.json."""
    path.write_text(tokenizer.to_str(), encoding="utf-8")


def writes_first(tokenizer: Tokenizer, token: int | None, path: Path) -> bool:
    """Whether plain text begins with ``token``."""
    with as_model_error(path):
        return token is not None and tokenizer.encode("a").ids[:1] == [token]


@contextmanager
def as_model_error(path: Path) -> Iterator[None]:
    """Turn whatever the tokenizers library raises into one `ModelError`."""
    try:
        yield
    except (ModelError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in its Rust is a BaseException
        what = " ".join(str(error).split())[:160]
        raise ModelError(f"not a tokenizer that can be built ({what})", path) from error


def _check(vocabulary: Vocabulary, path: Path) -> None:
    """What both kinds of vocabulary must satisfy."""
    count = len(vocabulary.tokens)
    if vocabulary.model not in ("gpt2", "llama"):
        name = vocabulary.model[:60]
        raise ModelError(f"tokenizer model {name!r} is not supported (gpt2 and llama are)", path)
    if len(vocabulary.kinds) != count:
        raise ModelError(f"{len(vocabulary.kinds)} token types for {count} tokens", path)
    wrong = sorted(set(vocabulary.kinds) - set(TokenKind))
    if wrong:
        raise ModelError(f"token type {wrong[0]} is unknown", path)
    if len(set(vocabulary.tokens)) != count:
        raise ModelError("a token stands twice in the vocabulary", path)
    if any(len(token) > MAX_TOKEN for token in vocabulary.tokens):
        raise ModelError(f"a token is longer than {MAX_TOKEN} characters", path)
    if vocabulary.bos_id is not None and not 0 <= vocabulary.bos_id < count:
        raise ModelError(f"the first token {vocabulary.bos_id} is not in the vocabulary", path)
    if vocabulary.model == "llama" and len(vocabulary.scores) != count:
        raise ModelError(f"{len(vocabulary.scores)} token scores for {count} tokens", path)


def _byte_level(vocabulary: Vocabulary, path: Path) -> Tokenizer:
    patterns = PRE_TOKENIZERS.get(vocabulary.pre)
    if patterns is None:
        known = ", ".join(PRE_TOKENIZERS)
        name = vocabulary.pre[:60]
        raise ModelError(f"pre-tokenizer {name!r} is not supported ({known} are)", path)
    merges = []
    for merge in vocabulary.merges:
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    model = tokenizer_models.BPE(
        vocab={token: index for index, token in enumerate(vocabulary.tokens)},
        merges=merges,
        ignore_merges=vocabulary.pre in WHOLE_WORDS_FIRST,
    )
    tokenizer = Tokenizer(model)
    cuts = [pre.Split(Regex(pattern), "isolated") for pattern in patterns]
    tokenizer.pre_tokenizer = pre.Sequence([*cuts, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(vocabulary: Vocabulary) -> Tokenizer:
    unknown = [t for t, k in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if k == TokenKind.UNKNOWN]
    model = tokenizer_models.BPE(
        vocab={token: index for index, token in enumerate(vocabulary.tokens)},
        merges=merges_by_score(vocabulary),
        unk_token=unknown[0] if unknown else None,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    prefix = [normalizers.Prepend("▁")] if vocabulary.space_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.space_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def merges_by_score(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """The merges that the scores imply: every way to cut a token in two, the best token first."""
    order = {
        token: (-vocabulary.scores[index], index)
        for index, token in enumerate(vocabulary.tokens)
        if vocabulary.kinds[index] == TokenKind.NORMAL
    }
    merges = [
        (order[token][0], -cut, order[token][1], token[:cut], token[cut:])
        for token in order
        for cut in range(1, len(token))
        if token[:cut] in order and token[cut:] in order
    ]
    return [(left, right) for *_, left, right in sorted(merges)]
