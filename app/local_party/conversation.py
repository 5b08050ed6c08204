"""A conversation: tokens in, tokens out, computed by three parties (the app's side of it).

Rule 1. What the nodes hold of a context already is not computed again: they are rewound to the common prefix.
Rule 2. A sampled token is fixed before the first byte of its step leaves.
Rule 3. A draft that was rejected is rewound before any token of its step is given out; a step's tokens are fixed together.
Rule 4. After a failure the next `generate` opens a new session: fresh keys, the context computed anew.
"""

from __future__ import annotations

import time
from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Timer
from typing import Self

from app.local_party.endpoints import Endpoints
from app.local_party.figures import Statistics
from app.local_party.inbox import Inbox
from app.local_party.session import Report, Session, open_session
from engine.errors import InputError, LinkError, ProtocolError, SessionStopped
from engine.generate.draft import accepted, check_drafts, choose_along, look_up
from engine.generate.sampling import Chooser
from engine.provision.pack import ClientModel

QUEUE_BYTES = 1_200_000_000
"""Memory of the rows that are prepared at either node: the second one's for about 130 tokens of the 135M model."""
STOP_SECONDS = 0.8
"""After a stop, until a session is given up that does not hear it."""
SETTLE_SECONDS = 3.0
"""For a stop to come through at both nodes before the next question, which opens a new session otherwise."""
RETRY_SECONDS = 75.0
"""For busy nodes, which are asked again when they say: longer than an idle session keeps its place from whoever waits."""

_LEAST_SECONDS = 0.1  # between two tries, whatever a node says


@dataclass(frozen=True, slots=True)
class Status:
    """The parties, for people."""

    states: dict[str, str] = field(default_factory=lambda: {"node1": "connecting", "node2": "connecting"})
    """"connected", "lost", or "connecting" while there is no link."""
    prepared_rows: int = 0
    """Tokens that the nodes are prepared for."""
    notices: tuple[str, ...] = ()
    """What a person should know of the parties' certificates, which still hold: the first words say whose."""


@dataclass(slots=True)
class _Work:
    """What `generate` is doing between two tokens."""

    cutting: bool = False  # a stop has given it a time to end


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `generate` was asked for."""

    max_tokens: int
    choose: Chooser
    stop_tokens: Container[int]
    report: Report
    drafts: int


class NodeConversation:
    """One conversation with both nodes: `open` connects at once, otherwise `connect` or the first `generate` does.

    `prefix` says how many tokens of the public prefix are expected to begin the context: all of them (None) or 1; a context
    that begins otherwise gets a session of its own. `context` is the longest, in tokens (None: the model's). `connect`,
    `generate` and `close` belong in one thread, which they block; `stop`, `status` and `statistics` may be used from any.
    """

    def __init__(
        self,
        parties: Endpoints,
        model: ClientModel,
        *,
        prefix: int | None = None,
        context: int | None = None,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._parties, self._model = parties, model
        self._prefix = len(model.spec.prefix) if prefix is None else prefix
        self._context, self._queue_bytes = min(context or model.spec.context, model.spec.context), queue_bytes
        self._session: Session | None = None
        self._notices: tuple[str, ...] = ()
        self._closed = False
        self._stopping = Event()
        self._inbox = Inbox()  # of the session that is being opened
        self._work: _Work | None = None

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
        """A conversation that is connected; see the class for the arguments and `connect` for what it raises."""
        self = cls(parties, model, prefix=prefix, context=context, queue_bytes=queue_bytes)
        self.connect()
        return self

    def connect(self) -> None:
        """Connect to both nodes, unless connected; they are dealt to from now on.

        Raises:
            LinkError, ProtocolError: a node cannot be reached, or is not what it should be.
            SessionStopped: `stop` was called.
        """
        with self._working():
            self._connect(self._prefix)

    @property
    def session(self) -> Session | None:
        """The session that stands; None before the first one, and behind a lost one."""
        return self._session

    @property
    def status(self) -> Status:
        """The parties' states now."""
        session = self._session
        if session is None:
            return Status(notices=self._notices)
        states = {f"node{link.role}": link.state for link in session.links}
        return Status(states, session.statistics.prepared_rows, self._notices)

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
        """End the running `generate` with SessionStopped, within a second; both nodes stop computing. From any thread."""
        self._stopping.set()
        session, work = self._session, self._work
        if session is not None:
            session.stop()
        self._inbox.wake()
        if work is not None and not work.cutting:
            work.cutting = True
            timer = Timer(STOP_SECONDS, self._cut, (work,))
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """Leave both nodes. Idempotent."""
        self._closed = True
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self, work: _Work) -> None:
        """What was stopped still waits for a node or for the line to it: do without."""
        session = self._session
        if self._work is work and session is not None:
            session.abort()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Whatever fails in here once a stop was asked for is the stop."""
        self._work = _Work()
        try:
            yield
        except (LinkError, ProtocolError):
            if not self._stopping.is_set():
                raise
            raise SessionStopped from None
        finally:
            self._work = None

    def _generate(self, tokens: list[int], prefix: int, asked: _Asked) -> Generator[int, None, None]:
        with self._working():
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
        with self._working(), self._ending(session):
            same = _common(tokens, session.tokens)
            if same < len(session.tokens):
                session.rewind(same)
            logits = session.advance(tokens[same:], asked.report, drafts=drafts, decoding=decoding)
        drafts = drafts[: len(logits) - 1]  # the others found no rows
        chosen = choose_along(logits, drafts, tokens, asked.choose, asked.stop_tokens)
        if drafts:
            with self._working(), self._ending(session):
                session.settle(len(drafts), accepted(drafts, chosen), len(chosen))
        return chosen

    @contextmanager
    def _ending(self, session: Session) -> Iterator[None]:
        """Anything but a stop that goes wrong here is the session's end; what a stop spoils is let go of, and left later."""
        try:
            yield
        except SessionStopped:
            raise
        except BaseException as error:
            if self._stopping.is_set():
                session.abort()
            else:
                session.close(error if isinstance(error, ProtocolError) else None)
            raise

    def _connect(self, prefix: int) -> Session:
        """The session, a new one if there is none that stands and has this prefix."""
        if self._closed:
            raise ValueError("the conversation was closed")
        session = self._session
        if session is None or session.failed or session.prefix != prefix or not self._stopped(session):
            self._leave()
            session = self._session = self._open(prefix)
        return session

    def _stopped(self, session: Session) -> bool:
        """Whether an earlier stop has come through at both nodes; False if the session is not worth waiting for."""
        try:
            stopped = session.settle_stop(SETTLE_SECONDS, self._stopping.is_set)
        except (LinkError, ProtocolError):
            return False
        if self._stopping.is_set():
            raise SessionStopped
        return stopped

    def _open(self, prefix: int) -> Session:
        """A new session; nodes that are busy are asked again when they say, for `RETRY_SECONDS` in all."""
        self._notices = self._parties.notices()
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            inbox = self._inbox = Inbox()
            try:
                return open_session(
                    self._parties,
                    self._model,
                    prefix=prefix,
                    context=self._context,
                    queue_bytes=self._queue_bytes,
                    inbox=inbox,
                    stopping=self._stopping,
                )
            except ProtocolError as error:
                seconds = error.retry_after
                if error.code != "busy" or seconds is None or time.monotonic() + seconds > deadline:
                    raise
            self._inbox = Inbox()
            if self._inbox.wait(self._stopping.is_set, max(seconds, _LEAST_SECONDS)):
                raise SessionStopped

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


def _common(tokens: Sequence[int], held: Sequence[int]) -> int:
    """Length of the common beginning; the last token is always computed, for its logits."""
    pairs = zip(tokens[:-1], held, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(tokens) - 1, len(held)))
