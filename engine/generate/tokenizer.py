"""Conversations as tokens and back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from secrets import token_hex

from tokenizers import AddedToken, Tokenizer

from engine.errors import InputError, ModelError
from engine.generate.template import ChatTemplate, Message, Rendered, TemplateText
from engine.generate.text import TextStream

__all__ = ["END_NAMES", "ChatTokenizer", "Rendered", "Turn"]

END_NAMES = frozenset(
    {
        "</s>",
        "< EOT >",
        "<EOT>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
        "<|call|>",
        "<|end|>",
        "<|end_of_text|>",
        "<|end▁of▁sentence|>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|eot|>",
        "<|im_end|>",
        "<|return|>",
        "<｜end▁of▁sentence｜>",
        "[EOS]",
        "[EOT]",
        "_<EOT>",
    }
)
"""Tokens that are known to end a turn; llama.cpp has such a list, too (src/llama-vocab.cpp). They do, whatever a file says."""
_NO_TEXT = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that were not UTF-8
_WORD_BEGINS, _WORD_ENDS = re.compile(r"\w"), re.compile(r"\w\Z")
_PROBES = ("a", "Z", "7", " a", "\n\na", "é", "“", "中", "<")


@dataclass(frozen=True, slots=True)
class Turn:
    """A conversation up to and including an answer: its text (as `ChatTokenizer.render` gives it) and its true tokens."""

    rendered: Rendered
    tokens: tuple[int, ...]


class ChatTokenizer:
    """A tokenizer with a chat template.

    `stop_ids` end an answer: the model's `end_ids`, its end-of-text token, and every control token that is known to end a
    turn (a file names one where a model may have two). Control tokens are the tokenizer's special ones; they count only
    where the template writes them: typed by a user or quoted in an answer they are plain text, so nobody can speak in
    another's role. What else was added to a vocabulary (runs of spaces, <think>) is found in any text.

    Raises:
        ModelError: the template cannot be used.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, end_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._controls = {token.content: (index, token) for index, token in added.items() if token.special}
        tokens = template.tokens if isinstance(template, TemplateText) else self._named(end_ids)
        ends = [index for name, (index, _) in self._controls.items() if name in END_NAMES or name == tokens.get("eos_token")]
        self.stop_ids = frozenset([*end_ids, *ends])
        self._template = ChatTemplate(template, tokens, self._controls)
        self._template.require_kept()
        unknown = self._controls.get(tokens.get("unk_token", ""), (None,))[0]
        self._never = {index for index, _ in self._controls.values()} - ({unknown} - self.stop_ids)

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """The tokens of a conversation.

        Raises:
            InputError: the model's template does not take these messages.
        """
        return self.encode_rendered(self.render(messages, add_generation_prompt))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> Rendered:
        """The conversation as text for `encode_rendered`.

        Raises:
            InputError: a message holds what is no text (bytes that were not UTF-8), or the template does not take them.
        """
        for message in messages:
            if _NO_TEXT.search(message["content"]):
                raise InputError("a message holds bytes that are no UTF-8 text")
        return self._template.render(messages, add_generation_prompt=add_generation_prompt)

    def encode_rendered(self, rendered: Rendered, known: Sequence[Turn] = ()) -> list[int]:
        """The tokens of what `render` gave.

        The longest `known` turn with which it begins keeps the tokens that the model really wrote, where spelling
        its words anew could split them otherwise: so the next question goes on from the cache that the nodes hold.
        A control token follows such a turn, or nothing: other tokens could reach across its end.
        """
        usable = (turn for turn in known if rendered[: len(turn.rendered)] == turn.rendered)
        turn = max(usable, key=lambda turn: len(turn.rendered), default=Turn((), ()))
        return [*turn.tokens, *self._encode(rendered, len(turn.rendered))]

    def turn(self, rendered: Rendered, tokens: Sequence[int], answer: str, answer_tokens: Sequence[int]) -> Turn | None:
        """The turn after `answer`, or None if its tokens are not exactly its text (cut at a stop string)."""
        if self.decode(answer_tokens) != answer:
            return None
        return Turn((*rendered[:-1], rendered[-1] + answer), (*tokens, *answer_tokens))

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

    def _named(self, end_ids: Sequence[int]) -> Mapping[str, str]:
        """The special tokens of a template that came without them, as the tokenizer and the ends tell them."""
        ids = {"bos_token": self._tokenizer.encode("").ids[:1], "eos_token": end_ids[:1]}
        return {name: "".join(self._tokenizer.id_to_token(index) or "" for index in some) for name, some in ids.items()}

    def _encode(self, rendered: Rendered, start: int) -> list[int]:
        """The tokens of the pieces from `start` on, in one go: what a tokenizer makes of a text depends on what is before it.

        Raises:
            InputError: a text is a control token to the tokenizer, however it is read.
        """
        reader, names, controls = self._reader
        pieces = (names[rendered[at]] if self._is_found(rendered, at) else rendered[at] for at in range(start, len(rendered)))
        ids = reader.encode("".join(pieces), add_special_tokens=False).ids
        if not self._never.isdisjoint(ids):
            raise InputError("the conversation holds a control word of the model that it cannot read as text")
        return [controls.get(index, index) for index in ids]

    def _is_found(self, rendered: Rendered, at: int) -> bool:
        """Whether a piece is a control token that the tokenizer finds where it stands: some are words by themselves only."""
        if not at % 2:
            return False
        if not self._controls[rendered[at]][1].single_word:
            return True
        before, after = "".join(rendered[max(at - 2, 0) : at]), "".join(rendered[at + 1 : at + 3])
        return not (_WORD_ENDS.search(before) or _WORD_BEGINS.match(after))

    @cached_property
    def _reader(self) -> tuple[Tokenizer, dict[str, str], dict[int, int]]:
        """The tokenizer without control tokens, other names for them that nobody can guess, and whose ids are whose.

        Under its other name a control token is found as it would be under its own, with the same space around it.
        """
        reader = Tokenizer.from_str(self._tokenizer.to_str())
        reader.encode_special_tokens = True  # the special ones are read as text
        secret = token_hex(8)
        names = {control: f"\ue000{secret}{index:06x}\ue001" for control, (index, _) in self._controls.items()}
        reader.add_tokens([_renamed(token, names[control]) for control, (_, token) in self._controls.items()])
        controls = {reader.token_to_id(names[control]) or 0: index for control, (index, _) in self._controls.items()}
        return reader, names, controls


def _renamed(token: AddedToken, name: str) -> AddedToken:
    return AddedToken(
        name,
        special=False,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        single_word=token.single_word,
        normalized=token.normalized,
    )
