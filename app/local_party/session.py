"""One session with both nodes: it stands from `open` until `close` or its first failure.

Rule 1. One thread opens, advances, rewinds and closes; a stop comes as a flag that the waiting thread looks at.
Rule 2. `tokens` is what the nodes hold, the public prefix included; it grows when both have answered the same, and not
        when a step was stopped.
Rule 3. A step is one pass: it uses rows of one block, so prompts of any length fit any queue.
Rule 4. A step whose wrap alarm rose is computed again, in fresh rows.
Rule 5. Drafts are tokens as others are until `settle` says how many were right and rewinds the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from threading import Event

import numpy as np

from app.local_party.calling import Greetings, call, order
from app.local_party.dealing import FIRST_ROWS, REJECTED_ROWS, DealingThread
from app.local_party.endpoints import Endpoints
from app.local_party.figures import Phase, PromptProgress, Statistics
from app.local_party.inbox import Inbox
from app.local_party.node_link import LINE_SECONDS, NodeLink
from engine.errors import InputError, ProtocolError, SessionStopped
from engine.link import client_tls, connect
from engine.link.link import Link
from engine.models.planning import plans
from engine.parties.dealer import Dealer
from engine.parties.retry import MOST_REDONE, given_up
from engine.program.plan import Plan, made_bytes, round_bytes
from engine.provision.pack import ClientModel
from engine.ring.fixed import Real
from engine.rows.run import Rows
from engine.session import ClientEvent, ClientSession, Ready, Stopped, Terms, Welcome, compare
from engine.session import Progress as NodeProgress
from engine.session.keys import KEY_BYTES, fresh
from engine.step import LOGIT_BYTES, Answer, Step

Report = Callable[[PromptProgress], None]

SESSION_BYTES = 16
_WELCOME_SECONDS = 5.0
_READY_SECONDS = 15.0  # the nodes give each other 10 to meet
LOOK_SECONDS = 1.0  # between two looks at how the line gets on, while somebody waits for it
_STOPPED_SECONDS = 0.6  # until both nodes have stopped; after that it goes on while the person goes on, too


@dataclass(slots=True)
class Halt:
    """A stop that is on its way to both nodes: of a step at `position` whose last row is `row`."""

    position: int
    row: int
    tokens: list[int]
    answers: dict[int, Answer]
    told: set[int]
    stopped: set[int] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether each node has stopped, or had answered before it was told."""
        return self.stopped == self.told and {1, 2} <= self.told | set(self.answers)

    def hear(self, role: int, event: ClientEvent) -> None:
        """Note what a node said of the stop."""
        if isinstance(event, Answer):
            self.answers[role] = event
        elif isinstance(event, Stopped):
            self.stopped.add(role)


@cache
def start_id() -> str:
    """Names this start of this process to the nodes; hex."""
    return fresh(SESSION_BYTES).hex()


class Session:
    """Made by `open_session`."""

    def __init__(self, model: ClientModel, links: tuple[NodeLink, NodeLink], inbox: Inbox, dealer: Dealer) -> None:
        self.tokens: list[int] = list(model.spec.prefix[: dealer.position])
        self.prefix = dealer.position
        self.links = links
        self.dealing = DealingThread(dealer, links, inbox)
        self._phases = {False: Phase(), True: Phase()}  # by whether it is decoding
        self._redone = self._drafted = self._accepted = 0
        self._cold_start_seconds = 0.0
        self._dealer, self._inbox = dealer, inbox
        self._stopping = Event()
        self._halt: Halt | None = None

    @property
    def failed(self) -> bool:
        """Whether it is over."""
        return self._inbox.failed or any(link.state != "connected" for link in self.links)

    @property
    def statistics(self) -> Statistics:
        """Figures of the last answer."""
        return Statistics(
            prefill=self._phases[False],
            decode=self._phases[True],
            redone=self._redone,
            cold_start_seconds=self._cold_start_seconds,
            prepared_rows=self._dealer.queued_rows,
            dealt_rows=self.dealing.dealt_rows,
            dealt_bytes=self.dealing.dealt_bytes,
            drafted=self._drafted,
            accepted=self._accepted,
        )

    def start(self, cold_start_seconds: float) -> None:
        """Both nodes are ready: deal."""
        self._cold_start_seconds = cold_start_seconds
        self.dealing.start()

    def begin_answer(self) -> None:
        """Count anew, and forget an earlier stop."""
        self._phases = {False: Phase(), True: Phase()}
        self._redone = self._drafted = self._accepted = 0
        self._stopping.clear()

    def stop(self) -> None:
        """End the running `advance` with SessionStopped; from any thread."""
        self._stopping.set()
        self._inbox.wake()

    def rewind(self, position: int) -> None:
        """Cut the context to `position` tokens at all three parties."""
        self.dealing.rewind(position)
        del self.tokens[position:]

    def advance(self, tokens: Sequence[int], report: Report, *, drafts: Sequence[int] = (), decoding: bool = False) -> Real:
        """Compute `tokens` behind the context, and behind them as many of `drafts` as rows are left in the last one's block.

        Returns the logits behind the last token and behind each of those d drafts, float64 [1 + d, vocab]. The drafts are
        held like tokens: call `settle` next.

        Raises SessionStopped after `stop`, LinkError and ProtocolError when it is over.
        """
        wanted, total = [*tokens, *drafts], len(tokens)
        done = redone = 0
        while True:
            count = self._await_rows(done, total, len(wanted), report)
            start, began = len(self.tokens), time.monotonic()
            before, computed = self._bytes(), wanted[done : done + count]
            answers = max(1, 1 + done + count - total)
            heard = partial(self._tell, report, done, total, count)
            answer, row = self._step(computed, answers, heard, partial(self._look, report, done, total))
            seconds, wrapped = time.monotonic() - began, self._dealer.wrapped(row, answer.alarm)
            self._count(decoding, 0 if wrapped else min(count, total - done), answer, seconds, before)
            if wrapped:
                redone += 1
                self._redone += 1
                if redone == MOST_REDONE:
                    raise ProtocolError("out-of-window", given_up(self._dealer.spec))
                self._lost(decoding, count + self.dealing.rewind(start))
                continue
            self.tokens.extend(computed)
            done, redone = done + count, 0
            self.dealing.look()
            if done >= total:
                return self._logits(row, answer)

    def settle(self, drafted: int, accepted: int, made: int) -> None:
        """Of the last step's `drafted` drafts the first `accepted` are right, and it made `made` tokens of the answer."""
        self._drafted += drafted
        self._accepted += accepted
        lost: float = 1 + drafted - made
        if accepted < drafted:
            right = len(self.tokens) - (drafted - accepted)
            lost += self.dealing.rewind(right, REJECTED_ROWS)
            del self.tokens[right:]
        self._phases[True] = self._phases[True].with_rows(made - 1, lost)

    def abort(self) -> None:
        """Let go of both nodes at once, from any thread: whoever waits for them gets LinkError. `close` gives back the rest."""
        self.dealing.end()
        for link in self.links:
            link.abort()

    def close(self, error: ProtocolError | None = None) -> None:
        """Leave both nodes, with the reason if there is one. Idempotent."""
        self.dealing.end()
        for link in self.links:
            link.close(error)
        self.dealing.close()

    # A step

    def _await_rows(self, done: int, total: int, wanted: int, report: Report) -> int:
        available = partial(self.dealing.available, wanted - done)
        if not (count := available()):
            report(PromptProgress(done, total, 0, self._dealer.sections, 0, preparing=True))
            while not self._inbox.wait(lambda: bool(available()) or self._stopping.is_set(), LOOK_SECONDS):
                self._look(report, done, total)
            count = available()
        if self._stopping.is_set() or not count:
            raise SessionStopped
        return count

    def _look(self, report: Report, done: int, total: int) -> None:
        """While a slow line makes everybody wait: how much of the block is through, or that the line is too slow."""
        if (slow := self.dealing.slow_line(LINE_SECONDS)) is not None:
            self.abort()
            raise slow
        if (dealt := self.dealing.dealt) is not None:
            report(PromptProgress(done, total, int(1000 * dealt), 1000, min(FIRST_ROWS, total - done), preparing=True))

    def _step(
        self, tokens: Sequence[int], count: int, heard: Callable[[NodeProgress], None], look: Callable[[], None]
    ) -> tuple[Answer, int]:
        """Both nodes' answer to the last `count` of these tokens, and its last row; `look` is called while nothing is heard."""
        step = self._dealer.request(tokens, count)
        self.dealing.take(len(tokens))
        for link in self.links:
            link.say(partial(link.session.send_step, step))
        answers: dict[int, Answer] = {}
        while len(answers) < len(self.links):
            heard_now = self._inbox.take(self._stopping.is_set, LOOK_SECONDS)
            if heard_now is None and not self._stopping.is_set():
                look()
                continue
            if heard_now is None:
                self._stop(step, tokens, answers)
                raise SessionStopped
            role, event = heard_now
            if isinstance(event, Answer):
                answers[role] = event
            elif isinstance(event, NodeProgress) and role == 1:
                heard(event)
        compare(answers[1], answers[2])
        return answers[1], step.first_row + len(tokens) - 1

    def _stop(self, step: Step, tokens: Sequence[int], answers: dict[int, Answer]) -> None:
        """End the step at both nodes, or let it count where it was faster, and deal anew: now, or in `settle_stop`."""
        row = step.first_row + len(tokens) - 1
        self._halt = Halt(step.first_position, row, [*tokens], answers, self.dealing.stop())
        self.settle_stop(_STOPPED_SECONDS)

    def settle_stop(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Whether no stop is on its way any more; waits for so many seconds, until `until()` after a wake.

        Raises LinkError and ProtocolError when the session is over.
        """
        deadline = time.monotonic() + seconds
        while (halt := self._halt) is not None and not halt.over:
            heard = self._inbox.take(until, max(0.0, deadline - time.monotonic()))
            if heard is None:
                return False
            halt.hear(*heard)
        if halt is not None:
            self._halt = None
            self._resume(halt)
        return True

    def _resume(self, halt: Halt) -> None:
        position, further, answers = halt.position, False, halt.answers
        if len(answers) == len(self.links):
            compare(answers[1], answers[2])
            further = self._dealer.wrapped(halt.row, answers[1].alarm)
            if not further:
                self.tokens.extend(halt.tokens)
                position += len(halt.tokens)
        elif answers:
            raise ProtocolError("out-of-place", "one node answered a step that the other one stopped")
        self.dealing.resume(position, discard=further or len(halt.told) < len(self.links))

    def _logits(self, row: int, answer: Answer) -> Real:
        """Of the answered rows, the last of which is `row`, [rows, vocab]."""
        data, size = memoryview(answer.data), len(answer.data) // answer.count
        first = row - answer.count + 1
        return np.stack([self._dealer.logits(first + i, data[i * size : (i + 1) * size]) for i in range(answer.count)])

    def _tell(self, report: Report, done: int, total: int, count: int, heard: NodeProgress) -> None:
        computed = min(done + heard.rows_done, total)  # drafts are nothing that anybody waits for
        running = min(done + count, total) - computed
        report(PromptProgress(computed, total, heard.section, heard.sections, running))

    def _bytes(self) -> tuple[int, int]:
        return self.links[0].step_bytes, self.links[1].step_bytes

    def _count(self, decoding: bool, tokens: int, answer: Answer, seconds: float, before: tuple[int, int]) -> None:
        first, second = (now - then for now, then in zip(self._bytes(), before, strict=True))
        # Both nodes send messages of the same lengths: what one sent went the other way, too.
        self._phases[decoding] = self._phases[decoding].with_step(
            tokens, answer.rounds, seconds, 2 * answer.peer_bytes, first, second
        )

    def _lost(self, decoding: bool, rows: float) -> None:
        self._phases[decoding] = self._phases[decoding].with_rows(0, rows)


def warm_up(model: ClientModel, tick: Callable[[], None] = lambda: None) -> None:
    """Compile the dealer's kernels before somebody waits for them; nothing of it is used. `tick`, called often, may raise."""
    keys = fresh(KEY_BYTES), fresh(KEY_BYTES)
    dealer = Dealer(model.spec, model.seeds, keys, fresh(KEY_BYTES), prefix=1, context=2)
    for _ in dealer.deal(1):
        tick()
    dealer.logits(dealer.request([0]).first_row, bytes(LOGIT_BYTES * model.spec.vocab))


def open_session(
    parties: Endpoints,
    model: ClientModel,
    *,
    prefix: int,
    context: int,
    queue_bytes: int,
    inbox: Inbox | None = None,
    stopping: Event | None = None,
) -> Session:
    """Call both nodes and agree on everything; dealing has begun when this returns.

    Raises:
        LinkError: a node cannot be reached or does not answer.
        ProtocolError: a node is not what it should be, is busy, or cannot reach the other one.
        InputError: the queue is too small for a single row.
        SessionStopped: `stopping` was set, and `inbox` woken.
    """
    began, inbox, stopping = time.monotonic(), inbox or Inbox(), stopping or Event()
    links: dict[int, NodeLink] = {}
    with ExitStack() as undo:
        undo.callback(_leave, links, stopping)
        session, terms = fresh(SESSION_BYTES), _terms(parties, model, context, queue_bytes)
        greetings = Greetings(inbox, stopping)
        for role in order(parties):
            called = call(partial(_dial, parties, role), inbox, stopping)
            link = links[role] = NodeLink(role, called, ClientSession(terms[role - 1], session, prefix=prefix), inbox)
            link.listen()
            link.say(link.session.send_hello)
            greetings.wait(Welcome, _WELCOME_SECONDS, role)
        one, two = links[1], links[2]
        one.partner, two.partner = two, one
        keys = one.session.key("streams"), two.session.key("streams")
        dealer = Dealer(model.spec, model.seeds, keys, fresh(KEY_BYTES), prefix=prefix, context=context)
        for link in (one, two):
            if (needed := dealer.made_bytes(1, context - 1, link.role)) > link.session.queue_bytes:
                raise InputError(
                    f"a prepared token takes {needed:,} bytes and {link.party}'s queue has {link.session.queue_bytes:,}"
                )
            if not link.session.has_room(1, context - 1):
                raise InputError(f"{context:,} tokens make a message between the nodes too long: choose a shorter context")
        greetings.wait(Ready, _READY_SECONDS, 1, 2)
        opened = Session(model, (one, two), inbox, dealer)
        undo.pop_all()
    opened.start(time.monotonic() - began)
    return opened


def _leave(links: dict[int, NodeLink], stopping: Event) -> None:
    for link in links.values():
        link.abort() if stopping.is_set() else link.close()


def _terms(parties: Endpoints, model: ClientModel, context: int, queue_bytes: int) -> list[Terms]:
    spec, program = model.spec, plans(model.spec)
    return [
        Terms(
            program=spec.digest(),
            pack=model.pack_digests[role],
            role=role,
            vocab=spec.vocab,
            d_model=spec.d_model,
            sections=spec.sections,
            prefix=len(spec.prefix),
            context=context,
            queue_bytes=queue_bytes,
            made_bytes=lru_cache(partial(_made_bytes, program, role)),
            round_bytes=lru_cache(partial(_round_bytes, program)),
            start_id=start_id(),
            peer_fingerprint=parties.nodes[2 - role].fingerprint,
        )
        for role in (1, 2)
    ]


def _made_bytes(program: Sequence[Plan], role: int, count: int, position: int) -> int:
    return made_bytes(program, Rows(0, position, count), role)


def _round_bytes(program: Sequence[Plan], count: int, position: int) -> int:
    return round_bytes(program, Rows(0, position, count))


def _dial(parties: Endpoints, role: int) -> Link:
    node = parties.nodes[role - 1]
    tls = client_tls(parties.identity, node.certificate)
    return connect(node.host, node.port, "/session", tls, party=f"node {role}")
