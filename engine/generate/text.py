"""An answer's text as its tokens come: whole characters only, and nothing of a stop string."""

from collections.abc import Callable, Sequence

__all__ = ["TextStream"]

_BROKEN = "\ufffd"
_INCOMPLETE = 3
"""Bytes of an incomplete UTF-8 character at most: more that is broken is not going to be whole."""
_WINDOW, _KEPT, _MOST = 24, 8, 96
"""Tokens that are decoded at once; about how many of them are kept; and how many at most, where none is a good beginning."""


class TextStream:
    """Turns tokens into text piece by piece; the pieces joined are the text of the tokens.

    `decode` gives the text of a run of tokens. A token may end one character and begin the next, and its text depends on its
    neighbours, so the last tokens are decoded again with each new one (tokenizers' own `DecodeStream` fails on byte tokens
    that do not make a character). What has come out is not taken back: of sentencepiece's byte tokens a decoder rejects a
    whole run for one bad byte, and here the characters before it stand. Before a stop string the text ends, and `stopped`
    is true.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(string for string in stop if string)
        self._tokens: list[int] = []
        self._given = 0  # characters of these tokens' text that have come out
        self._open = 0  # tokens since the text ended with a whole character
        self._turn = _WINDOW  # tokens at which most of them are forgotten
        self._held = ""  # may be the beginning of a stop string
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that this token completes, often "". Nothing comes once `stopped` is true."""
        if self.stopped:
            return ""
        self._tokens.append(token)
        return self._release(self._whole_characters(last=False), last=False)

    def finish(self) -> str:
        """What was held back, without an incomplete character; call it once, after the last token."""
        if self.stopped:
            return ""
        return self._release(self._whole_characters(last=True), last=True)

    def _whole_characters(self, *, last: bool) -> str:
        text = self._decode(self._tokens)
        self._open = self._open + 1 if text.endswith(_BROKEN) else 0
        # Of a character some tokens are missing, or (of tokens that end one and begin the next) some bytes.
        least = len(text) - _INCOMPLETE if self._open > _INCOMPLETE else 0
        end = len(text)
        while end > max(self._given, least) and text[end - 1] == _BROKEN:
            end -= 1
        piece = text[self._given : end]
        self._given = max(self._given, end)
        if len(self._tokens) >= self._turn and not 0 < self._open <= _INCOMPLETE:
            self._forget(text)
        return piece

    def _forget(self, text: str) -> None:
        """Keep only the last tokens, from one on whose text without the others ends as `text` does."""
        rest = text[self._given :]
        for kept in range(_KEPT, 2 * _KEPT):
            tail = self._decode(self._tokens[-kept:])
            given = tail.removesuffix(rest).lstrip(_BROKEN)  # a character that is cut in two is broken
            if tail.endswith(rest) and given and text[: self._given].endswith(given):
                break
        else:
            if len(self._tokens) < _MOST:
                self._turn = len(self._tokens) + _KEPT
                return
        self._tokens = self._tokens[-kept:]
        self._given = max(len(tail) - len(rest), 0)
        self._turn = _WINDOW

    def _release(self, piece: str, *, last: bool) -> str:
        text = self._held + piece
        found = [at for string in self._stop if (at := text.find(string)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        held = 0 if last else max((_overlap(text, string) for string in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, string: str) -> int:
    """Characters at the end of `text` with which `string` begins, but not all of it."""
    sizes = range(min(len(text), len(string) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(string[:size])), 0)
