"""A model's chat template: Jinja text from the checkpoint, rendered in a sandbox, who wrote what kept apart.

What a template may use is what transformers offers it, so that a conversation becomes the very text on which the
model was trained; transformers itself takes a second to import, which a window cannot wait for.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import InputError, ModelError, TrineError
from engine.generate.provenance import Twins, trace, tracing_filters

__all__ = ["MAX_CHARACTERS", "MAX_TEMPLATE", "ChatTemplate", "Message", "Rendered", "TemplateText"]

MAX_TEMPLATE = 1 << 18
"""Characters of a template."""
MAX_CHARACTERS = 1 << 22
"""Characters of a rendered conversation: far beyond any context, short enough to refuse in time."""

_PROBES = (("user",), ("user", "assistant", "user"), ("system", "user", "assistant", "user"))
_WORD = "Quay 7"
"""What nobody's control token is spelled with."""

Message = Mapping[str, str]
"""`role` ("system", "user", "assistant") and `content`."""


Rendered = tuple[str, ...]
"""A rendered conversation: text, control token, text, …, text; the control tokens are those that the template wrote."""


class TemplateText(str):
    """A chat template's text, which carries the special tokens that it may name: `tokens`, such as `bos_token` → "<s>"."""

    tokens: Mapping[str, str]

    def __new__(cls, text: str, tokens: Mapping[str, str]) -> "TemplateText":
        """The text with its tokens."""
        self = super().__new__(cls, text)
        self.tokens = dict(tokens)
        return self


class ChatTemplate:
    """A compiled chat template.

    `tokens` are the special texts that it may name, such as `bos_token`; `controls` are the spellings of the model's control
    tokens, which count where the template or one of its `tokens` writes them (engine/generate/provenance.py).

    Raises:
        ModelError: no template, too long, or not Jinja that compiles.
    """

    def __init__(self, source: str | None, tokens: Mapping[str, str], controls: Iterable[str] = ()) -> None:
        if source is None:
            raise ModelError("the model has no chat template, so it cannot hold a conversation")
        if len(source) > MAX_TEMPLATE:
            raise ModelError(f"the chat template is longer than {MAX_TEMPLATE} characters")
        self.twins = Twins(controls, source + "".join(tokens.values()))
        self._tokens = {name: self.twins.written(token) for name, token in tokens.items()}
        environment = _environment(self.twins)
        try:
            traced = trace(environment.parse(source), environment, self.twins)
            self._template = environment.from_string(traced)
            self._untraced = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ModelError(f"line {error.lineno} of the chat template cannot be read: {error.message}") from error
        except RecursionError as error:
            raise ModelError("the chat template is nested too deeply") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> Rendered:
        """The conversation as text, its control tokens apart.

        Raises:
            InputError: the template refuses these messages (no message, wrong order of roles), or they are too long.
            ModelError: the template fails on any messages.
        """
        if sum(len(message["content"]) for message in messages) > MAX_CHARACTERS:
            raise InputError(f"the conversation is longer than {MAX_CHARACTERS:,} characters; start a new chat")
        stand_ins = self.twins.stand_ins(message["content"] for message in messages)
        values: dict[str, Any] = {
            **self._tokens,
            "messages": [
                {"role": self.twins.written(message["role"]), "content": message["content"].translate(stand_ins)}
                for message in messages
            ],
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        back = {stand_in: letter for letter, stand_in in stand_ins.items()}
        return tuple(piece.translate(back) for piece in self.twins.split(self._generated(values)))

    def require_kept(self) -> None:
        """Refuse a template that rewrites its control tokens in a way in which nobody can tell them from a user's words.

        Raises:
            ModelError: it does, on texts in which nobody typed any.
        """
        tokens = {name: self.twins.plain(token) for name, token in self._tokens.items()}
        for roles in _PROBES:
            messages = [{"role": role, "content": f"{_WORD} {number}."} for number, role in enumerate(roles)]
            try:
                kept = self.render(messages)[1::2]
                values = {**tokens, "messages": messages, "add_generation_prompt": True, "tools": None, "documents": None}
                plain = self._generated(values, self._untraced)
            except TrineError:
                continue  # it does not take such a conversation, or no other: whoever asks is told
            if self.twins.split(self.twins.written(plain))[1::2] != list(kept):
                lost = (Counter(self.twins.split(self.twins.written(plain))[1::2]) - Counter(kept)) or Counter(
                    ["a control token"]
                )
                what = (
                    f"the chat template rewrites {next(iter(lost))!r} so that it cannot be told from a text that a user typed"
                )
                raise ModelError(what)

    def _generated(self, values: dict[str, Any], template: Template | None = None) -> str:
        """What the template writes, in twins what is its own."""
        pieces, length = [], 0
        try:
            for piece in (template or self._template).generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > 2 * MAX_CHARACTERS:
                    raise ModelError("the chat template writes without end")
        except _RefusedError as error:
            raise InputError(f"the model does not take this conversation: {self.twins.plain(error.message or '')}") from error
        except ModelError:
            raise
        except SecurityError as error:
            what = self.twins.plain(error.message or "")
            raise ModelError(f"the chat template tries what it may not: {what}") from error
        except Exception as error:  # whatever a template's own operations raise: TypeError, KeyError, ...
            what = " ".join(self.twins.plain(str(error)).split())[:200]
            raise ModelError(f"the chat template fails ({type(error).__name__}: {what})") from error
        return "".join(pieces)


class _RefusedError(TemplateError):
    """The template called `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}`: marks the assistant's words for training; here they are just rendered."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _environment(twins: Twins) -> ImmutableSandboxedEnvironment:
    """The sandbox of transformers' `apply_chat_template`. Text for a model is no HTML, so nothing is escaped."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.filters.update(tracing_filters(twins))

    def raise_exception(message: object) -> NoReturn:
        raise _RefusedError(str(message)[:200])

    def strftime_now(form: object) -> str:
        return datetime.now().strftime(twins.plain(str(form)))  # the user's own clock is meant

    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
