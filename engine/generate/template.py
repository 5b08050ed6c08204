"""A model's chat template: Jinja text from the checkpoint, rendered in a sandbox.

What a template may use is what transformers offers it, so that a conversation becomes the very text on which the
model was trained; transformers itself takes a second to import, which a window cannot wait for.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import InputError, ModelError

__all__ = ["MAX_CHARACTERS", "MAX_TEMPLATE", "ChatTemplate", "Message"]

MAX_TEMPLATE = 1 << 18
"""Characters of a template."""
MAX_CHARACTERS = 1 << 22
"""Characters of a rendered conversation: far beyond any context, short enough to refuse in time."""

Message = Mapping[str, str]
"""`role` ("system", "user", "assistant") and `content`."""


class ChatTemplate:
    """A compiled chat template; `tokens` are the special texts that it may name, such as `bos_token`.

    Raises:
        ModelError: no template, too long, or not Jinja that compiles.
    """

    def __init__(self, source: str | None, tokens: Mapping[str, str]) -> None:
        if source is None:
            raise ModelError("the model has no chat template, so it cannot hold a conversation")
        if len(source) > MAX_TEMPLATE:
            raise ModelError(f"the chat template is longer than {MAX_TEMPLATE} characters")
        self._tokens = dict(tokens)
        try:
            self._template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise ModelError(f"line {error.lineno} of the chat template cannot be read: {error.message}") from error
        except RecursionError as error:
            raise ModelError("the chat template is nested too deeply") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as one text, special tokens spelled out.

        Raises:
            InputError: the template refuses these messages (no message, wrong order of roles), or they are too long.
            ModelError: the template fails on any messages.
        """
        if sum(len(message["content"]) for message in messages) > MAX_CHARACTERS:
            raise InputError(f"the conversation is longer than {MAX_CHARACTERS:,} characters; start a new chat")
        values: dict[str, Any] = {
            **self._tokens,
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        pieces, length = [], 0
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > 2 * MAX_CHARACTERS:
                    raise ModelError("the chat template writes without end")
        except _RefusedError as error:
            raise InputError(f"the model does not take this conversation: {error.message}") from error
        except ModelError:
            raise
        except SecurityError as error:
            raise ModelError(f"the chat template tries what it may not: {error.message}") from error
        except Exception as error:  # whatever a template's own operations raise: TypeError, KeyError, ...
            what = " ".join(str(error).split())[:200]
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


def _environment() -> ImmutableSandboxedEnvironment:
    """The sandbox of transformers' `apply_chat_template`. Text for a model is no HTML, so nothing is escaped."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise _RefusedError(str(message)[:200])


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # the user's own clock is meant


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
