"""The one book of rows, beside a naive one that keeps every row by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.rows.queue import RowQueue, RowRefused, Taken
from engine.rows.run import Rows

PREFIX = 4


def book(*blocks: tuple[int, int], prefix: int = PREFIX) -> RowQueue[str]:
    """One with blocks (first, count) for the positions behind the prefix; each block's load names it."""
    rows: RowQueue[str] = RowQueue(prefix)
    for first, count in blocks:
        rows.announce(Rows(first, rows.dealt_position, count), f"block of {first}")
    return rows


def code(act: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(RowRefused) as caught:
        act(*arguments)
    assert caught.value.text == str(caught.value)
    return caught.value.code


def pieces(taken: list[Taken[str]]) -> list[tuple[str, int, int]]:
    return [(part.block.load, part.start, part.stop) for part in taken]


# Rule 1


@pytest.mark.parametrize("first", [0, -1, 1, 3])
def test_announced_rows_are_new(first: int) -> None:
    rows = book((1, 3))
    assert code(rows.announce, Rows(first, 7, 1), "late") == "row-reused"
    assert (rows.queued_rows, rows.last_announced, rows.dealt_position) == (3, 3, 7)


@pytest.mark.parametrize("count", [0, -1])
def test_a_block_has_a_row(count: int) -> None:
    assert code(book().announce, Rows(1, PREFIX, count), "none") == "out-of-range"


def test_numbers_may_leave_gaps_of_any_size() -> None:
    rows = book((5, 2), (1 << 24, 3), ((1 << 47) + 1, 1))
    assert (rows.next_row, rows.queued_rows, rows.last_announced) == (5, 6, (1 << 47) + 1)
    assert pieces(rows.take(Rows(5, 4, 2))) == [("block of 5", 0, 2)]
    rows.finish()
    assert rows.next_row == 1 << 24
    assert pieces(rows.take(Rows(1 << 24, 6, 3))) == [(f"block of {1 << 24}", 0, 3)]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_taken_row_is_not_taken_again(first: int) -> None:
    rows = book((1, 3))
    rows.take(Rows(1, 4, 2))
    rows.finish()
    assert code(rows.take, Rows(first, 6, 1)) == "row-reused"
    rows.take(Rows(3, 6, 1))


@pytest.mark.parametrize("end", ["discard", "rewind"])
def test_a_discarded_row_is_neither_taken_nor_announced_again(end: str) -> None:
    rows = book((1, 3))
    rows.discard() if end == "discard" else rows.rewind(PREFIX)
    assert (rows.queued_rows, rows.next_row, rows.blocks) == (0, 4, ())
    assert code(rows.take, Rows(1, 4, 1)) == "row-reused"
    assert code(rows.announce, Rows(3, 4, 1), "again") == "row-reused"
    rows.announce(Rows(4, 4, 1), "new")
    rows.take(Rows(4, 4, 1))


# Rule 2


def test_a_step_goes_over_blocks_and_its_rows_are_told_block_by_block() -> None:
    rows = book((1, 2), (3, 4))
    taken = rows.take(Rows(1, 4, 1))
    assert pieces(taken) == [("block of 1", 0, 1)]
    rows.finish()
    taken = rows.take(Rows(2, 5, 3))
    assert pieces(taken) == [("block of 1", 1, 2), ("block of 3", 0, 2)]
    assert [part.rows for part in taken] == [Rows(2, 5, 1), Rows(3, 6, 2)]
    assert (rows.queued_rows, rows.next_row, rows.last_spent) == (2, 5, 4)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Rows(2, 4, 1), "not-dealt"),  # row 1 is left out
        (Rows(5, 4, 1), "not-dealt"),
        (Rows(1, 4, 0), "not-dealt"),
        (Rows(1, 4, -1), "not-dealt"),
        (Rows(1, 4, 4), "not-dealt"),  # over the gap
        (Rows(1, 4, 9), "not-dealt"),
        (Rows(1, 3, 1), "wrong-position"),
        (Rows(1, 5, 1), "wrong-position"),
    ],
)
def test_a_step_on_other_rows_than_the_next_ones_is_refused(wanted: Rows, expected: str) -> None:
    rows = book((1, 3), (5, 2))
    assert code(rows.take, wanted) == expected
    assert (rows.queued_rows, rows.next_row, rows.last_spent, rows.taken) == (5, 1, 0, 0)
    rows.take(Rows(1, 4, 3))


def test_no_row_is_taken_where_none_was_announced() -> None:
    assert code(book().take, Rows(1, 4, 1)) == "not-dealt"


@pytest.mark.parametrize("second", [5, 7])
def test_a_row_serves_the_position_that_it_was_dealt_for(second: int) -> None:
    rows = book((1, 2))
    rows.announce(Rows(3, second, 1), "elsewhere")
    assert code(rows.take, Rows(1, 4, 3)) == "wrong-position"
    rows.take(Rows(1, 4, 2))
    rows.finish()
    assert code(rows.take, Rows(3, 6, 1)) == "wrong-position"
    assert rows.queued_rows == 1


# Rule 3


def test_the_context_grows_when_the_step_is_finished() -> None:
    rows = book((1, 3))
    rows.take(Rows(1, 4, 2))
    assert (rows.position, rows.taken) == (4, 2)
    assert rows.finish() == []
    assert (rows.position, rows.taken) == (6, 0)
    assert rows.finish() == []
    assert rows.position == 6


def test_a_block_lives_until_the_step_of_its_last_row_is_finished() -> None:
    rows = book((1, 3), (4, 1))
    one, two = rows.blocks
    rows.take(Rows(1, 4, 2))
    rows.finish()
    assert rows.blocks == (one, two)
    rows.take(Rows(3, 6, 2))
    assert rows.blocks == (one, two)
    assert rows.find(1) is one
    assert (one.left, two.left, rows.next_row) == (0, 0, 5)
    assert rows.finish() == [one, two]
    assert not one.discarded
    assert rows.find(1) is rows.find(4) is None


def test_a_step_that_is_not_finished_leaves_the_context_and_spends_its_rows() -> None:
    rows = book((1, 3))
    rows.take(Rows(1, 4, 2))
    rows.discard()
    rows.settle()
    assert (rows.position, rows.dealt_position, rows.taken) == (4, 4, 0)
    assert rows.finish() == []
    assert rows.position == 4
    assert code(rows.take, Rows(1, 4, 2)) == "row-reused"


def test_a_running_step_may_be_finished_when_the_queue_was_discarded() -> None:
    rows = book((1, 3))
    rows.take(Rows(1, 4, 2))
    rows.discard()
    assert rows.finish() == []
    assert rows.position == 6


@pytest.mark.parametrize("position", [3, 7, -1])
def test_a_rewind_goes_back_and_not_into_the_prefix(position: int) -> None:
    rows = book((1, 3))
    rows.take(Rows(1, 4, 2))
    rows.finish()
    assert code(rows.rewind, position) == "wrong-position"
    assert (rows.position, rows.queued_rows) == (6, 1)


def test_a_rewind_cuts_the_context_and_dealing_starts_there() -> None:
    rows = book((1, 2), (3, 2))
    one, two = rows.blocks
    rows.take(Rows(1, 4, 3))
    rows.rewind(4)
    assert (rows.position, rows.dealt_position, rows.taken, rows.blocks) == (4, 4, 0, ())
    assert one.discarded
    assert two.discarded
    assert rows.finish() == []


def test_a_block_is_found_by_its_first_row() -> None:
    rows = book((1, 3), (9, 2))
    assert rows.find(9) is rows.blocks[1]
    assert rows.find(2) is None


def test_a_reader_beside_the_owner_keeps_the_blocks_that_it_has_seen() -> None:
    rows = book((1, 1), (2, 1))
    seen = rows.blocks
    rows.take(Rows(1, 4, 1))
    rows.finish()
    rows.announce(Rows(3, 6, 1), "block of 3")
    assert [block.load for block in seen] == ["block of 1", "block of 2"]
    assert [block.load for block in rows.blocks] == ["block of 2", "block of 3"]


# All of it, in any order


@dataclass
class Naive:
    """Every row that was ever announced, by itself: what became of it, and the position that it was dealt for."""

    position: int
    fate: dict[int, str] = field(default_factory=dict)  # by number, ascending: queued, taken, spent or discarded
    dealt_for: dict[int, int] = field(default_factory=dict)
    load: dict[int, int] = field(default_factory=dict)

    def queued(self) -> list[int]:
        return [row for row, fate in self.fate.items() if fate == "queued"]

    def allows(self, first: int, position: int, count: int) -> bool:
        wanted = list(range(first, first + count))
        places = list(range(position, position + count))
        right = self.queued()[:count] == wanted and [self.dealt_for[row] for row in wanted] == places
        return bool(wanted) and right and position == self.position

    def turn(self, before: str, after: str) -> int:
        """Give every row of one fate another; how many they were."""
        turned = [row for row, fate in self.fate.items() if fate == before]
        self.fate.update(dict.fromkeys(turned, after))
        return len(turned)


class Books(RuleBasedStateMachine):
    """The book and the naive one are told the same."""

    @initialize(prefix=st.integers(1, 6))
    def begin(self, prefix: int) -> None:
        self.prefix, self.blocks, self.dealt = prefix, 0, prefix
        self.book: RowQueue[int] = RowQueue(prefix)
        self.naive = Naive(prefix)

    @rule(
        gap=st.integers(-2, 9),
        jump=st.sampled_from([0, 0, 0, 1 << 24]),
        count=st.integers(-1, 5),
        off=st.sampled_from([0, 0, 0, 1, -1]),
    )
    def announce(self, gap: int, jump: int, count: int, off: int) -> None:
        first, position = max(self.naive.fate, default=0) + gap + jump, self.dealt + off
        if count < 1 or gap + jump < 1:
            expected = "out-of-range" if count < 1 else "row-reused"
            assert code(self.book.announce, Rows(first, position, count), -1) == expected
            return
        self.blocks += 1
        self.book.announce(Rows(first, position, count), self.blocks)
        for i in range(count):
            self.naive.fate[first + i] = "queued"
            self.naive.dealt_for[first + i] = position + i
            self.naive.load[first + i] = self.blocks
        self.dealt = position + count

    @rule(
        off=st.sampled_from([0, 0, 0, 0, -2, -1, 1, 2]), aside=st.sampled_from([0, 0, 0, 0, -1, 1]), count=st.integers(-1, 12)
    )
    def take(self, off: int, aside: int, count: int) -> None:
        queued = self.naive.queued()
        first = (queued[0] if queued else max(self.naive.fate, default=0) + 1) + off
        position = self.naive.position + aside
        if not self.naive.allows(first, position, count):
            refused = code(self.book.take, Rows(first, position, count))
            spent = [row for row, fate in self.naive.fate.items() if fate != "queued"]
            if first <= max(spent, default=0):
                assert refused == "row-reused"
            elif aside:
                assert refused == "wrong-position"
            else:
                assert refused in {"not-dealt", "wrong-position"}
            return
        self.naive.turn("taken", "spent")
        parts = self.book.take(Rows(first, position, count))
        rows = [part.rows.first + i for part in parts for i in range(part.rows.count)]
        assert rows == queued[:count]
        assert [part.block.load for part in parts for _ in range(part.rows.count)] == [self.naive.load[row] for row in rows]
        assert [part.block.rows.first + i for part in parts for i in range(part.start, part.stop)] == rows
        self.naive.fate.update(dict.fromkeys(rows, "taken"))

    @rule()
    def finish(self) -> None:
        before = self.book.blocks
        self.naive.position += self.naive.turn("taken", "spent")
        ended = self.book.finish()
        assert ended == [block for block in before if block not in self.book.blocks]
        for block in ended:
            rows = range(block.rows.first, block.rows.first + block.rows.count)
            assert {self.naive.fate[row] for row in rows} == {"spent"}

    @rule()
    def discard(self) -> None:
        held = self.book.blocks
        self.naive.turn("queued", "discarded")
        self.book.discard()
        assert all(block.discarded for block in held)

    @rule()
    def stop(self) -> None:
        """As a session does it: what is queued goes, and the running step is given up."""
        self.discard()
        self.naive.turn("taken", "spent")
        self.book.settle()
        self.dealt = self.naive.position

    @rule(back=st.integers(-1, 8))
    def rewind(self, back: int) -> None:
        position = self.naive.position - back
        if back < 0 or position < self.prefix:
            assert code(self.book.rewind, position) == "wrong-position"
            return
        self.naive.turn("queued", "discarded")
        self.naive.turn("taken", "spent")
        self.naive.position = self.dealt = position
        self.book.rewind(position)

    @precondition(lambda self: hasattr(self, "book"))
    @invariant()
    def both_say_the_same(self) -> None:
        book, naive = self.book, self.naive
        queued = naive.queued()
        assert book.queued_rows == len(queued)
        assert book.next_row == (queued[0] if queued else max(naive.fate, default=0) + 1)
        assert book.position == naive.position
        assert book.dealt_position == self.dealt
        assert book.taken == sum(fate == "taken" for fate in naive.fate.values())
        assert book.last_announced == max(naive.fate, default=0)
        assert book.last_spent == max((row for row, fate in naive.fate.items() if fate != "queued"), default=0)


TestBooks = Books.TestCase
