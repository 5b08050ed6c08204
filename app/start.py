"""From options to a running chat: the one place where window and terminal meet the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.chat import Chat, Settings

__all__ = ["Report", "Running", "Start", "start_demo"]

Report = Callable[[str, int, int], None]
"""What is being done, how much of it, of how much (0 if that is not known)."""


@dataclass(frozen=True, slots=True)
class Running:
    """The parties are there."""

    chat: Chat
    model: str
    """Its name, for people."""


Start = Callable[[Report], AbstractContextManager[Running]]
"""Starts the parties, blocking; leaving the context leaves nothing behind."""


@contextmanager
def start_demo(settings: Settings, model: Path | None, report: Report) -> Iterator[Running]:
    """Two node processes on this machine and a chat with them; `model` is what `trine-model share` wrote.

    Raises:
        ModelError: the model cannot be used.
        LinkError, ProtocolError: a node did not start.
    """
    from app.demo import demo
    from app.local_party import Conversation

    with demo(model, report) as parties:
        shared = parties.model
        # With a system prompt of its own a chat has one token of the public prefix in common with others.
        prefix = None if settings.system is None else 1
        connect = partial(Conversation.open, parties.endpoints, shared, prefix=prefix)
        chat = Chat(connect, parties.tokenizer(), settings, shared.spec.context)
        try:
            yield Running(chat, shared.spec.name)
        finally:
            chat.close()
