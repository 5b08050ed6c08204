"""The one book of rows: which were announced, taken by a step, and discarded. Pure: no lock, no thread, no I/O.

Rule 1. Row numbers only grow, and may leave gaps; row 0 does not exist. A row is announced once, then it is taken once by one
        step or discarded, and never comes again.
Rule 2. A step takes exactly the next rows that are queued, in one run without a gap, each dealt for the position where it will
        stand: the first one where the context ends.
Rule 3. One step at a time: its owner sees to it, and one that was given up is forgotten by the next. The context grows when
        the step is finished; the rows of a step that is not finished stay spent.
Rule 4. What is refused changes nothing.

Each party keeps a book of its own, so that none relies on what another one counted. A block lives until the step that takes its
last row is finished, or it is discarded; whoever needs it for longer holds it (`Taken.block`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engine.rows.run import Rows

Load = TypeVar("Load")


class RowRefused(ValueError):
    """The book does not allow this; `code` is the protocol's word: row-reused, not-dealt, wrong-position or out-of-range."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(slots=True, eq=False)
class RowBlock(Generic[Load]):
    """Rows that were announced together, and what their owner keeps with them.

    The first `used` rows are spent. `discarded` says to whoever still holds the block that no row of it will be taken any more.
    """

    rows: Rows
    load: Load = field(repr=False)
    used: int = 0
    discarded: bool = False

    @property
    def left(self) -> int:
        """How many rows no step has taken."""
        return self.rows.count - self.used


@dataclass(frozen=True, slots=True, eq=False)
class Taken(Generic[Load]):
    """The rows start … stop - 1 of a block, counted from its first one, which a step has taken."""

    block: RowBlock[Load]
    start: int
    stop: int

    @property
    def rows(self) -> Rows:
        """Their numbers and positions."""
        return self.block.rows.part(self.start, self.stop)


class RowQueue(Generic[Load]):
    """The rows of one session at one party, behind a public prefix of `prefix` tokens.

    The owner locks. `blocks` alone may be read beside another thread that changes the book: each change makes a new tuple.
    """

    def __init__(self, prefix: int) -> None:
        self.position = prefix  #: length of the context in tokens, the prefix included
        self.dealt_position = prefix  #: the position behind the last announced row
        self.taken = 0  #: rows of the running step
        self.last_announced = 0
        self.last_spent = 0  #: taken or discarded
        self.blocks: tuple[RowBlock[Load], ...] = ()  #: with the blocks of the running step, oldest first
        self._prefix = prefix

    @property
    def queued_rows(self) -> int:
        """Announced rows that were neither taken nor discarded."""
        return sum(block.left for block in self.blocks)

    @property
    def next_row(self) -> int:
        """The number of the next queued row; where none is queued, the lowest one that can still be announced."""
        return next((block.rows.first + block.used for block in self.blocks if block.left), self.last_announced + 1)

    def find(self, first: int) -> RowBlock[Load] | None:
        """The block that begins with this row; None where there is no such block any more."""
        return next((block for block in self.blocks if block.rows.first == first), None)

    def announce(self, rows: Rows, load: Load) -> RowBlock[Load]:
        """Queue a block of new rows.

        Raises:
            RowRefused: row-reused, or out-of-range where it has no row.
        """
        if rows.count < 1:
            raise RowRefused("out-of-range", "announced rows must be new ones, one at least")
        if rows.first <= self.last_announced:
            raise RowRefused(
                "row-reused", f"announced rows must be new: row {rows.first}, and {self.last_announced} was the last"
            )
        block = RowBlock(rows, load)
        self.blocks = (*self.blocks, block)
        self.last_announced = rows.first + rows.count - 1
        self.dealt_position = rows.position + rows.count
        return block

    def take(self, rows: Rows) -> list[Taken[Load]]:
        """Begin a step on these rows: returns them block by block.

        Raises:
            RowRefused: row-reused, not-dealt or wrong-position.
        """
        taken = self._next(rows)
        for part in taken:
            part.block.used = part.stop
        self.last_spent = rows.first + rows.count - 1
        self.taken = rows.count
        return taken

    def _next(self, rows: Rows) -> list[Taken[Load]]:
        """The queued rows that are these, or RowRefused."""
        if rows.first <= self.last_spent:
            raise RowRefused(
                "row-reused", f"a step must use the next rows: row {rows.first}, and {self.last_spent} was the last spent"
            )
        if rows.position != self.position:
            raise RowRefused(
                "wrong-position", f"a step must start where the context ends: at {self.position}, not {rows.position}"
            )
        found: list[Taken[Load]] = []
        missing = rows
        for block in self.blocks:
            part = Taken(block, block.used, block.used + min(block.left, max(0, missing.count)))
            if part.start == part.stop:
                continue
            if part.rows.first != missing.first:
                break
            if part.rows.position != missing.position:
                raise RowRefused("wrong-position", f"row {missing.first} was not dealt for there: for {part.rows.position}")
            found.append(part)
            missing = missing.part(part.rows.count, missing.count)
        if not found:
            raise RowRefused("not-dealt", f"a step must use the next rows: not {rows.count} from {rows.first}")
        if missing.count:
            raise RowRefused("not-dealt", f"a step needs more rows than were dealt: {rows.count} from {rows.first}")
        return found

    def finish(self) -> list[RowBlock[Load]]:
        """End the running step, if one runs: the context grows by its rows. Returns the blocks that it has used up."""
        self.position += self.taken
        self.taken = 0
        ended = [block for block in self.blocks if not block.left]
        self.blocks = tuple(block for block in self.blocks if block.left)
        return ended

    def discard(self) -> None:
        """Discard every queued row. A running step may still be finished."""
        for block in self.blocks:
            block.discarded = True
        self.blocks = ()
        self.last_spent = self.last_announced

    def settle(self) -> None:
        """Give up the running step, if one runs: the context is what it was before, and dealing starts where it ends."""
        self.taken = 0
        self.dealt_position = self.position

    def rewind(self, position: int) -> None:
        """Cut the context to `position` tokens; a running step is given up and every queued row discarded.

        Raises:
            RowRefused: wrong-position; a rewind goes back, and not into the prefix.
        """
        if not self._prefix <= position <= self.position:
            raise RowRefused("wrong-position", f"a rewind goes back: to {position} of {self.position}, behind {self._prefix}")
        self.position = position
        self.discard()
        self.settle()
