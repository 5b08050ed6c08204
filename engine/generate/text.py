"""An answer's text as its tokens come: whole characters only, and nothing of a stop string."""

from collections.abc import Callable, Sequence

__all__ = ["TextStream"]

_BROKEN = "\ufffd"
_LONGEST_CHARACTER = 4
"""Tokens of one UTF-8 character at most; what is still broken after as many is not going to be whole."""


class TextStream:
    """Turns tokens into text piece by piece; the pieces joined are the text of the tokens.

    `decode` gives the text of a run of tokens. Only the tokens behind the last piece and those of the piece before
    it are decoded again, because a token's text depends on its neighbours (tokenizers' own `DecodeStream` fails on
    byte tokens that do not make a character). Before a stop string the text ends, and `stopped` is true.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(string for string in stop if string)
        self._tokens: list[int] = []
        self._from = 0  # first token that is decoded again
        self._read = 0  # first token whose text has not come out yet
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
        before = self._decode(self._tokens[self._from : self._read])
        text = self._decode(self._tokens[self._from :])
        if last:
            text = text.rstrip(_BROKEN)
        elif text.endswith(_BROKEN) and len(self._tokens) - self._read < _LONGEST_CHARACTER:
            return ""
        if len(text) > len(before):  # else not text, such as a special token
            self._from = self._read
        self._read = len(self._tokens)
        return text[len(before) :]

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
