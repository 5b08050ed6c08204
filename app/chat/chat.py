"""A chat: messages in, events out. Between a window or a terminal and one `Conversation` with the two nodes.

Everything here blocks and belongs in one worker thread, except `Chat.stop`, which any thread may call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from threading import Event as Flag

from app.chat.conversation import Conversation, StepProgress
from app.chat.events import (
    Computing,
    Done,
    Emit,
    Failed,
    Message,
    Reason,
    Role,
    Speed,
    Stands,
    Started,
    Text,
    Waiting,
)
from engine.errors import InputError, SessionStopped, TrineError
from engine.generate.draft import check_drafts
from engine.generate.sampling import Chooser, make_chooser
from engine.generate.tokenizer import ChatTokenizer, Rendered

__all__ = ["Chat", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are made."""

    max_tokens: int = 1024
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    system: str | None = None
    """Replaces the model's own system prompt."""
    stop: tuple[str, ...] = ()
    """An answer ends before any of these."""
    drafts: int = 0
    """Tokens that a step may guess from the text itself; the nodes then see how many were guessed, and how many rightly."""

    def chooser(self) -> Chooser:
        """A fresh chooser for one answer.

        Raises:
            InputError: an option outside its range.
        """
        if self.max_tokens < 1:
            raise InputError(f"max-tokens is {self.max_tokens}; it must be at least 1")
        check_drafts(self.drafts)
        return make_chooser(self.temperature, self.top_k, self.top_p, self.repetition_penalty, self.seed)


Revive = Callable[[Callable[[], None]], None]
"""Starts what has died since, blocking; calls its argument while it waits, which may raise."""

ANOTHER_TEMPERATURE = 0.5
"""The likeliest answer asked for again would be the same one."""


class Chat:
    """The messages of one chat, and the conversation that computes its answers.

    `open_conversation` makes one, which is then connected to the nodes; if it loses one of them it connects again by itself
    when it is asked the next time, and the whole chat is its context. Before each question `revive` brings back nodes that
    have died. `context` is the longest chat, in tokens.
    """

    def __init__(
        self,
        open_conversation: Callable[[], Conversation],
        tokenizer: ChatTokenizer,
        settings: Settings,
        context: int,
        revive: Revive = lambda tick: None,
    ) -> None:
        self.messages: list[Message] = []
        self.settings = settings
        self.context = context
        self.conversation: Conversation | None = None
        self._open, self._revive, self._tokenizer = open_conversation, revive, tokenizer
        self._stopping = Flag()

    @property
    def answered(self) -> bool:
        """Whether the last message is an answer."""
        return bool(self.messages) and self.messages[-1].role is Role.ASSISTANT

    def open(self) -> Conversation:
        """Connect, unless connected: material is dealt from then on, at a pace that typing does not show in.

        Raises:
            LinkError, ProtocolError, SessionStopped: a node cannot be reached or refuses, or `stop` was called.
        """
        if self.conversation is None:
            with ExitStack() as undo:
                undo.callback(self.close)
                self.conversation = self._open()
                if self._stopping.is_set():
                    self.conversation.stop()
                self.conversation.connect()
                undo.pop_all()
        return self.conversation

    def close(self) -> None:
        """Leave the nodes; the messages stay."""
        conversation, self.conversation = self.conversation, None
        if conversation is not None:
            conversation.close()

    def stop(self) -> None:
        """End the running answer: what is there stays. From any thread."""
        self._stopping.set()
        if (conversation := self.conversation) is not None:
            conversation.stop()

    def new(self) -> None:
        """Forget all messages."""
        self.messages = []

    def check(self, text: str) -> None:
        """InputError if `text` cannot be the first question of a chat: empty, no text, or too long."""
        self._prompt([Message(Role.USER, text)])

    def send(self, text: str, emit: Emit) -> None:
        """Answer a question; every outcome is an event, the last one `Done` or `Failed`.

        It takes the place of a question to which not a word came: a model that expects turns must not hear two in a row.
        """
        heard = self.messages if self.answered else self.messages[:-1]
        self.messages = [*heard, Message(Role.USER, text)]
        self._answer(self.messages, emit)

    def regenerate(self, emit: Emit) -> None:
        """Answer the last question again: otherwise, if its answer was complete. That one stands for good if no word comes.

        From its first word on the new answer stands in its place, also if it is stopped or fails: the screen showed it last.
        """
        settings = self.settings
        if self.answered and self.messages[-1].complete and settings.temperature == 0:
            settings = replace(settings, temperature=ANOTHER_TEMPERATURE)
        self._answer(self.messages[:-1] if self.answered else self.messages, emit, settings)

    def edit(self, index: int, text: str, emit: Emit) -> None:
        """Put `text` in place of question `index` and of all behind it, and answer it; all stands if not a word comes."""
        self._answer([*self.messages[:index], Message(Role.USER, text)], emit)

    def _answer(self, asked: list[Message], emit: Emit, settings: Settings | None = None) -> None:
        """Answer the last of the messages `asked`, which become the chat's with the first word of the answer."""
        self._stopping.clear()
        former, settings = self.messages, settings or self.settings
        try:
            event: Done | Failed = self._generate(asked, emit, settings)
        except TrineError as error:
            event = Failed(error)
        unheard = Stands.FORMER if self.answered else Stands.NOTHING
        emit(replace(event, stands=unheard if self.messages is former else Stands.ANSWER))

    def _generate(self, asked: list[Message], emit: Emit, settings: Settings) -> Done:
        start = time.monotonic()
        choose = settings.chooser()
        rendered, context = self._prompt(asked)
        room = self.context - len(context)
        limit = min(settings.max_tokens, room)
        answer = _GrowingAnswer(self._tokenizer, settings.stop, emit, start)
        reason: Reason | None = None
        try:
            self._revive(partial(self._wait, emit))
            conversation = self.open()
            emit(Started(len(context), self.context))
            reason = self._stream(conversation, context, choose, limit, settings.drafts, answer)
        except SessionStopped:
            reason = Reason.STOPPED
        finally:
            self._keep(asked, answer, rendered, context, complete=reason not in (None, Reason.STOPPED))
        if reason is None:
            reason = Reason.LENGTH if limit == settings.max_tokens else Reason.CONTEXT
        return Done(reason, answer.speed(len(context)))

    def _stream(
        self,
        conversation: Conversation,
        context: Sequence[int],
        choose: Chooser,
        limit: int,
        drafts: int,
        answer: _GrowingAnswer,
    ) -> Reason | None:
        """Why the tokens ended; None if there was no room for more."""
        if self._stopping.is_set():
            return Reason.STOPPED
        tokens = conversation.generate(
            context,
            max_tokens=limit,
            choose=choose,
            stop_tokens=self._tokenizer.stop_ids,
            on_progress=partial(self._progress, conversation, answer),
            drafts=drafts,
        )
        with closing(tokens):
            for token in tokens:
                if token in self._tokenizer.stop_ids:
                    return Reason.END
                if answer.add(token):
                    return Reason.STOP_WORD
                if self._stopping.is_set():
                    return Reason.STOPPED
        return Reason.STOPPED if self._stopping.is_set() else None

    def _progress(self, conversation: Conversation, answer: _GrowingAnswer, step: StepProgress) -> None:
        if self._stopping.is_set():
            conversation.stop()  # again: it forgets what was asked before it began
        answer.progress(step)

    def _wait(self, emit: Emit) -> None:
        if self._stopping.is_set():
            raise SessionStopped
        emit(Waiting("a node had ended: starting it again"))

    def _prompt(self, messages: Sequence[Message]) -> tuple[Rendered, list[int]]:
        """The conversation as text and tokens, its length checked before anything is sent."""
        if not messages or not messages[-1].text.strip():
            raise InputError("there is nothing to answer: the message is empty")
        said = [{"role": message.role.value, "content": message.text} for message in messages]
        system = [] if self.settings.system is None else [{"role": "system", "content": self.settings.system}]
        rendered = self._tokenizer.render([*system, *said])
        known = [message.turn for message in messages if message.turn is not None]
        tokens = self._tokenizer.encode_rendered(rendered, known)
        if len(tokens) >= self.context:
            raise InputError(
                f"the conversation is {len(tokens):,} tokens long and the model takes {self.context:,}, "
                f"one of them for the answer: shorten the message by {len(tokens) - self.context + 1:,} or start a new chat"
            )
        return rendered, tokens

    def _keep(
        self, asked: list[Message], answer: _GrowingAnswer, said: Rendered, context: Sequence[int], *, complete: bool
    ) -> None:
        """What was said stays said, however the answer ended."""
        answer.finish()
        if answer.text.strip():  # nobody can see what is blank
            turn = self._tokenizer.turn(said, context, answer.text, answer.tokens)
            self.messages = [*asked, Message(Role.ASSISTANT, answer.text, turn, complete)]


class _GrowingAnswer:
    """An answer while it grows."""

    def __init__(self, tokenizer: ChatTokenizer, stop: Sequence[str], emit: Emit, start: float) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self._stream = tokenizer.stream(stop)
        self._emit = emit
        self._start = self._first = self._last = start

    def progress(self, step: StepProgress) -> None:
        """A node has come further."""
        self._emit(Computing(step))

    def add(self, token: int) -> bool:
        """One token more; whether a stop string has come."""
        self._last = time.monotonic()
        if not self.tokens:
            self._first = self._last
        self.tokens.append(token)
        self._say(self._stream.feed(token))
        return self._stream.stopped

    def finish(self) -> None:
        """What the stream held back."""
        self._say(self._stream.finish())

    def speed(self, prompt_tokens: int) -> Speed:
        """The figures so far."""
        return Speed(prompt_tokens, len(self.tokens), self._first - self._start, self._last - self._start)

    def _say(self, piece: str) -> None:
        self.text += piece
        if piece:
            self._emit(Text(piece, len(self.tokens), self.speed(0).tokens_per_second))
