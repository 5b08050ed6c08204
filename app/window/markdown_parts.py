r"""The Markdown of answers, taken apart: CommonMark with tables, strikethrough and task lists, and nothing of it lost.

markdown-it-py parses. Four things are unlike CommonMark, because models do not write for it:
formulas (`\(…\)`, `\[…\]`, `$…$`, `$$…$$`, `\begin{…}`) stay as they are written; emphasis may touch Chinese, Japanese and
Korean; a line that looks like a definition (`[Note]: see below`, `[^1]: …`) is text unless it names an address; and a row of
a table keeps all of its cells. What would take long to lay out is given back as `Plain`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token

__all__ = ["MAX_BLOCK", "OuterBlock", "Definition", "blocks", "clean", "restored"]

MAX_BLOCK = 20_000
"""Characters of a paragraph, a list, a table; one that is longer is shown as it is written."""
MAX_TOKENS = 2_500
"""The same for words between two changes of type, items and cells, which is what costs time: 0.1 ms each."""
MAX_COLUMNS = 40
MAX_CELLS = 800
"""A cell costs five times as much."""
MAX_DEPTH = 24
"""Quotations and lists inside one another, twice: a list and its item count one each."""
_PARSED_DEPTH = 40

PIPE = "\ufdd2"
"""Stands for a `|` inside code, where it ends no cell of a table."""
_NOT_TEXT = re.compile("[\0\ud800-\udfff\ufdd0-\ufdef\ufffc]")
_CODE_LINE = re.compile(r"(?<!`)(`+)(?!`)([^\n]*?)(?<!`)\1(?!`)")
_BARE_PIPE = re.compile(r"(?<!\\)\|")
_CELL = re.compile(r"(?:[^|\\]|\\.)*(?:\||\\?$)")
_INLINE_FORMULA = re.compile(r"\$\$(?:[^$\\]|\\.)+?\$\$|\$(?![\s$])(?:[^$\\\n]|\\.)*?(?<!\s)\$(?!\d)", re.DOTALL)
_FORMULA_ENDS = {"\\(": "\\)", "\\[": "\\]"}
_BLOCK_FORMULA = re.compile(r"\$\$|\\\[|\\begin\{([a-zA-Z]+\*?)\}")
_EAST_ASIAN = re.compile(
    "[\u1100-\u11ff\u2e80-\u303f\u3040-\u30ff\u3100-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class OuterBlock:
    """A block of the outermost level: the lines from `first` up to `end`, and its tokens, or None if it is shown as written."""

    first: int
    end: int
    tokens: tuple[Token, ...] | None

    def is_sure(self, last: int) -> bool:
        """Whether more text leaves its beginning where it is, if `last` is the last line of the text, which may not be whole.

        The second line of a table makes it one, and what looks like a formula may turn out to be a sentence.
        """
        kind = self.tokens[0].type if self.tokens else ""
        return kind != "formula" and self.first + (kind in ("table_open", "")) < last


@dataclass(frozen=True, slots=True)
class Definition:
    """What a line `[name]: address` says."""

    line: int
    reference: dict[str, Any]
    """As markdown-it has it."""


def clean(text: str) -> str:
    """`text` with line ends of one kind, and without what is no text: halves of surrogate pairs, NUL, Qt's own marks."""
    return _NOT_TEXT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def restored(text: str) -> str:
    """A piece of a token's text as it was written."""
    return text.replace(PIPE, "|")


def blocks(text: str, definitions: dict[str, Definition]) -> list[OuterBlock]:
    """The blocks of a text that is `clean`. `definitions` are those of the text before it; those of this text are added."""
    lines = text.split("\n")
    references = {name: known.reference for name, known in definitions.items()}
    found = _parsed(_CODE_LINE.sub(_hide_pipes, text), references)
    for name, found_here in references.items():
        definitions.setdefault(name, Definition(found_here["map"][0], found_here))
    return [block for outer in found for block in _in_bounds(outer, lines, references)]


def _hide_pipes(code: re.Match[str]) -> str:
    return _BARE_PIPE.sub(PIPE, code.group())


def _parsed(text: str, references: dict[str, dict[str, Any]]) -> list[OuterBlock]:
    tokens = _parser().parse(text, {"references": references})
    found: list[OuterBlock] = []
    start = 0
    for at, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:  # an outermost block ends here
            first, end = tokens[start].map or (0, 0)
            found.append(OuterBlock(first, end, tuple(tokens[start : at + 1])))
            start = at + 1
    return found


def _in_bounds(block: OuterBlock, lines: Sequence[str], references: dict[str, dict[str, Any]]) -> Iterator[OuterBlock]:
    """The block, its table made wide enough for its longest row, or as plain text."""
    tokens = block.tokens or ()
    if tokens[0].type in ("fence", "code_block"):
        yield block
        return
    source = lines[block.first : block.end]
    if _too_much(tokens) or sum(map(len, source)) > MAX_BLOCK:
        yield OuterBlock(block.first, block.end, None)
    elif tokens[0].type == "table_open" and (wider := _widened(source)):
        text = _CODE_LINE.sub(_hide_pipes, "\n".join(wider))
        yield from (OuterBlock(block.first, block.end, inner.tokens) for inner in _parsed(text, references))
    else:
        yield block


def _too_much(tokens: Sequence[Token]) -> bool:
    cells = sum(token.type in ("th_open", "td_open") for token in tokens)
    columns = sum(token.type == "th_open" for token in tokens)
    count = len(tokens) + sum(len(token.children or ()) for token in tokens)
    deep = max(token.level for token in tokens) > MAX_DEPTH
    return deep or count > MAX_TOKENS or cells > MAX_CELLS or columns > MAX_COLUMNS


def _widened(table: Sequence[str]) -> list[str] | None:
    """A table whose head has a cell for each cell of its longest row; None if it has."""
    hidden = [_CODE_LINE.sub(_hide_pipes, line) for line in table]
    more = max(map(_cells, hidden)) - _cells(hidden[0])
    if more <= 0 or more > MAX_COLUMNS:
        return None
    head, rule = (line.rstrip().removesuffix("|") for line in table[:2])
    return [head + "|" + " |" * more, rule + "|" + "---|" * more, *table[2:]]


def _cells(row: str) -> int:
    return len([cell for cell in _CELL.findall(row.strip().removeprefix("|")) if cell])


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _PARSED_DEPTH}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # nothing opens before the user has read it
    parser.block.ruler.at("reference", _definition)
    parser.block.ruler.before("fence", "formula", _formula_block, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.core.ruler.at("inline", _inline)
    return parser


def _inline(state: StateCore) -> None:
    """The text of paragraphs and cells; some that is too long is not taken apart, as that may take time that grows faster."""
    for token in state.tokens:
        if token.type == "inline":
            token.children = []
            if len(token.content) > MAX_BLOCK:
                text = Token("text", "", 0, content=token.content)
                token.children.append(text)
            else:
                state.md.inline.parse(token.content, state.md, state.env, token.children)


def _definition(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """A definition of an address counts and is shown as well: nothing says that the text uses it."""
    line = state.src[state.bMarks[first] + state.tShift[first] : state.eMarks[first]]
    if line.startswith("[^") or "://" not in line.partition("]:")[2] or not reference(state, first, end, silent):
        return False
    if not silent:
        state.push("paragraph_open", "p", 1).map = [first, state.line]
        shown = state.push("inline", "", 0)
        shown.content = state.getLines(first, state.line, state.blkIndent, False).strip()
        shown.children = []
        state.push("paragraph_close", "p", -1)
    return True


def _formula_block(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """A formula on lines of its own. One that is not closed yet reaches to the end, as a block of code does.

    If it begins on the line that opens it, it ends at a blank line.
    """
    opening = _BLOCK_FORMULA.match(state.src, state.bMarks[first] + state.tShift[first])
    if opening is None or state.is_code_block(first) or opening.end() > state.eMarks[first]:
        return False
    name = opening.group(1)
    closing = f"\\end{{{name}}}" if name else {"$$": "$$"}.get(opening.group(), "\\]")
    alone = bool(name) or not state.src[opening.end() : state.eMarks[first]].strip()
    last = first
    while last < end and (last == first or _goes_on(state, last, past_blanks=alone)):
        found = state.src.find(closing, opening.end() if last == first else state.bMarks[last], state.eMarks[last])
        if found >= 0:
            if state.src[found + len(closing) : state.eMarks[last]].strip(" .,;"):
                return False  # part of a sentence
            break
        last += 1
    else:
        last -= 1
    if not silent:
        state.line = last + 1
        token = state.push("formula", "", 0)
        token.content = state.getLines(first, last + 1, state.blkIndent, False)
        token.map = [first, last + 1]
    return True


def _goes_on(state: StateBlock, line: int, *, past_blanks: bool) -> bool:
    if state.isEmpty(line):
        return past_blanks
    return state.sCount[line] >= state.blkIndent  # else the quotation or the list's item ends before the formula does


def _formula(state: StateInline, silent: bool) -> bool:
    pos = state.pos
    pair = state.src[pos : pos + 2]
    if pair in _FORMULA_ENDS:
        found = state.src.find(_FORMULA_ENDS[pair], pos + 2)
        end = found + 2 if found >= 0 else pos + 2  # without an end it keeps at least its own backslash
    elif pair in ("\\)", "\\]"):
        end = pos + 2
    elif pair[:1] == "$" and (formula := _INLINE_FORMULA.match(state.src, pos)):
        end = formula.end()
    else:
        return False
    if not silent:
        token = state.push("formula_inline", "", 0)
        token.content = state.src[pos:end]
    state.pos = end
    return True


def _emphasis(state: StateInline, silent: bool) -> bool:
    """As markdown-it's own, but a letter of Chinese, Japanese or Korean beside punctuation is no part of a word.

    `**注意：**请` is bold, which CommonMark takes for four stars. The rule is that of "CJK-friendly emphasis".
    """
    marker = state.src[state.pos]
    if silent or marker not in "*_":
        return False
    scanned = state.scanDelims(state.pos, marker == "*")
    opens, closes = scanned.can_open, scanned.can_close
    if marker == "*":
        behind = state.pos + scanned.length
        before, after = state.src[max(state.pos - 1, 0) : state.pos], state.src[behind : behind + 1]
        opens = opens or (bool(_EAST_ASIAN.match(before)) and bool(after.strip()))
        closes = closes or (bool(_EAST_ASIAN.match(after)) and bool(before.strip()))
        opens = opens or (bool(_EAST_ASIAN.match(after)) and _is_punctuation(after))
        closes = closes or (bool(_EAST_ASIAN.match(before)) and _is_punctuation(before))
    for _ in range(scanned.length):
        state.push("text", "", 0).content = marker
        state.delimiters.append(Delimiter(ord(marker), scanned.length, len(state.tokens) - 1, -1, opens, closes))
    state.pos += scanned.length
    return True


def _is_punctuation(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "PS"
