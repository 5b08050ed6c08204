"""A node's side of a session with the client, without I/O.

Rule 1. Nothing is believed: the order of messages (machine.py), rows and positions (ledger.py), the
        length of every message and the range of every number are checked here, before the evaluator
        sees them.
Rule 2. The exact length of a section's material is asked from the evaluator, which must know a block
        (`Evaluator.announce`) before the next message is given to `receive`.
Rule 3. One step at a time. The context grows with `send_answer`; `send_stopped` leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.errors import ProtocolError
from engine.link.frames import Data, Frame, FrameType
from engine.session.hello import Hello, Welcome
from engine.session.keys import NONCE_BYTES, derive, fresh
from engine.session.ledger import RowLedger
from engine.session.machine import NODE_RECEIVES, NODE_SENDS, Machine, State
from engine.session.messages import (
    Block,
    Material,
    Progress,
    Rewind,
    Stop,
    Stopped,
    answer_digest,
    answer_parts,
    parse_step,
)
from engine.session.terms import Terms
from engine.step import LOGIT_BYTES, Answer, Step

NodeEvent = Hello | Block | Material | Step | Rewind | Stop


class NodeSession(Machine[NodeEvent]):
    """One node's view of the link to the client.

    `section_bytes(first_row, section)` is the evaluator's. After HELLO, `hello` holds it and `key`
    gives the session's keys. `step` is the step that runs, None between steps.
    """

    def __init__(self, terms: Terms, section_bytes: Callable[[int, int], int], *, nonce: bytes | None = None) -> None:
        super().__init__(None, NODE_SENDS, NODE_RECEIVES)
        self.hello: Hello | None = None
        self.step: Step | None = None
        self._terms, self._section_bytes = terms, section_bytes
        self._nonce = nonce or fresh(NONCE_BYTES)
        self._rows = self._ledger(terms.prefix, terms.context, terms.queue_bytes)

    def __repr__(self) -> str:
        return f"<NodeSession {self.state.value}>"

    @property
    def rows(self) -> RowLedger:
        """The session's book of rows: to be read, as it is the session that writes it."""
        return self._rows

    @property
    def position(self) -> int:
        """Length of the context in tokens, the prefix included."""
        return self._rows.book.position

    @property
    def queued_bytes(self) -> int:
        """Memory of the announced rows, once they are prepared, until they are used up."""
        return self._rows.queued_bytes

    @property
    def queued_rows(self) -> int:
        """Rows that were announced and not used."""
        return self._rows.book.queued_rows

    def key(self, purpose: str) -> bytes:
        """This session's 32-byte key of client and node for one purpose; ValueError before HELLO."""
        if self.hello is None or self.session is None:
            raise ValueError("there is no key before HELLO")
        return derive(
            bytes.fromhex(self.hello.seed),
            (bytes.fromhex(self.hello.nonce), self._nonce),
            session=self.session,
            epoch=self.hello.epoch,
            pair=f"D-E{self._terms.role}",
            purpose=purpose,
        )

    # What the node says; see engine/session/machine.py for when

    def send_welcome(self) -> bytes:
        """WELCOME: HELLO was understood, and this is what the node is."""
        terms, hello = self._terms, self.hello
        if hello is None:
            raise ValueError("WELCOME answers a HELLO")
        welcome = Welcome(
            program=terms.program,
            pack=terms.pack,
            role=terms.role,
            start_id=terms.start_id,
            nonce=self._nonce.hex(),
            queue_bytes=self._rows.queue_bytes,
            context=hello.context,
            peer_fingerprint=terms.peer_fingerprint,
        )
        return self._write(FrameType.WELCOME, welcome.encode())

    def send_ready(self) -> bytes:
        """READY: the link to the other node stands."""
        return self._write(FrameType.READY)

    def send_progress(self, rows_done: int, section: int) -> bytes:
        """PROGRESS of the running step."""
        with self._lock:
            rows = 0 if self.step is None else self.step.count
            message = Progress(rows_done, rows, section, self._terms.sections)
            return self._write(FrameType.PROGRESS, *message.parts())

    def send_answer(self, answer: Answer) -> bytes:
        """ANSWER: the step has ended. The second evaluator sends a digest in place of the logits, answers · vocab · 3 bytes."""
        with self._lock:
            step = self.step
            if step is None:
                raise ValueError("ANSWER ends a step, and none runs")
            if self._rows.lacks_material():
                raise ValueError("ANSWER comes after the material of its rows")
            if (answer.first_row, answer.count) != (step.first_row, step.answers):
                raise ValueError(f"an answer to {answer.count} rows of the step at row {answer.first_row} ends another step")
            if len(answer.data) != step.answers * self._terms.vocab * LOGIT_BYTES:
                raise ValueError(f"{len(answer.data)} bytes do not answer {step.answers} rows")
            if self._terms.role == 2:
                answer = replace(answer, data=answer_digest(answer.alarm, answer.data))
            frame = self._write(FrameType.ANSWER, *answer_parts(answer))
            self._rows.finish()
            self.step = None
            return frame

    def send_stopped(self) -> bytes:
        """STOPPED: no step runs any more; dealing starts anew where the context ends."""
        with self._lock:
            frame = self._write(FrameType.STOPPED, *Stopped(self._rows.step_first).parts())
            self._rows.settle()
            self.step = None
            return frame

    def send_stopped_if_late(self) -> bytes | None:
        """STOPPED if STOP came after the step's ANSWER had left, else None: the step's end will say it.

        To be asked after every STOP that came and after every ANSWER that left, whichever thread is first.
        """
        with self._lock:
            return self.send_stopped() if self.state is State.LATE else None

    # What the node hears

    def _event(self, frame: Frame) -> NodeEvent:
        readers: dict[FrameType, Callable[[Data], NodeEvent]] = {
            FrameType.HELLO: self._hear_hello,
            FrameType.BLOCK: self._hear_block,
            FrameType.MATERIAL: self._hear_material,
            FrameType.STEP: self._hear_step,
            FrameType.REWIND: self._hear_rewind,
            FrameType.STOP: self._hear_stop,
        }
        return readers[frame.type](frame.payload)

    def _hear_hello(self, payload: Data) -> Hello:
        hello, terms = Hello.parse(payload), self._terms
        for code, theirs, ours in (
            ("wrong-program", hello.program, terms.program),
            ("wrong-role", hello.role, terms.role),
            ("wrong-pack", hello.pack, terms.pack),
        ):
            if theirs != ours:
                raise ProtocolError(code, f"{theirs}, not {ours}")
        if hello.prefix not in (1, terms.prefix) or not hello.prefix <= hello.context <= terms.context:
            text = f"prefix {hello.prefix} of {terms.prefix}, context {hello.context} of {terms.context}"
            raise ProtocolError("wrong-limits", text)
        queue_bytes = min(hello.queue_bytes, terms.queue_bytes)
        self._rows = self._ledger(hello.prefix, hello.context, queue_bytes)
        self.hello = hello
        return hello

    def _hear_block(self, payload: Data) -> Block:
        block = Block.parse(payload)
        self._rows.announce(block.first_row, block.count, block.first_position)
        return block

    def _hear_material(self, payload: Data) -> Material:
        material = Material.parse(payload)
        self._rows.expects(material.first_row, material.section)
        whole = self._section_bytes(material.first_row, material.section)
        self._rows.deliver(material.first_row, material.section, len(material.data), whole)
        return material

    def _hear_step(self, payload: Data) -> Step:
        terms, hello = self._terms, self.hello
        context = terms.context if hello is None else hello.context
        width = terms.d_model if terms.role == 2 else 0
        step = parse_step(payload, context=context, vocab=terms.vocab, width=width)
        self._rows.begin(step.first_row, step.count, step.first_position)
        self.step = step
        return step

    def _hear_rewind(self, payload: Data) -> Rewind:
        rewind = Rewind.parse(payload)
        self._rows.rewind(rewind.position)
        return rewind

    def _hear_stop(self, payload: Data) -> Stop:
        stop = Stop.parse(payload)
        self._rows.discard()
        return stop

    def _ledger(self, prefix: int, context: int, queue_bytes: int) -> RowLedger:
        return RowLedger(
            prefix=prefix,
            context=context,
            sections=self._terms.sections,
            queue_bytes=queue_bytes,
            made_bytes=self._terms.made_bytes,
            round_bytes=self._terms.round_bytes,
        )
