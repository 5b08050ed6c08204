"""Every error that Trine raises on purpose.

    TrineError
    ├── ModelError        the model on disk cannot be used                       exit code 2
    ├── InputError        what the user asked for cannot be done                 exit code 2
    ├── OutputError       what was made cannot be written (disk full, no right)  exit code 4
    ├── LinkError         a connection failed, was closed or timed out           exit code 3
    ├── ProtocolError     the other side broke the protocol (stable `code`)      exit code 3
    └── SessionStopped    the user stopped the step                              exit code 0

The first line of each docstring is the sentence the user reads when nothing more is known;
`str(error)` is complete: what happened, where, and what to do. None of these texts ever holds a
byte of a share, a key or a prompt.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

__all__ = [
    "CODES",
    "InputError",
    "LinkError",
    "ModelError",
    "OutputError",
    "ProtocolError",
    "SessionStopped",
    "TrineError",
]

CODES: Mapping[str, str] = MappingProxyType(
    {
        # Frames (engine/link/frames.py)
        "truncated": "A message ended too early.",
        "wrong-version": "The other side speaks another message format; update both sides.",
        "unknown-type": "The other side sent a message of an unknown kind.",
        "wrong-session": "A message belonged to another session.",
        "out-of-order": "A message was repeated or lost on the way.",
        "oversized": "The other side sent a message longer than allowed.",
        # Hello (engine/session/messages.py, client.py, node.py, peer.py)
        "wrong-protocol": "The other side speaks another protocol version; update both sides.",
        "wrong-program": "The two sides run different programs; share the model again.",
        "wrong-model": "The two nodes hold shares of different models; share the model again.",
        "wrong-pack": "The node holds another share of the model; share the model again.",
        "wrong-role": "The node plays another role than asked for; check the two addresses.",
        "wrong-peer": "The node computes with another node than yours; check the two addresses.",
        "wrong-epoch": "The two sides are in different epochs; start a new session.",
        "wrong-start": "The two nodes were called by different starts of the client; start a new session.",
        "same-keys": "Two of the session's secret keys are the same, which would show what they hide; start a new session.",
        "wrong-client": "The two nodes were called with different certificates; start a new session.",
        "wrong-limits": "The two sides do not agree on the session's limits; check the settings.",
        "busy": "The node has as many sessions as it takes; try again in a while.",
        "row-limit": "The node answers no more for this client today.",
        "idle": "The node gave this session's place to somebody who waited; ask again.",
        "no-peer": "The two nodes could not reach each other; ask their operators.",
        # Session (engine/session)
        "malformed": "The other side sent a message that cannot be read.",
        "wrong-length": "The other side sent a message of the wrong length.",
        "out-of-place": "The other side sent a message that has no place at this point.",
        "row-reused": "A step tried to use rows a second time; nothing was computed.",
        "not-dealt": "A message came for rows that were never dealt, or are gone.",
        "wrong-position": "The two sides disagree on the chat's length; start a new session.",
        "too-long": "The conversation would grow longer than the model's context.",
        "out-of-range": "The other side sent a number outside its range.",
        "queue-full": "The client dealt more material than the node accepts.",
        "answers-differ": "The two nodes gave different answers; do not trust this session.",
        "out-of-window": "The model's numbers left their range every time that a step was computed; ask something else.",
        "failed": "The other side had an error of its own and gave up the session.",
        "unknown-code": "The other side reported an error that this version does not know.",
    }
)
"""Every code of a ProtocolError and of an ERROR frame, with the sentence the user reads."""


class TrineError(Exception):
    """Trine cannot go on."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return super().__str__() or sentence(type(self))


class ModelError(TrineError):
    """This model cannot be used.

    `what` says what is wrong with it, `path` where (a checkpoint, a GGUF file, a pack). Both may quote the model, so what
    would not print, or would steer a terminal, is shown as U+FFFD.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, path: str | os.PathLike[str] | None = None) -> None:
        text = what if path is None else f"{os.fspath(path)}: {what}"
        super().__init__("".join(c if c.isprintable() else "\ufffd" for c in text))
        self.path = path


class InputError(TrineError):
    """This cannot be done: empty, too long or with an unknown token."""

    exit_code: ClassVar[int] = 2


class OutputError(TrineError):
    """This cannot be written.

    `what` says why, `path` where.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, what: str, path: str | os.PathLike[str]) -> None:
        super().__init__(f"{os.fspath(path)}: {what}")
        self.path = path


class LinkError(TrineError):
    """The connection was lost.

    `what` says how, `party` with whom ("node 1 at 10.0.0.7:7440").
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str = "", party: str | None = None) -> None:
        text = what or sentence(LinkError)
        super().__init__(text if party is None else f"{party}: {text}")
        self.what = text
        self.party = party

    def at(self, party: str) -> LinkError:
        """The same error with the party's name in front, for a caller that knows it."""
        return LinkError(self.what, party)


class ProtocolError(TrineError):
    """The other side broke the protocol.

    `code` is a stable short string, one of `CODES`, sent in ERROR frames; `text` is the detail, for
    the log and for whoever reports the problem. `retry_after` says in how many seconds the same may work.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, code: str, text: str = "", retry_after: float | None = None) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.retry_after = retry_after

    def __str__(self) -> str:
        detail = f"{self.code}: {self.text}" if self.text else self.code
        if self.retry_after is not None:
            detail += f"; ask again in {math.ceil(self.retry_after)} s"
        return f"{CODES.get(self.code, sentence(ProtocolError))} ({detail})"


class SessionStopped(TrineError):  # noqa: N818 - what the user asked for is no error
    """Stopped."""

    exit_code: ClassVar[int] = 0


def sentence(error: type[TrineError]) -> str:
    """The first line of the docstring, which is written for the user; survives `python -OO`."""
    return (error.__doc__ or error.__name__).partition("\n")[0]
