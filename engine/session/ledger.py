"""Which rows were announced, dealt, used and discarded: the same book on both sides of a link.

Rule 1. A row is a serial number that only grows. It is announced once, used once by one step or
        discarded, and never again; row 0 does not exist.
Rule 2. Rows are announced for the position where dealing stands, never beyond the context.
Rule 3. A step uses exactly the next announced rows that were not used, in one run without a gap, and
        starts where the context ends. Their material may still be on its way.
Rule 4. Material comes block by block and section by section, in order; a section in any number of pieces.
Rule 5. A rewind and a stop discard every announced row that was not used. Nothing for a discarded row
        may come later: the link keeps order.
Rule 6. A step is answered after all material of the blocks that it uses up has come: its last block
        needs every section, and the ones before came earlier. So none is still on its way then.
Rule 7. A block counts against the queue's bound with all the memory that it will take once it is prepared, from the moment
        it is announced: a refused one has cost nothing yet. It counts until the step that uses its last row has ended, or
        it is discarded. The client learns the end later than the node, so it never counts less.
Rule 8. A pass lies within one block, so a block whose rows together make no message between the nodes too long does so in no
        step. The answers' section has its own bound (`max_answers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.errors import ProtocolError
from engine.link.frames import BULK_LIMIT
from engine.rows.queue import RowBlock, RowQueue, RowRefused
from engine.rows.run import Rows

MAX_ROW = (1 << 48) - 1
"""The last serial number for which a stream has an address (engine/prf/streams.py)."""
MAX_BLOCK_ROWS = 64
"""Of a block at most."""
MAX_ROUND_BYTES = BULK_LIMIT - 1
"""Of one node's part of a round, behind the flag."""


@dataclass(slots=True)
class Delivery:
    """How much of a block's material has come, and what the block takes."""

    made_bytes: int  #: memory at the node, once it is prepared
    sections: int = 0  #: that have come whole
    begun: int = 0  #: bytes of the next section that have come


class RowLedger:
    """The rows of one session; every method raises ProtocolError and then has changed nothing.

    `sections` is how many a block's material has, `made_bytes(count, position)` what a block takes once it is prepared, and
    `round_bytes(count, position)` the longest message between the nodes when all its rows are computed in one pass.
    """

    def __init__(
        self,
        *,
        prefix: int,
        context: int,
        sections: int,
        queue_bytes: int,
        made_bytes: Callable[[int, int], int],
        round_bytes: Callable[[int, int], int],
    ) -> None:
        self.book: RowQueue[Delivery] = RowQueue(prefix)
        self.queued_bytes = 0
        self.queue_bytes = queue_bytes
        self.step_first = 0  #: the first row of the last step; 0: there was none
        self._context, self._sections = context, sections
        self._made_bytes, self._round_bytes = made_bytes, round_bytes

    def announce(self, first: int, count: int, position: int) -> None:
        """A block of rows is being dealt."""
        if not 1 <= count <= MAX_BLOCK_ROWS or first + count - 1 > MAX_ROW:
            raise ProtocolError("out-of-range", f"{count} rows from {first}; a block has 1 to {MAX_BLOCK_ROWS}")
        if first <= self.book.last_announced:
            raise ProtocolError("row-reused", f"row {first} was announced before")
        if position != self.book.dealt_position:
            raise ProtocolError("wrong-position", f"dealt for {position}, not {self.book.dealt_position}")
        if position + count > self._context:
            raise ProtocolError("too-long", f"{position + count} tokens, {self._context} fit")
        made = self._made_bytes(count, position)
        if self.queued_bytes + made > self.queue_bytes:
            raise ProtocolError("queue-full", f"{self.queued_bytes:,} bytes and {made:,} more, over {self.queue_bytes:,}")
        if not self.fits_a_round(count, position):
            raise ProtocolError("out-of-range", f"{count} rows at {position} make the nodes' messages too long")
        self.book.announce(Rows(first, position, count), Delivery(made))
        self.queued_bytes += made

    def fits_a_round(self, count: int, position: int) -> bool:
        """Whether no message between the nodes is over the limit of a frame, however these rows are cut into steps."""
        return self._round_bytes(count, position) <= MAX_ROUND_BYTES

    def expects(self, first: int, section: int) -> RowBlock[Delivery]:
        """The block whose next material is this section of the block that begins with `first`."""
        block = next((b for b in self.book.blocks if b.load.sections < self._sections), None)
        if block is None or block.rows.first != first:
            raise ProtocolError("not-dealt", f"no material is due for row {first}")
        if section != block.load.sections:
            raise ProtocolError("out-of-range", f"section {section}, not {block.load.sections}")
        return block

    def deliver(self, first: int, section: int, length: int, whole: int) -> None:
        """A piece of `length` bytes of a section of `whole` bytes has come, or leaves."""
        load = self.expects(first, section).load
        if load.begun + length > whole or (not length and whole):
            raise ProtocolError("wrong-length", f"section {section}: {length} bytes behind {load.begun} of {whole}")
        load.begun += length
        if load.begun == whole:
            load.sections, load.begun = load.sections + 1, 0

    def begin(self, first: int, count: int, position: int) -> None:
        """A step uses the next `count` rows."""
        with _as_protocol():
            self.book.take(Rows(first, position, count))
        self.step_first = first

    def lacks_material(self) -> bool:
        """Whether material is still to come for a block whose rows are all used."""
        return any(not b.left and b.load.sections < self._sections for b in self.book.blocks)

    def finish(self) -> None:
        """The step was answered: the context has grown."""
        self.queued_bytes -= sum(block.load.made_bytes for block in self.book.finish())

    def discard(self) -> None:
        """Discard every queued row; a running step may still be answered."""
        self.book.discard()
        self.queued_bytes = 0

    def settle(self) -> None:
        """After a stop: the context is where the last answered step left it, and dealing starts there."""
        self.book.settle()

    def rewind(self, position: int) -> None:
        """Cut the context to `position` tokens and discard every queued row."""
        with _as_protocol():
            self.book.rewind(position)
        self.queued_bytes = 0


@contextmanager
def _as_protocol() -> Iterator[None]:
    """What the book refuses is the other side's fault."""
    try:
        yield
    except RowRefused as refused:
        raise ProtocolError(refused.code, refused.text) from None
