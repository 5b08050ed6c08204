"""A conversation: tokens in, tokens out, computed by three parties (the app's side of it).

Rule 1. What the nodes hold of a context already is not computed again: they are rewound to the common prefix.
Rule 2. A sampled token is fixed before the first byte of its step leaves.
Rule 3. A draft that was rejected is rewound before any token of its step is given out; a step's tokens are fixed together.
Rule 4. After a failure the next `generate` opens a new session: fresh keys, the context computed anew.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Self

from app.local_party.endpoints import Endpoints
from app.local_party.figures import Statistics
from app.local_party.session import Report, Session, open_session
from engine.errors import InputError, ProtocolError, SessionStopped
from engine.generate.draft import accepted, check_drafts, choose_along, look_up
from engine.generate.sampling import Chooser
from engine.provision.pack import ClientModel

QUEUE_BYTES = 1_200_000_000
"""Memory of the rows that are prepared at either node: the second one's for about 130 tokens of the 135M model."""


@dataclass(frozen=True, slots=True)
class Status:
    """The parties, for people."""

    states: dict[str, str] = field(default_factory=lambda: {"node1": "connecting", "node2": "connecting"})
    """"connected", "lost", or "connecting" while there is no link."""
    prepared_rows: int = 0
    """Tokens that the nodes are prepared for."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `generate` was asked for."""

    max_tokens: int
    choose: Chooser
    stop_tokens: Container[int]
    report: Report
    drafts: int


class Conversation:
    """One conversation with both nodes; made by `open`.

    `generate` and `close` belong in one thread, which they block; `stop`, `status` and `statistics` may be used from any.
    """

    def __init__(self, parties: Endpoints, model: ClientModel, *, context: int, queue_bytes: int) -> None:
        self._parties, self._model = parties, model
        self._context, self._queue_bytes = context, queue_bytes
        self._session: Session | None = None
        self._closed = False
        self._stopping = Event()

    @classmethod
    def open(
        cls,
        parties: Endpoints,
        model: ClientModel,
        *,
        prefix: int | None = None,
        context: int | None = None,
        queue_bytes: int = QUEUE_BYTES,
    ) -> Self:
        """Connect to both nodes; they are dealt to from now on.

        `prefix` says how many tokens of the public prefix are expected to begin the context: all of them (None) or 1;
        a context that begins otherwise gets a session of its own. `context` is the longest, in tokens (None: the model's).

        Raises:
            LinkError, ProtocolError: a node cannot be reached, or is not what it should be.
        """
        spec = model.spec
        self = cls(parties, model, context=min(context or spec.context, spec.context), queue_bytes=queue_bytes)
        self._connect(len(spec.prefix) if prefix is None else prefix)
        return self

    @property
    def status(self) -> Status:
        """The parties' states now."""
        session = self._session
        if session is None:
            return Status()
        states = {f"node{link.role}": link.state for link in session.links}
        return Status(states, session.statistics.prepared_rows)

    @property
    def statistics(self) -> Statistics:
        """Figures of the last answer."""
        session = self._session
        return Statistics() if session is None else session.statistics

    def generate(
        self,
        context: Sequence[int],
        *,
        max_tokens: int,
        choose: Chooser,
        stop_tokens: Container[int] = (),
        on_progress: Report = lambda progress: None,
        drafts: int = 0,
    ) -> Generator[int, None, None]:
        """Tokens behind `context` (the whole conversation, its public prefix included), as they are computed.

        Ends after `max_tokens`, after a token of `stop_tokens` (which is yielded), or where the context is full.
        `choose(logits, context so far)` picks each token; `on_progress` is called in the caller's thread.

        With `drafts` a step also verifies up to so many tokens that the conversation's own text suggests. The tokens are the
        same, and the nodes see how many were drafted and accepted.

        Raises:
            InputError: an empty context, an unknown token, or too many, or too many drafts, before anything is sent.
            LinkError, ProtocolError: a node failed; it is named.
            SessionStopped: `stop` was called.
        """
        check_drafts(drafts)
        tokens = [int(token) for token in context]
        prefix = self._prefix_of(tokens)
        self._stopping.clear()
        return self._generate(tokens, prefix, _Asked(max_tokens, choose, stop_tokens, on_progress, drafts))

    def stop(self) -> None:
        """End the running `generate` with SessionStopped; both nodes stop computing. From any thread."""
        self._stopping.set()
        session = self._session
        if session is not None:
            session.stop()

    def close(self) -> None:
        """Leave both nodes. Idempotent."""
        self._closed = True
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _generate(self, tokens: list[int], prefix: int, asked: _Asked) -> Generator[int, None, None]:
        session = self._connect(prefix)
        session.begin_answer()
        if self._stopping.is_set():
            raise SessionStopped
        made = 0
        while made < asked.max_tokens and len(tokens) <= self._context:
            room = min(asked.max_tokens - made - 1, self._context - len(tokens), asked.drafts)
            drafts = look_up(tokens, room) if made and room else []
            for index, token in enumerate(self._step(session, tokens, drafts, asked, decoding=made > 0)):
                if index and self._stopping.is_set():
                    raise SessionStopped
                made += 1
                tokens.append(token)
                yield token
                if token in asked.stop_tokens:
                    return

    def _step(self, session: Session, tokens: list[int], drafts: list[int], asked: _Asked, *, decoding: bool) -> list[int]:
        """The tokens behind `tokens` that one step makes."""
        with _ending(session):
            same = _common(tokens, session.tokens)
            if same < len(session.tokens):
                session.rewind(same)
            logits = session.advance(tokens[same:], asked.report, drafts=drafts, decoding=decoding)
        drafts = drafts[: len(logits) - 1]  # the others found no rows
        chosen = choose_along(logits, drafts, tokens, asked.choose, asked.stop_tokens)
        if drafts:
            with _ending(session):
                session.settle(len(drafts), accepted(drafts, chosen), len(chosen))
        return chosen

    def _connect(self, prefix: int) -> Session:
        """The session, a new one if there is none that stands and has this prefix."""
        if self._closed:
            raise ValueError("the conversation was closed")
        session = self._session
        if session is None or session.failed or session.prefix != prefix:
            self._leave()
            session = self._session = open_session(
                self._parties,
                self._model,
                prefix=prefix,
                context=self._context,
                queue_bytes=self._queue_bytes,
            )
        return session

    def _leave(self) -> None:
        session = self._session
        if session is not None:
            session.close()

    def _prefix_of(self, tokens: list[int]) -> int:
        """How many tokens of the public prefix the nodes' own keys and values stand for: all, or the first."""
        spec = self._model.spec
        public = list(spec.prefix)
        unknown = next((token for token in tokens if not 0 <= token < spec.vocab), None)
        if unknown is not None:
            raise InputError(f"token {unknown} is not in the model's vocabulary of {spec.vocab:,}")
        if len(tokens) > self._context:
            raise InputError(
                f"the conversation is {len(tokens):,} tokens long and the context has room for {self._context:,}: "
                "shorten it or start a new chat"
            )
        if len(tokens) > len(public) and tokens[: len(public)] == public:
            return len(public)
        if len(tokens) > 1 and tokens[0] == public[0]:
            return 1
        if len(tokens) < 2:
            raise InputError("there is nothing to answer: the prompt has no tokens")
        raise InputError("the conversation does not begin as this model's conversations do")


@contextmanager
def _ending(session: Session) -> Iterator[None]:
    """Anything but a stop that goes wrong here is the session's end."""
    try:
        yield
    except SessionStopped:
        raise
    except BaseException as error:
        session.close(error if isinstance(error, ProtocolError) else None)
        raise


def _common(tokens: Sequence[int], held: Sequence[int]) -> int:
    """Length of the common beginning; the last token is always computed, for its logits."""
    pairs = zip(tokens[:-1], held, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(tokens) - 1, len(held)))
