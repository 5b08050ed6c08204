"""The dealer: it draws every mask, deals ahead of time, and is the client (protocol, sections 1 and 7).

Rule 1. A row's serial number is used once: ``next_row`` never goes back, whatever is rewound.
Rule 2. What is dealt for a row depends on its position and on the masks of the rows before it, never on a token.
Rule 3. A rewind empties the queue, because a queued row's masks belong to its position.

``deal`` runs in one thread, everything else in another.
"""

import threading
from collections.abc import Iterator, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError, ProtocolError
from engine.gates.answer import DROPPED
from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.planning import plans
from engine.models.walk import Program, walk
from engine.parties.masks import ModelMasks
from engine.prf import Label, Stream, require_apart
from engine.prf.streams import Record
from engine.program.dealing import Dealing, DrawBuffers, KeptArrays
from engine.program.plan import Plan, dealt_bytes, made_bytes
from engine.ring.fixed import Real, Ring
from engine.ring.kernels.words import unmask24
from engine.rows.queue import RowBlock, RowQueue, Taken
from engine.rows.run import Rows
from engine.step import LOGIT_BYTES, Step


class Abandoned(Exception):
    """The block that was being dealt belongs to a context that was rewound."""


class Dealer:
    """The dealer's side of one session."""

    def __init__(
        self,
        spec: ModelSpec,
        seeds: tuple[bytes, bytes],
        keys: tuple[bytes, bytes],
        client_key: bytes,
        *,
        prefix: int,
        context: int,
        record: tuple[Record | None, Record | None] = (None, None),
        own_record: Record | None = None,
        program: Program = llama.sections,
    ) -> None:
        """`client_key` seeds what the dealer draws for itself (the embedding's random indices): no node knows it.

        Raises:
            ProtocolError: same-keys; nothing was dealt under them.
        """
        try:
            require_apart((*keys, client_key, *seeds))
        except ValueError as error:
            raise ProtocolError("same-keys", str(error)) from None
        self.spec = spec
        self.context = context
        self.masks = ModelMasks(spec, seeds, prefix, context)
        self._program = program
        self.plans: list[Plan] = plans(spec, program)
        self.sections = len(self.plans)
        self._streams = (Stream(keys[0], record[0]), Stream(keys[1], record[1]))
        self._own = Stream(client_key, own_record)
        self._changed = threading.Condition()
        self._book: RowQueue[KeptArrays] = RowQueue(prefix)
        """A block's load is what its dealt sections have kept: "index" and "base" first, "logits" and "alarm" at the end."""
        self._asked: list[Taken[KeptArrays]] = []  # rows of the last step, whose answers may still come
        self._generation = 0

    @property
    def next_row(self) -> int:
        """The number of the row that is dealt next."""
        return self._book.last_announced + 1

    @property
    def dealt_position(self) -> int:
        """The position that the next row is dealt for."""
        return self._book.dealt_position

    @property
    def position(self) -> int:
        """Length of the context in tokens, with those that were asked for; the prefix included."""
        return self._book.position

    @property
    def queued_rows(self) -> int:
        """Dealt rows (their first section at least) that no step has used."""
        with self._changed:
            return sum(block.left for block in self._book.blocks if _dealt(block))

    def row_bytes(self, position: int, role: int) -> int:
        """Bytes that are dealt to an evaluator for a row at `position`."""
        return dealt_bytes(self.plans, Rows(0, position, 1), role)

    def made_bytes(self, count: int, position: int, role: int) -> int:
        """Memory of `count` rows from `position` on at an evaluator, once they are prepared."""
        return made_bytes(self.plans, Rows(0, position, count), role)

    def wait_rows(self, count: int, timeout: float) -> bool:
        """Wait until `count` rows are queued; False when the time is over first."""
        with self._changed:
            return self._changed.wait_for(lambda: self.queued_rows >= count, timeout)

    def deal(self, count: int) -> Iterator[tuple[int, tuple[memoryview, memoryview]]]:
        """Deal the next `count` rows: yields (section, material for each evaluator), section by section.

        Raises:
            Abandoned: a rewind happened meanwhile.
            ValueError: the rows would leave the context.
        """
        with self._changed:
            if not 1 <= count <= self.context - self.dealt_position:
                raise ValueError("the rows to deal leave the context")
            rows = Rows(self.next_row, self.dealt_position, count)
            block = self._book.announce(rows, KeptArrays())
            generation = self._generation
        return self._walk(block, generation)

    def _walk(self, block: RowBlock[KeptArrays], generation: int) -> Iterator[tuple[int, tuple[memoryview, memoryview]]]:
        rows, buffers = block.rows, DrawBuffers()

        def enter(number: int) -> Dealing:
            self._check(generation)
            return Dealing(self.plans[number], number, rows, self._streams, self.masks, buffers)

        for number, d, _ in walk(self._program(self.spec, rows), self._indices(rows), enter):
            with self._changed:
                block.load.add_all(d.kept)
            self._check(generation)
            with self._changed:
                self._changed.notify_all()
            yield number, d.material()
            del d  # what it drew goes before the next section draws

    def _check(self, generation: int) -> None:
        with self._changed:
            if self._generation != generation:
                raise Abandoned("the block being dealt was rewound")

    def _indices(self, rows: Rows) -> Ring:
        """The rows' random table indices: 64 random bits modulo the vocabulary (bias below 2^-44)."""
        words = np.concatenate([self._own.words(1, Label.CLIENT, rows.first + r, 0, 0) for r in range(rows.count)])
        return (words.view(np.uint64) % np.uint64(self.spec.vocab)).astype(np.int64)

    def request(self, tokens: Sequence[int], answers: int = 1) -> Step:
        """Use the next ``len(tokens)`` queued rows for these tokens.

        Raises:
            InputError: no tokens, an unknown token, more tokens than the context holds.
            ValueError: fewer rows are queued.
        """
        ids = np.asarray(list(tokens), np.int64)
        self._check_tokens(ids)
        with self._changed:
            used = self._take(ids.size)
        deltas, kappas = [], []
        at = 0
        for taken in used:
            kept, rows = taken.block.load, slice(taken.start, taken.stop)
            part = ids[at : at + taken.rows.count]
            at += part.size
            deltas.append((part - kept["index"][rows]) % self.spec.vocab)
            lam = np.stack([self.masks.embedding_row(int(t)) for t in part])
            kappas.append(kept["base"][rows] - lam)
        begins = used[0].rows
        return Step(
            begins.first,
            begins.position,
            answers,
            np.concatenate(deltas).astype(np.uint32),
            np.concatenate(kappas),
        )

    def _check_tokens(self, ids: Ring) -> None:
        if not ids.size:
            raise InputError("There is nothing to send: the prompt has no tokens.")
        unknown = ids[(ids < 0) | (ids >= self.spec.vocab)]
        if unknown.size:
            raise InputError(f"Token {int(unknown[0])} is not in the model's vocabulary of {self.spec.vocab}.")
        if self.position + ids.size > self.context:
            raise InputError(
                f"The conversation needs {self.position + ids.size} tokens and the context holds {self.context}: "
                "shorten it or start a new chat."
            )

    def _take(self, count: int) -> list[Taken[KeptArrays]]:
        """Use the next `count` rows. They are spent and the context grows, whatever becomes of the step: a rewind undoes it."""
        book = self._book
        ready = sum(block.left for block in takewhile(_dealt, book.blocks))
        if ready < count:
            raise ValueError(f"{count - ready} rows too few are queued")
        self._asked = book.take(Rows(book.next_row, book.position, count))
        book.finish()
        return self._asked

    def logits(self, row: int, answer: bytes | memoryview, timeout: float = 60.0) -> Real:
        """The logits of `row` from the forwarded 3 bytes a logit, float64 [vocab].

        Raises:
            ValueError: the answer has not the exact length.
        """
        rho, _ = self._answer(row, timeout)
        data = np.frombuffer(memoryview(answer).toreadonly(), np.uint8)  # of one kind, for which the kernel is compiled
        out = np.empty(self.spec.vocab)
        if data.size != out.size * LOGIT_BYTES:
            raise ValueError(f"{data.size} bytes are no answer of {out.size} logits")
        bits = self.spec.scales.hidden + self.spec.weight_bits["head"] - DROPPED
        unmask24(data, rho, 2.0**-bits, out)
        return out

    def wrapped(self, row: int, word: int, timeout: float = 60.0) -> bool:
        """Whether a truncation of the step that ended with `row` wrapped: its text is not to be used, the step is redone."""
        return self._answer(row, timeout)[1] != word

    def _answer(self, row: int, timeout: float) -> tuple[NDArray[np.int32], int]:
        block = next((t.block for t in self._asked if t.rows.first <= row < t.rows.first + t.rows.count), None)
        if block is None:
            raise KeyError(f"row {row} was not asked for")
        with self._changed:
            if not self._changed.wait_for(lambda: "alarm" in block.load, timeout):
                raise TimeoutError("the answer's masks were not dealt in time")
            index = row - block.rows.first
            return block.load["logits"][index], int(block.load["alarm"][index])

    def rewind(self, position: int) -> None:
        """Cut the context to `position` (prefix included); every queued row is discarded.

        Raises:
            ValueError: the position is not within the context.
        """
        with self._changed:
            self._book.rewind(position)
            self._generation += 1
            self._changed.notify_all()


def _dealt(block: RowBlock[KeptArrays]) -> bool:
    """Whether a step can be asked for on its rows; its later sections may still be dealt."""
    return "base" in block.load
