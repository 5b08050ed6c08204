"""Who wrote what in a rendered conversation: the template, or somebody who typed.

A control token counts only where the template itself wrote it. A template is a program, which may replace, join, cut
and lower what it is given, so nothing that is put around a message's words survives it. Instead what the *template* writes is
rendered in other letters: each character of which control tokens are spelled has a twin among the private characters of
Unicode's last plane, and the template's own literals (with the special tokens and the roles, which are ours) are spelled in
twins. Whatever the template then does, a twin in its output was written by the template, and no text of a message becomes one.

Rule 1. Twins stand one for one, so lengths, slices, loops and joins are what they would be without them.
Rule 2. What looks at the letters (a comparison, a test, `in`, most filters and methods) is given plain text, and gives plain
text. What cuts, fills in and replaces is done letter by letter (engine/generate/marked_text.py).
Rule 3. Whitespace has no twins, so what trims at both ends needs no plain text.
Rule 4. Where the twins lie is drawn anew for each template, so nobody can type what becomes one by an operation not thought of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from secrets import choice
from string import printable
from types import GeneratorType
from typing import Any

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

from engine.errors import InputError, ModelError
from engine.generate.marked_text import CHOOSES, FILTERS, METHODS, keeping_filters

__all__ = ["Twins", "trace", "tracing_filters"]

_PRIVATE = range(0x100000, 0x10FFFE)  # the last plane, but for its two "noncharacters"
_SPARE = range(0xF0000, 0xFFFFE)  # the private characters of the plane before
MOST_LETTERS = 1 << 12
"""Letters of control tokens; real vocabularies have some sixty."""
_TRIES = 1000
_PLAIN = "trine_plain"
"""The filter that gives plain text."""
_SHOWN = "trine_shown"
"""The filter that shows a list or a dictionary, which spells its texts out, in plain text."""
_FLOWS = frozenset(
    {"string", "safe", "join", "default", "d", "first", "last", "list", "length", "count", "reverse", "batch", "slice", "items"}
)
"""Filters that only pass on what they are given, or count it."""
_HOLDS = frozenset({"items", "keys", "values", "join", "cycle", "next"})
"""Methods that only pass on what they are given; the sandbox allows none that changes what it belongs to."""
_LOOKS_UP = "get"
"""The method whose first argument is a key; the other one is passed on."""


class Twins:
    """The private twins of the letters of `controls`, none of which stands in `source`.

    Raises:
        ModelError: so many letters, or private characters, that something is wrong.
    """

    def __init__(self, controls: Iterable[str], source: str) -> None:
        words = list(controls)
        spelled = {case for word in words for letter in word for case in (letter, letter.lower(), letter.upper())}
        spelled |= set(printable)  # what templates look for and fill in is spelled so
        letters = sorted(letter for letter in spelled if len(letter) == 1 and not letter.isspace())
        if len(letters) > MOST_LETTERS:
            raise ModelError(f"the model's control tokens are spelled with more than {MOST_LETTERS} different letters")
        self._taken = {ord(letter) for letter in {*source, *letters}}
        first = _place(len(letters), self._taken)
        self._to = {ord(letter): first + number for number, letter in enumerate(letters)}
        self._from = {twin: letter for letter, twin in self._to.items()}
        self._any = re.compile(f"[{chr(first)}-{chr(first + len(letters) - 1)}]" if letters else "(?!)")
        words.sort(key=len, reverse=True)  # of two that begin alike the longer one is meant
        self._control = re.compile(f"({'|'.join(re.escape(self.written(word)) for word in words) or '(?!)'})")

    def written(self, text: str) -> str:
        """`text` in twins: the template's."""
        return text.translate(self._to)

    def plain(self, text: str) -> str:
        """`text` without twins."""
        return text.translate(self._from) if self._any.search(text) else text

    def plain_value(self, value: object) -> object:
        """The same of all text in a value of a template."""
        if isinstance(value, str):
            return self.plain(value)
        if isinstance(value, list | tuple):
            return type(value)(self.plain_value(item) for item in value) if type(value) in (list, tuple) else value
        if type(value) is dict:
            return {self.plain_value(key): self.plain_value(item) for key, item in value.items()}
        if isinstance(value, GeneratorType):
            return map(self.plain_value, value)
        return value

    def is_twin(self, letter: str) -> bool:
        """Whether the template wrote `letter`."""
        return ord(letter) in self._from

    def is_written(self, text: str) -> bool:
        """Whether nothing but space and twins stand in `text`."""
        return not self._any.sub("", text).strip()

    def split(self, rendered: str) -> list[str]:
        """Text, control token, text, …, text: the control tokens are those that the template wrote whole."""
        return [self.plain(piece) for piece in self._control.split(rendered)]

    def stand_ins(self, texts: Iterable[str]) -> dict[int, int]:
        """Other private characters for twins that somebody typed, one for one; none of the texts holds one of them.

        Raises:
            InputError: the texts hold almost every private character.
        """
        texts = list(texts)
        typed = sorted({letter for text in texts for letter in self._any.findall(text)})
        if not typed:
            return {}
        held = self._taken.union(ord(letter) for text in texts for letter in text)
        free = [code for code in _SPARE if code not in held and code not in self._from][: len(typed)]
        if len(free) < len(typed):
            raise InputError("the conversation holds too many private characters of Unicode")
        return dict(zip(map(ord, typed), free, strict=True))


def _place(count: int, taken: set[int]) -> int:
    """The first of `count` private characters in a row that are not taken."""
    places = range(_PRIVATE.start, _PRIVATE.stop - count)
    for _ in range(_TRIES):
        first = choice(places)
        if taken.isdisjoint(range(first, first + count)):
            return first
    raise ModelError("the chat template holds too many private characters of Unicode")


def tracing_filters(twins: Twins) -> dict[str, Callable[..., object]]:
    """The filters that a traced template uses."""

    def plain(value: object, only_text: bool = False) -> object:
        return value if only_text and not isinstance(value, str) else twins.plain_value(value)

    def shown(value: object) -> object:
        return value if isinstance(value, str) else twins.plain_value(value)

    return {_PLAIN: plain, _SHOWN: shown} | keeping_filters(twins)


def trace(source: nodes.Template, environment: Environment, twins: Twins) -> nodes.Template:
    """The template with its literals in twins, and plain text wherever letters are looked at."""
    traced: nodes.Template = _Tracer(environment, twins).visit(source)
    return traced


class _Tracer(NodeTransformer):
    """Rule 2, expression by expression."""

    def __init__(self, environment: Environment, twins: Twins) -> None:
        self._environment, self._twins = environment, twins

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802 - jinja2 finds visitors by such names
        if isinstance(node.value, str):
            node.value = self._twins.written(node.value)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        node.data = self._twins.written(node.data)
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [self._shown(part) for part in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [self._shown(part) for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = self._plain(node.expr)
        for operand in node.ops:
            operand.expr = self._plain(operand.expr)
        return node

    def visit_Mod(self, node: nodes.Mod) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, node.left, "trine_percent", node.right)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = self._plain(node.arg)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = self._plain(node.key)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.node = self._plain(node.node)
        self._plain_arguments(node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.name in _FLOWS:
            node.node = node.node and self._shown(node.node) if node.name == "string" else node.node
            node.args[1:] = [self._plain(argument) for argument in node.args[1:]]  # `join`'s attribute
            for keyword in node.kwargs:
                keyword.value = self._plain(keyword.value) if keyword.key == "attribute" else keyword.value
        elif node.name in FILTERS | CHOOSES:
            node.name = f"trine_{node.name}"
        elif node.name != "map" or not self._map_keeps(node):
            node.node = self._filter(node, node.node)
            self._plain_arguments(node)
            return self._filter(node, node)
        return node

    def _map_keeps(self, node: nodes.Filter) -> bool:
        """Make `map` take an attribute, or a filter that keeps letters; whether it does."""
        for keyword in node.kwargs:
            keyword.value = self._plain(keyword.value) if keyword.key == "attribute" else keyword.value
        if not node.args or node.kwargs:
            return not node.args
        name = self._plain(node.args[0])
        if not isinstance(name, nodes.Const) or name.value not in FILTERS | {"string", "list", "first", "last"}:
            return False
        node.args[0] = nodes.Const(f"trine_{name.value}" if name.value in FILTERS else name.value, lineno=node.lineno)
        return True

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        call = node.call
        self.generic_visit(node)
        node.call = call  # it must be one; a macro's text is the template's
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        method = node.node
        if not isinstance(method, nodes.Getattr) or method.attr in _HOLDS:
            return node
        if isinstance(method.node, nodes.Name) and method.node.name == "self":
            return node  # a block of the template
        if method.attr in METHODS:
            made = self._filter(method, method.node, "trine_method", nodes.Const(method.attr, lineno=node.lineno), *node.args)
            made.kwargs = list[Any](node.kwargs)  # declared to be pairs, but keywords everywhere
            made.dyn_args, made.dyn_kwargs = node.dyn_args, node.dyn_kwargs
            return made
        if method.attr == _LOOKS_UP:
            node.args[:1] = [self._plain(argument) for argument in node.args[:1]]
        else:
            method.node = self._filter(method, method.node, _PLAIN, nodes.Const(True, lineno=node.lineno))
            self._plain_arguments(node)
            return self._filter(node, node)
        return node

    def _plain_arguments(self, node: nodes.Call | nodes.Filter | nodes.Test) -> None:
        node.args = [self._plain(argument) for argument in node.args]
        for keyword in node.kwargs:
            keyword.value = self._plain(keyword.value)
        node.dyn_args, node.dyn_kwargs = self._plain(node.dyn_args), self._plain(node.dyn_kwargs)

    def _plain(self, node: Any) -> Any:
        """The expression with plain text for a value; what there is none of stays so."""
        if isinstance(node, nodes.Const):
            if isinstance(node.value, str):
                node.value = self._twins.plain(node.value)
            return node
        return node if node is None else self._filter(node, node)

    def _shown(self, node: Any) -> Any:
        return node if isinstance(node, nodes.TemplateData | nodes.Const) else self._filter(node, node, _SHOWN)

    def _filter(self, at: nodes.Node, node: nodes.Expr | None, name: str = _PLAIN, *arguments: nodes.Expr) -> nodes.Filter:
        """`node` through a filter; None is the text of a filter block."""
        made = nodes.Filter(node, name, list(arguments), [], None, None, lineno=at.lineno)
        made.set_environment(self._environment)
        return made
