"""Dealing ahead of time: one thread, block after block, from the moment a session stands.

Rule 1. The pace depends on the queue and on the step that runs (which the nodes know), never on what is typed: block sizes
        follow from how many blocks were dealt since the session began, was rewound, lost a draft or read a long prompt.
Rule 2. A block is announced to both nodes in the order in which it was registered at the dealer; a rewind and a stop
        stand between two blocks (one lock), and empty the queue at all three.
Rule 3. A whole block fits into the queue before it is begun.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Condition, RLock, Thread

from app.local_party.inbox import Inbox
from app.local_party.node_link import NodeLink
from engine.errors import LinkError, TrineError
from engine.host.process import work_ahead
from engine.parties.dealer import Abandoned, Dealer
from engine.parties.evaluator import READY_ROWS, rows_kept_ready
from engine.rows.queue import RowBlock, RowQueue
from engine.rows.run import Rows
from engine.session import MAX_BLOCK_ROWS, Discarded

FIRST_ROWS = 16
"""Of the first block: a short prompt need not wait for a long block."""
REJECTED_ROWS = 4
"""Of the first block behind a rejected draft: the answer waits for it. Each next one is twice as long, to `BLOCK_ROWS`."""
BLOCK_ROWS = MAX_BLOCK_ROWS
"""Of a block in steady state. The dealer draws all the model's masks once a block: about a quarter of its work at 32 rows."""
PIECE_BYTES = 1 << 16
"""Of a section in one message: a step waits for no more, a second at 64 kB/s, and the copies on a message's way stay in the
processor's cache.
"""


@dataclass(slots=True)
class _DealtPart:
    """How far a block has come."""

    dealt: float = 0.0  #: the part of its sections that has left, 1 at the end


class DealingThread:
    """The dealing thread of one session, and what it shares with the thread that asks for steps."""

    def __init__(self, dealer: Dealer, links: tuple[NodeLink, NodeLink], inbox: Inbox) -> None:
        self.dealt_rows, self.dealt_bytes = 0, (0, 0)
        self._dealer, self._links, self._inbox = dealer, links, inbox
        self._changed = Condition(RLock())  # held while blocks, rewinds and stops are put in order
        self._book: RowQueue[_DealtPart] = RowQueue(dealer.dealt_position)
        self._rows, self._paused, self._closed = FIRST_ROWS, False, False
        self._step_rows = 0  # of the running step; 0: none runs
        self._waited: RowBlock[_DealtPart] | None = None  # the block of the running step, or that is dealt for the next one
        self._piece: tuple[NodeLink, float] | None = None  # which line has one now, and since when
        self._thread = Thread(target=self._run, name="trine-dealing", daemon=True)

    def start(self) -> None:
        """Deal from now on."""
        self._thread.start()

    # For the thread that asks for steps

    def available(self, wanted: int) -> int:
        """Rows that a step may use now: `wanted` at most, none beyond the end of a block; 0 while none is dealt."""
        blocks = self._book.blocks
        if not blocks:
            return 0
        count = min(wanted, blocks[0].left)
        return count if self._dealer.queued_rows >= count else 0

    @property
    def dealt(self) -> float | None:
        """How much is dealt of the block that the running step, or the next one, waits for; None if it need not wait."""
        block = self._waited
        return block.load.dealt if block is not None and block.load.dealt < 1 else None

    def slow_line(self, seconds: float) -> LinkError | None:
        """What to say of a line that has not taken a piece within so many seconds."""
        piece = self._piece
        if piece is None or time.monotonic() < piece[1] + seconds:
            return None
        needed = self._dealer.row_bytes(self._dealer.position, piece[0].role)
        slow = f"the line to it is too slow: {PIECE_BYTES >> 10} kB took more than {seconds:g} s"
        text = f"{slow}, and a token needs {needed >> 10} kB"
        return LinkError(text, piece[0].party)

    def take(self, count: int) -> None:
        """A step uses that many of the available rows, and runs until `look`."""
        with self._changed:
            self._step_rows = count
            self._waited = self._book.blocks[0]
            self._book.take(Rows(self._book.next_row, self._book.position, count))
            self._book.finish()  # whatever becomes of the step: its rows are spent

    def look(self) -> None:
        """A step has ended: there may be room in the queue, and nobody waits for the processor."""
        with self._changed:
            if self._step_rows > READY_ROWS > self.ready_rows and all(block.load.dealt == 1 for block in self._book.blocks):
                self._rows = min(self._rows, FIRST_ROWS)  # few rows are left for the answer's first words
            self._step_rows = 0
            self._changed.notify_all()

    def rewind(self, position: int, first_rows: int = FIRST_ROWS) -> float:
        """Cut the context at all three parties and deal a block of `first_rows`; returns how many rows are discarded."""
        with self._changed:
            discarded = sum(block.left * block.load.dealt for block in self._book.blocks)
            self._forget(position)
            self._rows = first_rows
            for link in self._links:
                link.say(partial(link.session.send_rewind, position))
            return discarded

    def stop(self) -> set[int]:
        """Pause, and send STOP to each node that has not answered yet; returns their roles."""
        with self._changed:
            self._paused = True
            self._changed.notify_all()
            told = set()
            for link in self._links:
                with suppress(ValueError):  # this node's answer came just now, so the other one's is on its way
                    link.say(link.session.send_stop)
                    told.add(link.role)
            return told

    def resume(self, position: int, *, discard: bool) -> None:
        """Deal anew behind `position`, where the nodes are; `discard`: they still hold rows, or are further."""
        with self._changed:
            self._paused = False
            if discard:
                self.rewind(position)
            else:
                self._forget(position)

    def end(self) -> None:
        """Begin no block any more; never waits."""
        self._closed = True

    def close(self) -> None:
        """Wait for the thread's end; the links are closed already, or it might wait for one."""
        self.end()
        self.look()
        if self._thread.ident is not None:
            self._thread.join()

    def _give_way(self) -> None:
        """Wait while a step computes and rows enough are ready: a person waits for it, on this machine too in the demo."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._paused or self._lacks_rows())

    def _lacks_rows(self) -> bool:
        return self.ready_rows < rows_kept_ready(self._step_rows)

    @property
    def ready_rows(self) -> int:
        """Rows of the blocks that have left whole, as far as no step used them."""
        return sum(block.left for block in self._book.blocks if block.load.dealt == 1)

    def _forget(self, position: int) -> None:
        self._dealer.rewind(position)
        self._book.rewind(position)
        self._rows, self._step_rows = FIRST_ROWS, 0
        self._changed.notify_all()

    # The thread

    @property
    def _over(self) -> bool:
        return self._closed or self._inbox.failed

    def _run(self) -> None:
        try:
            work_ahead()
            while self._room():
                with suppress(Abandoned, Discarded):
                    self._deal()
                self._piece = None
        except TrineError:  # of a link, whose reader tells everybody
            return
        except Exception as error:  # a fault of our own must not leave anybody waiting
            self._inbox.fail(0, error)

    def _room(self) -> bool:
        """Wait for room; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._next_rows() > 0)
            return not self._over

    def _next_rows(self) -> int:
        """Rows of the next block; 0 if it has to wait."""
        if self._paused or self._closed or not self._lacks_rows():
            return 0
        dealer, sessions = self._dealer, [link.session for link in self._links]
        rows = min(self._rows, dealer.context - dealer.dealt_position)
        queued = any(session.queued_bytes for session in sessions)
        while rows and not all(session.has_room(rows, dealer.dealt_position) for session in sessions):
            rows = 0 if queued else rows // 2  # a queue that never holds a block gets smaller ones
        return rows

    def _deal(self) -> None:
        with self._changed:
            count = self._next_rows()
            if not count:
                return
            dealer = self._dealer
            first, position = dealer.next_row, dealer.dealt_position
            sections = dealer.deal(count)
            self._rows = min(2 * self._rows, BLOCK_ROWS)
            part = _DealtPart()
            self._book.announce(Rows(first, position, count), part)
            if not self._step_rows:
                self._waited = self._book.blocks[0]
            for link in self._links:
                link.say(partial(link.session.send_block, first, count, position), ahead=True)
        dealt = [0, 0]
        for section, materials in sections:
            self._give_way()
            for i, (link, material) in enumerate(zip(self._links, materials, strict=True)):
                for at in range(0, len(material) or 1, PIECE_BYTES):
                    piece = material[at : at + PIECE_BYTES]
                    self._piece = link, time.monotonic()
                    link.say(partial(link.session.send_material, first, section, piece, len(material)), ahead=True)
                    self._piece = None
                    part.dealt = (section + (i + at / (len(material) or 1)) / 2) / dealer.sections
                dealt[i] += len(material)
            part.dealt = (section + 1) / dealer.sections
            self._inbox.wake()
        self.dealt_rows += count
        self.dealt_bytes = self.dealt_bytes[0] + dealt[0], self.dealt_bytes[1] + dealt[1]
