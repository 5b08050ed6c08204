"""The client's side of a session with one node, without I/O.

Rule 1. What the program around it does wrong is a ValueError, what the node does wrong a
        ProtocolError. `Discarded` is neither: a rewind, a stop or the end was faster than the dealing
        thread.
Rule 2. The book of rows is the node's own (ledger.py), so that nothing leaves that the node would
        refuse: no row twice, no block beyond the queue's bound, no step past the context.
Rule 3. The step's end is the node's to say: position and queue change when its ANSWER is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.errors import ProtocolError
from engine.link.frames import Data, Frame, FrameType
from engine.session.hello import Hello, Welcome
from engine.session.keys import NONCE_BYTES, SEED_BYTES, derive, fresh
from engine.session.ledger import RowLedger
from engine.session.machine import CLIENT_RECEIVES, CLIENT_SENDS, Machine, State
from engine.session.messages import (
    DIGEST_BYTES,
    Block,
    Material,
    Progress,
    Ready,
    Rewind,
    Stopped,
    max_answers,
    parse_answer,
    step_parts,
)
from engine.session.terms import Terms
from engine.step import LOGIT_BYTES, Answer, Step

ClientEvent = Welcome | Ready | Progress | Answer | Stopped


class Discarded(Exception):  # noqa: N818 - nothing is wrong
    """The rows were discarded by a rewind, a stop or the session's end while they were being dealt."""


class ClientSession(Machine[ClientEvent]):
    """The client's view of the link to one node.

    `session` (16 bytes) and `epoch` are the same for both nodes; `prefix`, 1 or `terms.prefix`, says
    how many public prefix tokens the conversation begins with. Seed and nonce are drawn for this link.
    """

    def __init__(
        self,
        terms: Terms,
        session: bytes,
        *,
        epoch: int = 0,
        prefix: int | None = None,
        seed: bytes | None = None,
        nonce: bytes | None = None,
    ) -> None:
        super().__init__(session, CLIENT_SENDS, CLIENT_RECEIVES)
        self.welcome: Welcome | None = None
        self._terms, self._session, self._epoch = terms, session, epoch
        self._prefix = terms.prefix if prefix is None else prefix
        self._seed = seed or fresh(SEED_BYTES)
        self._nonce = nonce or fresh(NONCE_BYTES)
        self._rows = self._ledger(terms.queue_bytes)
        self._answers = 0  # to the last step

    def __repr__(self) -> str:
        return f"<ClientSession {self.state.value}>"

    @property
    def rows(self) -> RowLedger:
        """The session's book of rows: to be read, as it is the session that writes it."""
        return self._rows

    @property
    def position(self) -> int:
        """Length of the context in tokens, the prefix included, as far as the node has answered."""
        return self._rows.book.position

    @property
    def queued_bytes(self) -> int:
        """What the rows at the node, or on their way, take there once they are prepared, until they are used up."""
        return self._rows.queued_bytes

    @property
    def queue_bytes(self) -> int:
        """The bound of `queued_bytes`; the node's WELCOME may lower it."""
        return self._rows.queue_bytes

    def has_room(self, count: int, position: int) -> bool:
        """Whether the queue holds a block of `count` rows from `position` on beside what it has, and no round is too long."""
        made = self._terms.made_bytes(count, position)
        return self._rows.queued_bytes + made <= self._rows.queue_bytes and self._rows.fits_a_round(count, position)

    @property
    def queued_rows(self) -> int:
        """Rows that were announced and not used."""
        return self._rows.book.queued_rows

    def key(self, purpose: str) -> bytes:
        """This session's 32-byte key of client and node for one purpose; ValueError before WELCOME."""
        if self.welcome is None:
            raise ValueError("there is no key before WELCOME")
        return derive(
            self._seed,
            (self._nonce, bytes.fromhex(self.welcome.nonce)),
            session=self._session,
            epoch=self._epoch,
            pair=f"D-E{self._terms.role}",
            purpose=purpose,
        )

    # What the client says; see engine/session/machine.py for when

    def send_hello(self) -> bytes:
        """HELLO: who calls, and what must be equal on both sides."""
        terms = self._terms
        hello = Hello(
            program=terms.program,
            pack=terms.pack,
            role=terms.role,
            epoch=self._epoch,
            start_id=terms.start_id,
            nonce=self._nonce.hex(),
            seed=self._seed.hex(),
            prefix=self._prefix,
            queue_bytes=terms.queue_bytes,
            context=terms.context,
        )
        return self._write(FrameType.HELLO, hello.encode())

    def send_block(self, first_row: int, count: int, first_position: int) -> bytes:
        """BLOCK: these rows are being dealt. `Discarded` if dealing must start elsewhere by now."""
        with self._lock:
            self._place_of_dealing(FrameType.BLOCK)
            if first_position != self._rows.book.dealt_position:
                raise Discarded
            with _own_fault():
                self._rows.announce(first_row, count, first_position)
            return self._write(FrameType.BLOCK, *Block(first_row, count, first_position).parts())

    def send_material(self, first_row: int, section: int, data: Data, whole: int) -> bytes:
        """MATERIAL: the next piece of a section of `whole` bytes; one of none if it has none. `Discarded` if the block was."""
        with self._lock:
            self._place_of_dealing(FrameType.MATERIAL)
            if first_row <= self._rows.book.last_announced and self._rows.book.find(first_row) is None:
                raise Discarded
            with _own_fault():
                self._rows.deliver(first_row, section, len(data), whole)
            return self._write(FrameType.MATERIAL, *Material(first_row, section, data).parts())

    def send_step(self, step: Step) -> bytes:
        """STEP: compute tokens on the next rows; `kappa2` is left out for the first evaluator."""
        with self._lock:
            self._place(FrameType.STEP)
            if not 1 <= step.answers <= min(step.count, max_answers(self._terms.vocab)):
                raise ValueError(f"{step.answers} answers for {step.count} rows")
            with _own_fault():
                self._rows.begin(step.first_row, step.count, step.first_position)
            self._answers = step.answers
            head, deltas, kappa2 = step_parts(step)
            return self._write(FrameType.STEP, head, deltas, kappa2 if self._terms.role == 2 else b"")

    def send_rewind(self, position: int) -> bytes:
        """REWIND: cut the context to `position` tokens; what is queued is discarded."""
        with self._lock:
            self._place(FrameType.REWIND)
            with _own_fault():
                self._rows.rewind(position)
            return self._write(FrameType.REWIND, *Rewind(position).parts())

    def send_stop(self) -> bytes:
        """STOP the running step; what is queued is discarded. STOPPED answers, after an ANSWER or not."""
        with self._lock:
            data = self._write(FrameType.STOP)
            self._rows.discard()
            return data

    # What the client hears

    def _event(self, frame: Frame) -> ClientEvent:
        readers: dict[FrameType, Callable[[Data], ClientEvent]] = {
            FrameType.WELCOME: self._hear_welcome,
            FrameType.READY: Ready.parse,
            FrameType.PROGRESS: self._hear_progress,
            FrameType.ANSWER: self._hear_answer,
            FrameType.STOPPED: self._hear_stopped,
        }
        return readers[frame.type](frame.payload)

    def _hear_welcome(self, payload: Data) -> Welcome:
        welcome, terms = Welcome.parse(payload), self._terms
        for code, theirs, ours in (
            ("wrong-program", welcome.program, terms.program),
            ("wrong-role", welcome.role, terms.role),
            ("wrong-pack", welcome.pack, terms.pack),
            ("wrong-peer", welcome.peer_fingerprint, terms.peer_fingerprint),
            ("wrong-limits", welcome.context, terms.context),
        ):
            if theirs != ours:
                raise ProtocolError(code, f"{theirs}, not {ours}")
        if welcome.queue_bytes > terms.queue_bytes:
            raise ProtocolError("wrong-limits", f"a queue of {welcome.queue_bytes} bytes")
        self._rows = self._ledger(welcome.queue_bytes)
        self.welcome = welcome
        return welcome

    def _hear_progress(self, payload: Data) -> Progress:
        progress = Progress.parse(payload)
        if (progress.rows, progress.sections) != (self._rows.book.taken, self._terms.sections):
            raise ProtocolError("out-of-range", "PROGRESS of another step")
        return progress

    def _hear_answer(self, payload: Data) -> Answer:
        logits = self._answers * self._terms.vocab * LOGIT_BYTES
        answer = parse_answer(payload, length=logits if self._terms.role == 1 else DIGEST_BYTES)
        if (answer.first_row, answer.count) != (self._rows.step_first, self._answers):
            raise ProtocolError("out-of-range", f"ANSWER to row {answer.first_row}")
        self._rows.finish()
        return answer

    def _hear_stopped(self, payload: Data) -> Stopped:
        stopped = Stopped.parse(payload)
        if stopped.first_row != self._rows.step_first:
            raise ProtocolError("out-of-range", f"STOPPED at row {stopped.first_row}")
        self._rows.settle()
        return stopped

    def _place_of_dealing(self, kind: FrameType) -> None:
        if self.state in (State.STOPPING, State.LATE, State.CLOSED):
            raise Discarded  # the dealing thread could not know
        self._place(kind)

    def _ledger(self, queue_bytes: int) -> RowLedger:
        return RowLedger(
            prefix=self._prefix,
            context=self._terms.context,
            sections=self._terms.sections,
            queue_bytes=queue_bytes,
            made_bytes=self._terms.made_bytes,
            round_bytes=self._terms.round_bytes,
        )


@contextmanager
def _own_fault() -> Iterator[None]:
    """What the node would refuse was asked for on this side."""
    try:
        yield
    except ProtocolError as error:
        raise ValueError(str(error)) from error
