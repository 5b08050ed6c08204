"""Work ahead of time gives way to a running step, and never so that the step would wait for it."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from engine.errors import SessionStopped
from engine.parties.evaluator import READY_ROWS, Evaluator
from engine.parties.trio import Trio
from tests.privacy.small import CONTEXT, small


class Halted(Exception):
    """The test ends the step."""


@pytest.fixture
def parties() -> Trio:
    shared = small()
    return Trio(shared.spec, shared.seeds, shared.packs, prefix=len(shared.spec.prefix), context=CONTEXT)


def begin(
    parties: Trio, rows: int, pool: ThreadPoolExecutor, in_round: Event, halt: Event
) -> "tuple[Evaluator, Future[object]]":
    """One evaluator computes that many tokens and stands in its first round until `halt`."""
    request, evaluator = parties.dealer.request([3] * rows), parties.evaluators[0]

    def exchange(message: bytes) -> bytes:
        del message
        in_round.set()
        halt.wait(30)
        raise Halted

    return evaluator, pool.submit(evaluator.step, request, exchange, lambda rows, section: None)


@pytest.mark.parametrize(
    ("rows", "left", "gives_way"),
    [
        (1, READY_ROWS, True),
        (1, READY_ROWS - 1, False),
        (READY_ROWS, READY_ROWS - 1, False),
        (READY_ROWS + 1, 1, True),
        (READY_ROWS + 1, 0, False),
    ],
)
def test_it_waits_while_a_step_computes_and_enough_rows_are_ready(parties: Trio, rows: int, left: int, gives_way: bool) -> None:
    """A word of the answer needs the next ones' rows soon; behind a prompt's pass, one row is enough."""
    parties.deal(rows)
    if left:
        parties.deal(left)
    in_round, halt = Event(), Event()
    with ThreadPoolExecutor(2) as pool:
        evaluator, step = begin(parties, rows, pool, in_round, halt)
        assert in_round.wait(30)
        waiting = pool.submit(evaluator.give_way)
        if not gives_way:
            waiting.result(30)
        else:
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        halt.set()
        waiting.result(30)
        assert isinstance(step.exception(30), Halted)


def test_it_does_not_wait_while_no_step_runs(parties: Trio) -> None:
    parties.deal(READY_ROWS + 8)
    parties.evaluators[0].give_way()


def test_a_step_that_waits_for_its_own_material_is_not_waited_for(parties: Trio) -> None:
    parties.deal(1)
    first, position = parties.dealer.next_row, parties.dealer.dealt_position
    evaluator = parties.evaluators[0]
    evaluator.announce(first, READY_ROWS + 8, position)
    sections = parties.dealer.deal(READY_ROWS + 8)
    next(sections)  # the embedding is dealt, no layer
    evaluator.prepare(first, 0, b"")
    request = parties.dealer.request([3, 4])  # the second row waits for its layers
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(evaluator.step, request, lambda message: message, lambda rows, section: None)
        while not evaluator.waiting:
            pass
        evaluator.give_way()
        evaluator.close()
        assert isinstance(step.exception(30), SessionStopped)
