"""From options to a running chat: the one place where window and terminal meet the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.chat.chat import Chat, Settings
from engine.errors import LinkError

if TYPE_CHECKING:
    from app.demo.demo import Demo

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
def start_demo(settings: Settings, model: Path | None, report: Report, question: str | None = None) -> Iterator[Running]:
    """Two node processes on this machine and a chat with them; `model` is what `trine-model share` wrote.

    Raises:
        InputError: `question`, the first one if it is known, is too long; no node was started.
        ModelError: the model cannot be used.
        LinkError, ProtocolError: a node did not start.
    """
    from app.demo.demo import demo

    def check(parties: Demo) -> None:
        if question is not None:
            _chat_with(parties, settings).check(question)

    with demo(model, report, check) as parties:
        chat = _chat_with(parties, settings)
        try:
            yield Running(chat, parties.model.spec.name)
        finally:
            chat.close()


def _chat_with(parties: Demo, settings: Settings) -> Chat:
    from app.local_party import NodeConversation

    # With a system prompt of its own a chat has one token of the public prefix in common with others.
    prefix = None if settings.system is None else 1

    class Connecting(NodeConversation):
        """A node of this machine that cannot be called is frozen: it is ended, and the next question starts another."""

        def connect(self) -> None:
            try:
                super().connect()
            except LinkError as error:
                parties.give_up(error.party)
                raise

    return Chat(
        lambda: Connecting(parties.endpoints, parties.model, prefix=prefix),
        parties.tokenizer(),
        settings,
        parties.model.spec.context,
        lambda tick: parties.start(lambda waiting: tick()),
    )
