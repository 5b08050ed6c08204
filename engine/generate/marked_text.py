"""What templates do to texts, each letter of the result being whose it was.

Rule 1. What is cut out of a text keeps its letters.
Rule 2. What is put in for something keeps its letters if all that it stands for is the template's; otherwise it is plain: who
typed what a template looks for has written nothing.
Rule 3. What has more to it (widths, conversions, another class of text) is done to plain text and gives plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from jinja2 import pass_context
from jinja2.runtime import Context

if TYPE_CHECKING:
    from engine.generate.provenance import Twins

__all__ = ["CHOOSES", "FILTERS", "METHODS", "keeping_filters"]

_SPACES = frozenset({"center", "expandtabs", "indent", "ljust", "rjust", "wordwrap"})
"""What puts space between letters, as long as it is told nothing else."""
FILTERS = frozenset({"capitalize", "center", "format", "indent", "lower", "replace", "title", "trim", "upper", "wordwrap"})
"""Filters of Jinja's that are done here: `trine_NAME`."""
CHOOSES = frozenset({"select", "selectattr", "reject", "rejectattr"})
"""Filters that look at plain values and pass the others on: `trine_NAME`."""
_CASES: Mapping[str, Callable[[str], str]] = {
    "capitalize": str.capitalize,
    "lower": str.lower,
    "title": str.title,
    "upper": str.upper,
}
_ENDS = frozenset({"strip", "lstrip", "rstrip", "removeprefix", "removesuffix"})
_CUTS = frozenset({"split", "rsplit", "partition", "rpartition", "splitlines"})
METHODS = frozenset({*_CASES, *_ENDS, *_CUTS, *_SPACES, "format", "replace"})
"""Methods of texts that are done here: `trine_method`."""
_BRACES = re.compile(r"\{\{|\}\}|\{([0-9]*|[A-Za-z_][A-Za-z_0-9]*)\}")
_PERCENT = re.compile(r"%(?:%|(?:\(([^()%]*)\))?s)")
_Fill = Callable[[str | None], object]


def keeping_filters(twins: Twins) -> dict[str, Callable[..., object]]:
    """The filters that a traced template uses in place of Jinja's, and of texts' methods."""
    kept = _Kept(twins)

    @pass_context
    def method(context: Context, value: object, name: str, *args: Any, **options: Any) -> object:
        done = kept.method(value, name, args, options) if kept.is_kept(value) else None
        if done is not None:
            return done
        plain = twins.plain_value(value) if isinstance(value, str) else value
        args, options = kept.plain(args), kept.plain(options)
        made = twins.plain_value(context.call(context.environment.getattr(plain, name), *args, **options))
        return kept.spaced(value, name, made)

    def filtering(name: str) -> Callable[..., object]:
        @pass_context
        def apply(context: Context, value: object, *args: Any, **options: Any) -> object:
            done = kept.filter(value, name, args, options) if kept.is_kept(value) else None
            if done is not None:
                return done
            given = twins.plain_value(value), kept.plain(args), kept.plain(options)
            made = twins.plain_value(context.environment.call_filter(name, *given, context))
            return kept.spaced(value, name, made)

        return apply

    def choosing(name: str) -> Callable[..., object]:
        @pass_context
        def choose(context: Context, value: Any, *args: Any, **options: Any) -> Iterator[object]:
            args, options = kept.plain(args), kept.plain(options)
            for item in value or ():
                seen: Any = context.environment.call_filter(name, [twins.plain_value(item)], args, options, context)
                if any(True for _ in seen):
                    yield item

        return choose

    filters: dict[str, Callable[..., object]] = {"trine_method": method, "trine_percent": kept.percent}
    filters |= {f"trine_{name}": filtering(name) for name in FILTERS}
    return filters | {f"trine_{name}": choosing(name) for name in CHOOSES}


class _Kept:
    """Each gives None where it is not the one to do it."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins

    def is_kept(self, value: object) -> TypeGuard[str]:
        """Whether a value is a text with something of the template's in it: others are plain, and quicker done as such."""
        return type(value) is str and self._twins.plain(value) is not value

    def plain(self, values: Any) -> Any:
        return self._twins.plain_value(values)

    def filter(self, text: str, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> object:
        if name == "format":
            return None if args and options else self._by_percent(text, dict(options) if options else tuple(args))
        if name == "trim":
            return self.method(text, "strip", args, {"chars": None, **options} if options else {})
        return self.method(text, name, args, options)

    def method(self, text: str, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> object:
        if name == "format":
            return self._by_braces(text, args, options)
        if options:
            return None
        if name == "replace":
            return self._replaced(text, args)
        if name in _CASES:
            return None if args else self._in_case(text, _CASES[name])
        given = self.plain(tuple(args))
        if name in _ENDS:
            return self._without_ends(text, name, given)
        return self._cut(text, name, given) if name in _CUTS else None

    def spaced(self, text: object, name: str, made: object) -> object:
        """`made` of `text` by putting space between letters: the same letters, whose they were."""
        if name not in _SPACES or not isinstance(text, str) or type(made) is not str:
            return made
        if _letters(made) != _letters(self._twins.plain(text)):
            return made
        letters = iter(_letters(text))
        return "".join(letter if letter.isspace() else next(letters) for letter in made)

    def percent(self, left: object, right: object) -> object:
        """`left` % `right`."""
        done = self._by_percent(left, right) if self.is_kept(left) else None
        if done is not None:
            return done
        left_plain: Any = self.plain(left)
        return self.plain(left_plain % self.plain(right))

    def _in_case(self, text: str, change: Callable[[str], str]) -> str:
        changed = change(self._twins.plain(text))
        if len(changed) != len(text):
            return changed
        return "".join(
            self._twins.written(new) if self._twins.is_twin(old) else new for old, new in zip(text, changed, strict=True)
        )

    def _without_ends(self, text: str, name: str, args: Sequence[Any]) -> str:
        plain = self._twins.plain(text)
        left = str(getattr(plain, name)(*args))
        if name in ("rstrip", "removesuffix"):
            return text[: len(left)]
        first = len(plain) - len(plain.lstrip(*args) if name == "strip" else left)
        return text[first : first + len(left)]

    def _cut(self, text: str, name: str, args: Sequence[Any]) -> object:
        plain = self._twins.plain(text)
        parts: Sequence[str] = getattr(plain, name)(*args)
        gaps = [0] * len(parts)
        if name == "splitlines":
            gaps = [len(whole) - len(part) for whole, part in zip(plain.splitlines(True), parts, strict=True)]
        elif name in ("split", "rsplit") and args and args[0] is not None:
            gaps = [len(args[0])] * len(parts)
        at, kept = 0, []
        for part, gap in zip(parts, gaps, strict=True):
            first = at if gap or name != "split" else plain.index(part, at)  # what is cut at whitespace begins with none
            first = plain.index(part, at) if name == "rsplit" and not gap else first
            kept.append(text[first : first + len(part)])
            at = first + len(part) + gap
        return type(parts)(kept) if isinstance(parts, list) else tuple(kept)

    def _replaced(self, text: str, args: Sequence[Any]) -> str | None:
        if not 2 <= len(args) <= 3 or not all(type(argument) is str for argument in args[:2]):
            return None
        old, new = self._twins.plain(args[0]), args[1]
        count = args[2] if len(args) > 2 and args[2] is not None else -1
        if not old or type(count) is not int:
            return None
        plain = self._twins.plain(text)
        pieces, at = [], 0
        while count and (found := plain.find(old, at)) >= 0:
            end = found + len(old)
            pieces += [text[at:found], self._put_in(new, text[found:end])]
            at, count = end, count - 1
        return "".join([*pieces, text[at:]])

    def _by_percent(self, text: str, right: object) -> str | None:
        """The text with what `right` holds for each %s, or None if there is more to it."""
        if isinstance(right, dict):
            named = {self._twins.plain(key): value for key, value in right.items() if isinstance(key, str)}
            return self._filled(text, _PERCENT, "%", lambda name: None if name is None else named[name])
        values = list(right) if isinstance(right, tuple) else [right]
        marks = [match for match in _PERCENT.finditer(self._twins.plain(text)) if match[0] != "%%"]
        if len(marks) != len(values) or any(match[1] is not None for match in marks):
            return None
        following = iter(values)
        return self._filled(text, _PERCENT, "%", lambda name: next(following))

    def _by_braces(self, text: str, args: Sequence[Any], options: Mapping[str, Any]) -> str | None:
        """The text with an argument for each {}, {1} or {name}, or None if there is more to it."""
        following = iter(args)
        names = {match[1] for match in _BRACES.finditer(self._twins.plain(text)) if match[1] is not None}
        if "" in names and any(name.isdecimal() for name in names):
            return None

        def value(name: str | None) -> object:
            return next(following) if not name else args[int(name)] if name.isdecimal() else options[name]

        return self._filled(text, _BRACES, "{}", value)

    def _filled(self, text: str, marks: re.Pattern[str], letters: str, value: _Fill) -> str | None:
        plain = self._twins.plain(text)
        pieces, at = [], 0
        for match in marks.finditer(plain):
            pieces.append(text[at : match.start()])
            if match[0] in ("%%", "{{", "}}"):
                pieces.append(text[match.start()])
            else:
                try:
                    filling = self._shown(value(match[1]))
                except (KeyError, IndexError, StopIteration):
                    return None  # which says so
                pieces.append(self._put_in(filling, text[match.start() : match.end()]))
            at = match.end()
        rest = marks.sub("", plain)
        return None if any(letter in rest for letter in letters) else "".join([*pieces, text[at:]])

    def _put_in(self, new: str, mark: str) -> str:
        """`new` in place of `mark`, by Rule 2: of space alone nobody knows whose it is."""
        return new if mark.strip() and self._twins.is_written(mark) else self._twins.plain(new)

    def _shown(self, value: object) -> str:
        return str(value if isinstance(value, str) else self.plain(value))


def _letters(text: str) -> str:
    return "".join(text.split())
