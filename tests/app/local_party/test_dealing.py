"""When the dealing thread begins a block, and of how many rows: by the queue and the step that runs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from app.local_party.dealing import BLOCK_ROWS, FIRST_ROWS, DealingThread
from app.local_party.inbox import Inbox
from engine.parties.evaluator import READY_ROWS

FULL = [FIRST_ROWS, 2 * FIRST_ROWS, BLOCK_ROWS]


class Dealer:
    """Deals rows of no bytes in two sections, as far as the context reaches."""

    plans: tuple[()] = ()
    sections = 2

    def __init__(self, context: int) -> None:
        self.context, self.dealt_position, self.next_row = context, 0, 1
        self.blocks: list[int] = []
        self.inbox = Inbox()

    @property
    def queued_rows(self) -> int:
        return sum(self.blocks)

    def deal(self, count: int) -> Iterator[tuple[int, tuple[memoryview, memoryview]]]:
        self.dealt_position += count
        self.next_row += count
        self.blocks.append(count)
        return ((section, (memoryview(b""), memoryview(b"word"))) for section in range(self.sections))

    def rewind(self, position: int) -> None:
        self.dealt_position = position


class Link:
    """A node that takes whatever it is told."""

    role = 2
    session = SimpleNamespace(
        queued_bytes=0, has_room=lambda *words: True, send_block=lambda *words: None, send_material=lambda *words: None
    )

    def say(self, send: Callable[[], None], *, ahead: bool = False) -> None:
        del ahead
        send()


@contextmanager
def running(context: int) -> Iterator[tuple[Any, DealingThread]]:
    dealer: Any = Dealer(context)
    link: Any = Link()
    dealing = DealingThread(dealer, (link, link), dealer.inbox)
    dealing.start()
    try:
        yield dealer, dealing
    finally:
        dealing.close()


def until_ready(dealer: Any, dealing: DealingThread, rows: int) -> None:
    """Wait, as a step does, until that many rows stand ready, their blocks dealt whole."""

    def ready() -> bool:
        with dealing._changed:
            return dealing.ready_rows == rows

    assert dealer.inbox.wait(ready, 30)


def full(dealer: Any, dealing: DealingThread) -> None:
    """The first three blocks are dealt whole."""
    until_ready(dealer, dealing, sum(FULL))
    assert dealer.blocks == FULL


def steps(dealing: DealingThread, *counts: int) -> None:
    for count in counts:
        assert dealing.available(count) == count
        dealing.take(count)
        dealing.look()


@pytest.mark.parametrize("left", [1, READY_ROWS - 1])
def test_a_prompts_pass_is_let_alone_while_one_row_is_ready_and_its_answer_gets_a_short_block(left: int) -> None:
    with running(sum(FULL)) as (dealer, dealing):
        full(dealer, dealing)
        steps(dealing, FULL[0], FULL[1])
        dealing.take(BLOCK_ROWS - left)
        dealer.context = sum(FULL) + 3 * FIRST_ROWS
        assert not dealing._next_rows()
        assert dealer.blocks == FULL
        dealing.look()
        until_ready(dealer, dealing, left + 3 * FIRST_ROWS)
        assert dealer.blocks == [*FULL, FIRST_ROWS, 2 * FIRST_ROWS]


def test_a_prompts_pass_that_leaves_no_row_is_dealt_beside() -> None:
    with running(sum(FULL)) as (dealer, dealing):
        full(dealer, dealing)
        steps(dealing, FULL[0], FULL[1])
        with dealing._changed:
            dealing.take(BLOCK_ROWS)
            dealer.context = sum(FULL) + BLOCK_ROWS
            dealing._changed.notify_all()
        until_ready(dealer, dealing, BLOCK_ROWS)
        assert dealer.blocks == [*FULL, BLOCK_ROWS]


@pytest.mark.parametrize(("taken", "begins"), [(BLOCK_ROWS - READY_ROWS - 1, False), (BLOCK_ROWS - READY_ROWS, True)])
def test_a_words_step_is_dealt_beside_when_few_rows_are_ready(taken: int, begins: bool) -> None:
    with running(sum(FULL)) as (dealer, dealing):
        full(dealer, dealing)
        steps(dealing, FULL[0], FULL[1], *[1] * taken)
        with dealing._changed:
            dealing.take(1)
            dealer.context = 1000
            assert dealing._next_rows() == (BLOCK_ROWS if begins else 0)
            dealing._changed.notify_all()
        until_ready(dealer, dealing, READY_ROWS - 1 + BLOCK_ROWS if begins else READY_ROWS)
        assert dealer.blocks == ([*FULL, BLOCK_ROWS] if begins else FULL)
