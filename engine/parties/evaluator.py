"""An evaluator: it runs the program on masked values, a message a round with its peer (protocol, section 2).

Rule 1. A row is used once: a step on rows that were used or discarded is refused (``ValueError``), before a round.
Rule 2. Material is prepared ahead of time, section by section; a step waits for what it needs.
Rule 3. A step that does not end (stopped, a lost peer) leaves the context where it was; its rows are spent.

``prepare`` runs in one thread, ``step`` in another.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TypeAlias

import numpy as np

from engine.errors import SessionStopped
from engine.host.process import sparse, trim
from engine.models import llama
from engine.models.planning import plans
from engine.models.walk import Output, Program, walk
from engine.parties.pack import NodePack, OnlineHalves
from engine.prf import Stream
from engine.prf.streams import Record
from engine.program.evaluation import Evaluation, Exchange
from engine.program.material import PreparedMaterial, prepare
from engine.program.plan import Plan
from engine.program.weights import Cache
from engine.ring.fixed import Ring
from engine.ring.kernels.linear import subtract_product
from engine.ring.kernels.lookups import Table
from engine.rows.queue import RowBlock, RowQueue, Taken
from engine.rows.run import Rows
from engine.step import Answer, Step
from engine.wire import Secret

PASS_ROWS = 64
READY_ROWS = 16


def rows_kept_ready(step_rows: int) -> float:
    """Rows that are kept ready while a step of that many runs; with more, work ahead of time gives way. Without a step (0 rows)
    it never does: the rest of the queue is filled between steps.

    One is enough while a prompt's pass runs: it is waited for, and the tokens behind it are further away than a block.
    """
    if not step_rows:
        return inf
    return READY_ROWS if step_rows <= READY_ROWS else 1


Prepared: TypeAlias = list[PreparedMaterial | None]
"""A block's material, section by section; None where it is not prepared yet."""


@dataclass(slots=True, repr=False)
class _Context(Secret):
    """What the program asks an evaluator for: matrices, tables, and the cache of keys and values."""

    pack: NodePack
    halves: OnlineHalves
    keys: list[Cache]
    values: list[Cache]
    tables: dict[str, Table] = field(default_factory=dict)

    def multiply(self, weight: str, x: Ring, out: Ring) -> None:
        self.halves.multiply(weight, x, out)

    def subtract(self, weight: str, x: Ring, out: Ring) -> None:
        subtract_product(x, self.pack.masked[weight], out, low40=weight in self.pack.spec.low40)

    def masked(self, weight: str) -> Ring:
        return self.pack.masked[weight]


class Evaluator:
    """One evaluator's side of one session."""

    def __init__(
        self,
        pack: NodePack,
        key: bytes,
        *,
        prefix: int,
        context: int,
        record: Record | None = None,
        program: Program = llama.sections,
    ) -> None:
        self.spec, self.role = pack.spec, pack.role
        self._program = program
        self.plans: list[Plan] = plans(self.spec, program)
        self.sections = len(self.plans)
        self._stream = Stream(key, record)
        self._state = _Context(pack, OnlineHalves(pack), [], [], pack.tables)
        self._prefix(pack, prefix, context)
        self._changed = threading.Condition()
        self._book: RowQueue[Prepared] = RowQueue(prefix)
        self._closed = self._waiting = False
        self._step_rows = 0  # of the running step; 0: none runs

    def _prefix(self, pack: NodePack, prefix: int, context: int) -> None:
        """Caches with room for the context; the public prefix's keys and values come from the pack."""
        spec = self.spec
        room = sparse(spec.layers, 2, 2, spec.kv_heads, context, spec.head_dim)
        for layer in range(spec.layers):
            for which, caches in ((0, self._state.keys), (1, self._state.values)):
                cache = Cache(*room[layer, which])
                masked, online = pack.prefix(layer, which)
                cache.masked[:, :prefix] = masked[:, :prefix]
                cache.online[:, :prefix] = online[:, :prefix]
                caches.append(cache)

    @property
    def position(self) -> int:
        """Length of the context in tokens, the prefix included."""
        return self._book.position

    @property
    def queued_rows(self) -> int:
        """Announced rows that no step has used."""
        with self._changed:
            return self._book.queued_rows

    @property
    def queue(self) -> tuple[RowBlock[Prepared], ...]:
        """The blocks that were announced and not used up, oldest first."""
        return self._book.blocks

    @property
    def queued_bytes(self) -> int:
        """Memory of the prepared sections."""
        with self._changed:
            return sum(m.nbytes for block in self._book.blocks for m in block.load if m is not None)

    def announce(self, first_row: int, count: int, first_position: int) -> None:
        """A block of rows is being dealt; serial numbers only grow, or it is refused (``ValueError``)."""
        with self._changed:
            self._book.announce(Rows(first_row, first_position, count), [None] * self.sections)

    def section_bytes(self, first_row: int, section: int) -> int:
        """Exact length of a section's material."""
        block = self._find(first_row)
        if block is None:
            raise ValueError("no such block was announced")
        return self.plans[section].dealt_bytes(block.rows, self.role)

    def prepare(self, first_row: int, section: int, material: bytes | memoryview) -> None:
        """Prepare one section of a block, in order; a block that was discarded meanwhile is passed over.

        Raises:
            ValueError: the material has not the section's exact length.
        """
        block = self._find(first_row)
        if block is None:
            return
        if len(material) != self.section_bytes(first_row, section):
            raise ValueError("the dealt material has not the exact length of its section")
        made = prepare(
            self.role,
            self.plans[section],
            section,
            block.rows,
            self._stream,
            material,
            self._state,
        )
        with self._changed:
            block.load[section] = made
            self._changed.notify_all()

    @property
    def waiting(self) -> bool:
        """Whether a step waits for material."""
        with self._changed:
            return self._waiting

    def give_way(self) -> None:
        """Wait while a step computes, unless it waits for material itself or fewer rows than `rows_kept_ready` says are ready.

        Work ahead of time would take the processor from the person who waits for a word. To be called before ``prepare``.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._waiting or self._ready_rows() < rows_kept_ready(self._step_rows)
            )

    def _ready_rows(self) -> int:
        return sum(block.left for block in self._book.blocks if None not in block.load)

    def _find(self, first_row: int) -> RowBlock[Prepared] | None:
        with self._changed:
            return self._book.find(first_row)

    def step(self, step: Step, exchange: Exchange, progress: Callable[[int, int], None]) -> Answer:
        """Compute the step's rows, passes of up to 64 rows; ``progress(rows done, section)`` before each section.

        Rounds: 2 + 20 a layer a pass, and 4 once for the answered rows' pass.

        Raises:
            ValueError: the rows are not the next unused ones, or the position is not the context's length.
            SessionStopped: ``discard`` or ``close`` was called meanwhile.
        """
        passes = self._take(step)
        self._set_step_rows(step.count)
        try:
            return self._run(step, passes, exchange, progress)
        finally:
            self._set_step_rows(0)
            if step.count > READY_ROWS:
                trim()

    def _set_step_rows(self, value: int) -> None:
        with self._changed:
            self._step_rows = value
            self._changed.notify_all()

    def _run(
        self,
        step: Step,
        passes: list[Taken[Prepared]],
        exchange: Exchange,
        progress: Callable[[int, int], None],
    ) -> Answer:
        count = step.count
        e = Evaluation(self.role, self._state, Rows(0, 0, 0), exchange)
        parts: list[bytes] = []
        alarm = done = 0
        for taken in passes:
            here = slice(done, done + taken.rows.count)
            tokens = step.deltas[here].astype(np.int64), step.kappa2[here]  # the first evaluator has no κ2
            last = step.answers - (count - here.stop)  # trailing rows of this pass that are answered
            part = self._pass(e, taken, tokens, min(last, taken.rows.count), partial(progress, done))
            if part is not None:
                parts.append(part[0])
                alarm = part[1]
            done = here.stop
        self._finish()
        return Answer(step.first_row, step.answers, e.rounds, 0, alarm, b"".join(parts))

    def _pass(
        self,
        e: Evaluation,
        taken: Taken[Prepared],
        tokens: tuple[Ring, Ring],
        answered: int,
        progress: Callable[[int], None],
    ) -> tuple[bytes, int] | None:
        sections = self._program(self.spec, taken.rows)
        last = len(sections) - 1

        def enter(number: int) -> Evaluation:
            progress(number)
            first = taken.stop - answered if number == last else taken.start
            e.enter(number, self._material(taken.block, number), first, taken.stop)
            return e

        x: Output = None
        for _, _, x in walk(sections if answered > 0 else sections[:last], tokens, enter):  # noqa: B007  the answer is the last
            e.leave(x)  # later sections are prepared meanwhile
        return x if answered > 0 else None

    def _take(self, step: Step) -> list[Taken[Prepared]]:
        """Mark the step's rows as used and cut them into passes that lie within one block."""
        if not 1 <= step.answers <= step.count:
            raise ValueError("a step answers one of its rows at least, and all of them at most")
        with self._changed:
            taken = self._book.take(step.rows)
        return [
            Taken(part.block, start, min(start + PASS_ROWS, part.stop))
            for part in taken
            for start in range(part.start, part.stop, PASS_ROWS)
        ]

    def _material(self, block: RowBlock[Prepared], section: int) -> PreparedMaterial:
        def settled() -> bool:
            return self._closed or block.discarded or block.load[section] is not None

        with self._changed:
            if not settled():
                self._waiting = True
                self._changed.notify_all()
                self._changed.wait_for(settled)
                self._waiting = False
            made = block.load[section]
            if made is None or self._closed or block.discarded:
                raise SessionStopped
            return made

    def _finish(self) -> None:
        """The step has ended: the context has grown, and the memory of its rows is given back."""
        with self._changed:
            for block in self._book.blocks:
                for material in block.load if block.used else ():
                    if material is not None:
                        material.spend(block.used)
            self._book.finish()

    def discard(self) -> None:
        """Discard every queued row, the running step's too: it ends where it next asks for material."""
        with self._changed:
            self._book.discard()
            self._changed.notify_all()

    def rewind(self, position: int) -> None:
        """Cut the context to `position` tokens; every queued row is discarded, its number never accepted again."""
        with self._changed:
            self._book.rewind(position)
            self._changed.notify_all()

    def close(self) -> None:
        """End a running step where it next asks for material; none can run afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
