"""What the clients' tokenizer.json is: the model's tokenizer, in which a control token is special and no text makes one.

A file's own word is not enough for that. Checkpoints whose turns are marked by `<|im_start|>` and `<|im_end|>` often declare
them as ordinary additions, and a byte-pair vocabulary may be able to merge plain text into `</s>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from engine.checkpoint.tokenizer import MAX_TOKEN, TokenKind, Vocabulary, as_model_error
from engine.errors import ModelError
from engine.generate.template import TemplateText
from engine.generate.tokenizer import END_NAMES

__all__ = ["is_control", "settled", "with_controls"]

_MARK = re.compile(r"<\|.+>|<.+\|>|<｜.+｜>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>|\[/?[A-Z_]+\]", re.DOTALL)
"""How the marks of turns are spelled."""
_ROLES = frozenset({"<|user|>", "<|assistant|>", "<|system|>"})
"""Marks that a template may put together from a role."""


def is_control(token: str, template: str) -> bool:
    """Whether an added token that is not declared special is a control token all the same.

    It is if it is known to end a turn, or looks like the mark of a turn and the template writes it.
    """
    if token in END_NAMES:
        return True
    return _MARK.fullmatch(token) is not None and (token in template or token in _ROLES)


def with_controls(vocabulary: Vocabulary, template: str, ends: Sequence[int]) -> Vocabulary:
    """`vocabulary`, its control tokens of type CONTROL whatever the file says of them.

    As in llama.cpp, those that are known to end a turn are. So are marks that the template writes, and the `ends` that keys
    name, where no ordinary text is such a token: a key may name a line end.
    """
    if len(vocabulary.kinds) != len(vocabulary.tokens):
        return vocabulary  # which is told
    ordinary = {token for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if kind == TokenKind.NORMAL}
    merged = {merge.replace(" ", "", 1) for merge in vocabulary.merges}

    def is_text(token: str) -> bool:
        cuts = range(1, min(len(token), MAX_TOKEN)) if vocabulary.model == "llama" else ()
        halves = any(token[:cut] in ordinary and token[cut:] in ordinary for cut in cuts)
        return len(token) < 2 or token in merged or halves

    def kind_of(index: int, token: str, kind: int) -> int:
        if token in END_NAMES:
            return kind if kind == TokenKind.UNKNOWN else TokenKind.CONTROL
        if kind not in (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED) or not (
            index in ends or is_control(token, template)
        ):
            return kind
        return kind if kind == TokenKind.NORMAL and is_text(token) else TokenKind.CONTROL

    kinds = [kind_of(index, *entry) for index, entry in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))]
    return replace(vocabulary, kinds=kinds)


def settled(
    tokenizer: Tokenizer, template: TemplateText, rows: int, path: Path, placed: Mapping[str, int] | None = None
) -> Tokenizer:
    """`tokenizer` with every control token special, without what its model has no embedding row for (of `rows`).

    A model without a template has an empty one.
    `placed` says where the checkpoint wants added tokens, should they stand elsewhere: the piece that holds their place goes.

    Raises:
        ModelError: it can produce a token without a row.
    """
    with as_model_error(path):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        state = json.loads(tokenizer.to_str())
    changes = [
        _place(state, placed or {}, path),
        _drop(state, template, rows, path),
        _declare(state, template),
        _keep_apart(state),
        _make_sure(state),
    ]
    if not any(changes):
        return tokenizer
    with as_model_error(path):
        made = Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
        found = {token.content: index for index, token in made.get_added_tokens_decoder().items()}
    if found != {token["content"]: token["id"] for token in state["added_tokens"]}:
        raise ModelError("the tokenizer's added tokens cannot have the ids that the checkpoint gives them", path)
    return made


# Each of these says whether it has changed the tokenizer's state.


def _place(state: dict[str, Any], placed: Mapping[str, int], path: Path) -> bool:
    """Give added tokens the ids in `placed`, in place of the pieces that have them."""
    added = {token["content"]: token for token in state["added_tokens"]}
    wrong = {name: token for name, token in added.items() if placed.get(name, token["id"]) != token["id"]}
    if not wrong:
        return False
    vocab = _vocab(state)
    if vocab is None:
        raise ModelError("the tokenizer's added tokens stand at other ids than the checkpoint says", path)
    holders = {index: piece for piece, index in vocab.items()}
    gone = {holders[placed[name]] for name in wrong if placed[name] in holders} - wrong.keys()
    for piece in gone:
        del vocab[piece]
    _drop_merges(state, lambda left, right: not gone.isdisjoint((left, right, left + right)))
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in gone]
    for name, token in wrong.items():
        token["id"] = placed[name]
    _fix_ids(state)
    return True


def _drop(state: dict[str, Any], template: TemplateText, rows: int, path: Path) -> bool:
    """Leave out the added tokens that the embedding has no row for; refuse what could not be left out."""
    vocab = _vocab(state)
    beyond = {token["content"]: token["id"] for token in state["added_tokens"] if token["id"] >= rows}
    pieces = vocab if vocab is not None else {piece: index for index, (piece, _) in enumerate(state["model"].get("vocab", []))}
    written = [template, *(token for name, token in template.tokens.items() if name in template)]
    needed = [index for name, index in beyond.items() if any(name in text for text in written)]
    merged = {left + right for left, right in _pairs(state)}
    needed += [index for name, index in beyond.items() if name in merged]
    needed += [index for piece, index in pieces.items() if index >= rows and piece not in beyond]
    if needed:
        raise ModelError(f"the tokenizer knows token {max(needed)}, the model only {rows} tokens", path)
    if not pieces and not state["added_tokens"]:
        raise ModelError("the tokenizer has no tokens", path)
    if beyond:
        state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in beyond]
        _fix_ids(state)
        for piece in beyond.keys() & (vocab or {}).keys():
            del pieces[piece]
    return bool(beyond)


def _declare(state: dict[str, Any], template: str) -> bool:
    """Make the tokens special that are control tokens all the same."""
    found = [token for token in state["added_tokens"] if not token["special"] and is_control(token["content"], template)]
    for token in found:
        token["special"] = True
    return bool(found)


def _keep_apart(state: dict[str, Any]) -> bool:
    """Take out the merges that make a control token."""
    controls = {token["content"] for token in state["added_tokens"] if token["special"]}
    return _drop_merges(state, lambda left, right: left + right in controls)


def _make_sure(state: dict[str, Any]) -> bool:
    """Take out the dropout of training, with which a text has other tokens each time."""
    return bool(state["model"].pop("dropout", None))


def _drop_merges(state: dict[str, Any], unwanted: Callable[[str, str], bool]) -> bool:
    pairs = _pairs(state)
    kept = [[left, right] for left, right in pairs if not unwanted(left, right)]
    if len(kept) == len(pairs):
        return False
    state["model"]["merges"] = kept
    return True


def _pairs(state: dict[str, Any]) -> list[list[str]]:
    merges = state["model"].get("merges") or []
    return [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]


def _fix_ids(state: dict[str, Any]) -> None:
    """Write the added tokens' ids down: otherwise they follow from how many tokens there are."""
    vocab = _vocab(state)
    if vocab is not None:
        vocab.update({token["content"]: token["id"] for token in state["added_tokens"]})


def _vocab(state: dict[str, Any]) -> dict[str, int] | None:
    """Pieces → ids; None for a model that numbers its pieces by their order."""
    vocab = state["model"].get("vocab")
    return vocab if isinstance(vocab, dict) else None
