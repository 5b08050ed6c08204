"""Conversations as tokens and back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from engine.errors import InputError, ModelError
from engine.generate.template import ChatTemplate, Message
from engine.generate.text import TextStream

__all__ = ["ChatTokenizer", "Turn"]

_OPEN, _CLOSE = "\ue000", "\ue001"  # private use: they mean nothing, and are taken out of what the user types
_NO_TEXT = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that were not UTF-8
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "</s>")
_PROBES = ("a", "Z", "7", " a", "\n\na", "é", "“", "中", "<")


@dataclass(frozen=True, slots=True)
class Turn:
    """A conversation up to and including an answer: its text (as `ChatTokenizer.render` gives it) and its true tokens."""

    rendered: str
    tokens: tuple[int, ...]


class ChatTokenizer:
    """A tokenizer with a chat template.

    `stop_ids` end an answer: the model's `end_ids`, and every special token that is known to end a turn (a GGUF
    file names one where a model may have two). Special tokens count only where the template writes them: typed
    by a user or quoted in an answer they are plain text, so nobody can speak in another's role.

    Raises:
        ModelError: the template cannot be used.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, end_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        controls = sorted((token.content for token in added.values()), key=len, reverse=True)
        control = "|".join(re.escape(token) for token in controls) or "(?!)"
        self._control = re.compile(control)
        self._marked = re.compile(f"{_OPEN}({control}){_CLOSE}|[{_OPEN}{_CLOSE}]")
        known = (index for index, token in added.items() if token.special and token.content in _ENDS)
        self.stop_ids = frozenset([*end_ids, *known])
        first = tokenizer.encode("").ids[:1]
        names = {"bos_token": first, "eos_token": list(end_ids[:1])}
        self._template = ChatTemplate(template, {name: self._spelled(ids) for name, ids in names.items()})

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """The tokens of a conversation.

        Raises:
            InputError: the model's template does not take these messages.
        """
        return self.encode_rendered(self.render(messages, add_generation_prompt))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The conversation as text for `encode_rendered`.

        Raises:
            InputError: a message holds what is no text (bytes that were not UTF-8), or the template does not take them.
        """
        for message in messages:
            if _NO_TEXT.search(message["content"]):
                raise InputError("a message holds bytes that are no UTF-8 text")
        marked = [{**message, "content": self._mark(message["content"])} for message in messages]
        return self._template.render(marked, add_generation_prompt=add_generation_prompt)

    def encode_rendered(self, rendered: str, known: Sequence[Turn] = ()) -> list[int]:
        """The tokens of what `render` gave.

        The longest `known` turn with which it begins keeps the tokens that the model really wrote, where spelling
        its words anew could split them otherwise: so the next question goes on from the cache that the nodes hold.
        """
        usable = (turn for turn in known if rendered.startswith(turn.rendered) and self._breaks(rendered, len(turn.rendered)))
        turn = max(usable, key=lambda turn: len(turn.rendered), default=Turn("", ()))
        return [*turn.tokens, *self._encode(rendered[len(turn.rendered) :])]

    def turn(self, rendered: str, tokens: Sequence[int], answer: str, answer_tokens: Sequence[int]) -> Turn | None:
        """The turn after `answer`, or None if its tokens are not exactly its text (cut at a stop string)."""
        if self.decode(answer_tokens) != answer:
            return None
        return Turn(rendered + self._mark(answer), (*tokens, *answer_tokens))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out; broken characters as U+FFFD."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def stream(self, stop: Sequence[str] = ()) -> TextStream:
        """A stream for one answer that ends before any of the `stop` strings."""
        return TextStream(self.decode, stop)

    def public_prefix(self) -> list[int]:
        """The tokens with which every conversation without a system prompt of its own begins."""
        chats = [self.encode_chat([{"role": "user", "content": probe}]) for probe in _PROBES]
        length = next((i for i, column in enumerate(zip(*chats, strict=False)) if len(set(column)) > 1), 0)
        if not length:
            raise ModelError("conversations with this model's chat template begin with no common token")
        return chats[0][:length]

    def _spelled(self, ids: Sequence[int]) -> str:
        return "".join(self._tokenizer.id_to_token(index) or "" for index in ids)

    def _mark(self, text: str) -> str:
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        return self._control.sub(f"{_OPEN}\\g<0>{_CLOSE}", text)

    def _breaks(self, rendered: str, at: int) -> bool:
        """Whether tokens cannot reach across this place: a special token follows, or nothing."""
        return at == len(rendered) or self._control.match(rendered, at) is not None

    def _encode(self, rendered: str) -> list[int]:
        """Marked special tokens as plain text, the template's own as what they are."""
        ids: list[int] = []
        for number, piece in enumerate(self._marked.split(rendered)):
            if piece:  # the odd ones are marked; None stands for half a mark that the template tore off
                ids += self._as_text(piece) if number % 2 else self._tokenizer.encode(piece, add_special_tokens=False).ids
        return ids

    def _as_text(self, text: str) -> list[int]:
        """The tokens of a special token's spelling, by the tokenizer's own steps without its added tokens."""
        if self._tokenizer.normalizer is not None:
            text = self._tokenizer.normalizer.normalize_str(text)
        pieces = [text]
        if self._tokenizer.pre_tokenizer is not None:
            pieces = [piece for piece, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        ids = [token.id for piece in pieces for token in self._tokenizer.model.tokenize(piece)]
        if set(ids) & set(self._tokenizer.get_added_tokens_decoder()):
            raise InputError("the conversation holds a control word of the model that it cannot read as text")
        return ids
