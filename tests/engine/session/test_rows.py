"""Rows, positions and the queue: what a node refuses, and what a client does not even send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.errors import ProtocolError
from engine.link.frames import FrameType, FrameWriter
from engine.prf import Label, Stream
from engine.prf.streams import ROW_NUMBERS
from engine.session import ClientSession, Discarded, Material, State
from engine.session.ledger import MAX_ROUND_BYTES, MAX_ROW, RowLedger
from engine.session.messages import Block, Parts, Progress, Rewind, Stopped, answer_parts, step_parts
from engine.step import Answer, Step
from tests.engine.session.conftest import make_terms

MakeStep = Callable[..., Step]


def ledger(**changes: Any) -> RowLedger:
    """One whose rows take 6 bytes each."""
    honest = {"prefix": 4, "context": 20, "sections": 2, "queue_bytes": 100}
    honest |= {"made_bytes": lambda count, position: 6 * count, "round_bytes": lambda count, position: count}
    return RowLedger(**(honest | changes))


def test_a_block_whose_round_fits_no_frame_is_refused_when_it_is_announced() -> None:
    """Before its material has come, and whatever steps would cut it: each row at 10 takes half a frame."""
    rows = ledger(prefix=10, context=40, queue_bytes=1000, round_bytes=lambda count, position: count * (MAX_ROUND_BYTES // 2))
    assert rows.fits_a_round(2, 10)
    assert code(rows.announce, 1, 3, 10) == "out-of-range"
    assert (rows.queued_bytes, rows.book.last_announced, rows.book.dealt_position) == (0, 0, 10)
    rows.announce(1, 2, 10)


def test_a_client_begins_no_block_whose_round_fits_no_frame() -> None:
    """It waits for room, and halves the block (app/local_party/dealing.py)."""
    terms = replace(make_terms(1), round_bytes=lambda count, position: count * (MAX_ROUND_BYTES // 2))
    session = ClientSession(terms, bytes(16))
    assert session.has_room(2, 4)
    assert not session.has_room(3, 4)


def code(act: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(ProtocolError) as caught:
        act(*arguments)
    return caught.value.code


def tell(talk: Any, kind: FrameType, parts: Parts) -> object:
    """Give the node a frame that the client itself would not send."""
    writer = FrameWriter(talk.client.session)
    writer.sequence = talk.node.received
    return talk.node.receive(writer.write(kind, *parts))


# Announcing


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ((0, 1, 7), "row-reused"),
        ((3, 1, 7), "row-reused"),
        ((2, 5, 7), "row-reused"),
        ((4, 0, 7), "out-of-range"),
        ((MAX_ROW, 2, 7), "out-of-range"),
        ((MAX_ROW + 1, 1, 7), "out-of-range"),
        ((1 << 62, 1, 7), "out-of-range"),
        ((4, 1, 6), "wrong-position"),
        ((4, 1, 8), "wrong-position"),
        ((4, 14, 7), "too-long"),
    ],
)
def test_a_wrong_block_is_refused(second: Any, block: tuple[int, int, int], expected: str) -> None:
    second.at(State.IDLE)  # rows 1 to 3 for positions 4 to 6
    assert code(tell, second, FrameType.BLOCK, Block(*block).parts()) == expected
    if expected != "wrong-position":
        with pytest.raises(ValueError, match=expected):
            second.client.send_block(*block)
    else:
        with pytest.raises(Discarded):
            second.client.send_block(*block)


@pytest.mark.parametrize("block", [(4, 13, 7), (100, 1, 7), (MAX_ROW, 1, 7)])
def test_rows_may_leave_gaps_and_fill_the_context(second: Any, block: tuple[int, int, int]) -> None:
    second.at(State.IDLE)
    assert second.node.receive(second.client.send_block(*block)) == Block(*block)
    assert second.node.queued_rows == second.client.queued_rows == 3 + block[1]


def test_the_last_row_is_the_last_that_a_stream_has_an_address_for() -> None:
    stream = Stream(bytes(32))
    assert MAX_ROW == ROW_NUMBERS - 1
    assert len(stream.words(2, Label.FIXED, MAX_ROW, 0, 0)) == 2
    with pytest.raises(ValueError, match="does not fit"):
        stream.words(2, Label.FIXED, MAX_ROW + 1, 0, 0)


def test_row_zero_does_not_exist() -> None:
    assert code(ledger().announce, 0, 1, 4) == "row-reused"


# Material


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        (Material(1, 0, bytes(10)), "out-of-range"),  # a second time
        (Material(1, 2, bytes(12)), "out-of-range"),
        (Material(2, 1, bytes(11)), "not-dealt"),  # no block begins there
        (Material(4, 0, bytes(10)), "not-dealt"),
        (Material(1, 1, b""), "wrong-length"),
        (Material(1, 1, bytes(12)), "wrong-length"),
    ],
)
def test_wrong_material_is_refused(second: Any, material: Material, expected: str) -> None:
    second.at(State.IDLE)
    assert code(tell, second, FrameType.MATERIAL, material.parts()) == expected


def test_a_section_comes_in_pieces(second: Any) -> None:
    """In order, none too long, and no other section before the last one."""
    client, node = second.at(State.IDLE).client, second.node
    for size in (4, 6):
        node.receive(client.send_material(1, 1, bytes(size), 11))
    with pytest.raises(ValueError, match="out-of-range"):
        client.send_material(1, 0, bytes(10), 10)
    with pytest.raises(ValueError, match="wrong-length"):
        client.send_material(1, 1, bytes(2), 11)
    node.receive(client.send_block(4, 1, 7))
    node.receive(client.send_material(1, 1, bytes(1), 11))
    node.receive(client.send_material(4, 0, bytes(10), 10))
    assert node.queued_bytes == client.queued_bytes == 4 * 6


def test_a_piece_beyond_its_sections_end_is_refused(second: Any) -> None:
    client, node = second.at(State.IDLE).client, second.node
    node.receive(client.send_material(1, 1, bytes(10), 11))
    assert code(tell, second, FrameType.MATERIAL, Material(1, 1, bytes(2)).parts()) == "wrong-length"
    assert node.queued_bytes == 3 * 6


def test_the_pieces_of_a_discarded_section_are_forgotten(second: Any) -> None:
    client, node = second.at(State.IDLE).client, second.node
    node.receive(client.send_material(1, 1, bytes(4), 11))
    node.receive(client.send_rewind(4))
    node.receive(client.send_block(4, 1, 4))
    node.receive(client.send_material(4, 0, bytes(10), 10))
    assert node.queued_bytes == client.queued_bytes == 6


def test_material_comes_block_by_block(second: Any) -> None:
    second.at(State.IDLE)
    second.node.receive(second.client.send_block(4, 1, 7))
    assert code(tell, second, FrameType.MATERIAL, Material(4, 0, bytes(10)).parts()) == "not-dealt"
    with pytest.raises(ValueError, match="not-dealt"):
        second.client.send_material(4, 0, bytes(10), 10)
    second.client.send_material(1, 1, bytes(11), 11)
    second.client.send_material(4, 0, bytes(10), 10)
    with pytest.raises(ValueError, match="not-dealt"):
        second.client.send_material(99, 0, bytes(10), 10)


def test_a_block_that_would_take_more_than_the_bound_is_refused_before_anything_of_it_comes(make_talk: Any) -> None:
    """What it takes once it is prepared counts, not what is dealt."""
    second = make_talk(2, queue_bytes=4 * 6).at(State.IDLE)
    assert second.client.has_room(1, 7)
    assert not second.client.has_room(2, 7)
    with pytest.raises(ValueError, match="queue-full"):
        second.client.send_block(4, 2, 7)
    assert code(tell, second, FrameType.BLOCK, Block(4, 2, 7).parts()) == "queue-full"
    assert second.node.queued_bytes == second.client.queued_bytes == 3 * 6


def test_a_block_has_64_rows_at_most() -> None:
    rows = ledger(context=200, queue_bytes=1 << 20)
    rows.announce(1, 64, 4)
    assert code(rows.announce, 65, 65, 68) == "out-of-range"
    rows.announce(65, 64, 68)
    assert rows.queued_bytes == 128 * 6


def test_a_block_counts_until_the_step_of_its_last_row_has_ended(second: Any, step: MakeStep) -> None:
    client, node = second.at(State.IDLE).client, second.node
    node.receive(client.send_material(1, 1, bytes(11), 11))
    for first_row, count in ((1, 2), (3, 1)):
        node.receive(client.send_step(step(first_row, 3 + first_row, count)))
        assert node.queued_bytes == client.queued_bytes == 3 * 6
        client.receive(node.send_answer(second.answer()))
    assert node.queued_bytes == client.queued_bytes == 0
    assert node.position == client.position == 7


def test_material_may_come_while_its_step_runs(second: Any) -> None:
    second.at(State.RUNNING)
    second.node.receive(second.client.send_material(1, 1, bytes(11), 11))
    second.node.receive(second.client.send_block(4, 1, 7))
    second.node.receive(second.client.send_material(4, 0, bytes(10), 10))
    assert second.node.queued_bytes == second.client.queued_bytes == 4 * 6


# Steps


@pytest.mark.parametrize(
    ("first_row", "position", "count", "expected"),
    [
        (0, 4, 1, "row-reused"),
        (2, 4, 1, "not-dealt"),  # row 1 was skipped
        (4, 4, 1, "not-dealt"),
        (1, 4, 4, "not-dealt"),
        (1, 3, 1, "wrong-position"),
        (1, 5, 1, "wrong-position"),
    ],
)
def test_a_wrong_step_is_refused(second: Any, step: MakeStep, first_row: int, position: int, count: int, expected: str) -> None:
    second.at(State.IDLE)
    wrong = step(first_row, position, count)
    with pytest.raises(ValueError, match=expected):
        second.client.send_step(wrong)
    assert code(tell, second, FrameType.STEP, step_parts(wrong)) == expected


@pytest.mark.parametrize("first_row", [1, 2])
def test_a_used_row_is_refused(second: Any, step: MakeStep, first_row: int) -> None:
    second.at(State.RUNNING)
    second.client.receive(second.node.send_answer(second.answer()))
    with pytest.raises(ValueError, match="row-reused"):
        second.client.send_step(step(first_row, 6, 1))
    assert code(tell, second, FrameType.STEP, step_parts(step(first_row, 6, 1))) == "row-reused"


@pytest.mark.parametrize("how", ["rewind", "stop"])
def test_a_discarded_row_is_refused(second: Any, step: MakeStep, how: str) -> None:
    client, node = second.at(State.RUNNING).client, second.node
    if how == "rewind":
        client.receive(node.send_answer(second.answer()))
        node.receive(client.send_rewind(4))
    else:
        node.receive(client.send_stop())
        client.receive(node.send_stopped())
    assert node.position == client.position == 4
    with pytest.raises(ValueError, match="row-reused"):
        client.send_step(step(3, 4, 1))
    assert code(tell, second, FrameType.STEP, step_parts(step(3, 4, 1))) == "row-reused"


def test_a_step_goes_over_blocks_but_not_over_gaps() -> None:
    rows = ledger()
    rows.announce(1, 2, 4)
    rows.announce(3, 2, 6)
    rows.announce(6, 2, 8)
    assert code(rows.begin, 1, 5, 4) == "not-dealt"
    assert rows.book.last_spent == 0
    rows.begin(1, 3, 4)
    rows.finish()
    assert code(rows.begin, 4, 2, 7) == "not-dealt"
    rows.begin(4, 1, 7)
    rows.finish()
    rows.begin(6, 2, 8)
    rows.finish()
    assert (rows.book.position, rows.book.queued_rows) == (10, 0)


@pytest.mark.parametrize("answers", [0, 3])
def test_a_client_asks_for_answers_to_its_own_rows(second: Any, step: MakeStep, answers: int) -> None:
    second.at(State.IDLE)
    with pytest.raises(ValueError, match="answers"):
        second.client.send_step(step(1, 4, 2, answers))


def test_the_first_evaluator_gets_no_kappa(first: Any, second: Any, step: MakeStep) -> None:
    one, two = (talk.at(State.IDLE).client.send_step(step(1, 4)) for talk in (first, second))
    assert len(one) == 26 + 20 + 2 * 4
    assert len(two) == 26 + 20 + 2 * 4 + 2 * 3 * 8
    assert first.node.receive(one).kappa2.shape == (2, 0)


def test_a_step_may_be_longer_than_a_block_of_the_context_only(first: Any) -> None:
    first.at(State.IDLE)
    long = Step(1, 4, 1, np.zeros(21, np.uint32), np.zeros((21, 0), np.int64))
    assert code(tell, first, FrameType.STEP, step_parts(long)) == "out-of-range"


# Rewinding


@pytest.mark.parametrize("position", [0, 3, 5, 2**32 - 1])
def test_a_rewind_goes_back_and_not_into_the_prefix(second: Any, position: int) -> None:
    second.at(State.IDLE)
    with pytest.raises(ValueError, match="wrong-position"):
        second.client.send_rewind(position)
    assert code(tell, second, FrameType.REWIND, Rewind(position).parts()) == "wrong-position"


def test_a_rewind_empties_the_queue_and_dealing_starts_there(second: Any) -> None:
    client, node = second.at(State.IDLE).client, second.node
    node.receive(client.send_rewind(4))
    assert node.queued_rows == client.queued_rows == node.queued_bytes == client.queued_bytes == 0
    with pytest.raises(Discarded):  # the dealing thread, still at the old block
        client.send_material(1, 1, bytes(11), 11)
    with pytest.raises(Discarded):
        client.send_block(4, 1, 7)
    node.receive(client.send_block(4, 1, 4))


def test_after_a_rewind_nothing_older_is_taken(second: Any) -> None:
    second.at(State.IDLE)
    second.node.receive(second.client.send_rewind(4))
    assert code(tell, second, FrameType.MATERIAL, Material(1, 1, bytes(11)).parts()) == "not-dealt"


# Answers


def test_an_answer_has_its_length(talk: Any) -> None:
    talk.at(State.RUNNING)
    with pytest.raises(ValueError, match="do not answer"):
        talk.node.send_answer(replace(talk.answer(), data=talk.logits[:-1]))
    answer = talk.client.receive(talk.node.send_answer(talk.answer()))
    assert len(answer.data) == (33 if talk.role == 1 else 32)


@pytest.mark.parametrize("head", [(2, 1), (1, 2), (0, 1)])
def test_an_answer_to_something_else_is_refused(second: Any, head: tuple[int, int]) -> None:
    second.at(State.RUNNING)
    assert code(hear, second, FrameType.ANSWER, answer_parts(Answer(*head, 9, 1000, 7, bytes(32)))) == "out-of-range"


@pytest.mark.parametrize("progress", [Progress(0, 3, 0, 2), Progress(0, 2, 0, 3)])
def test_progress_of_something_else_is_refused(second: Any, progress: Progress) -> None:
    second.at(State.RUNNING)
    assert code(hear, second, FrameType.PROGRESS, progress.parts()) == "out-of-range"


def hear(talk: Any, kind: FrameType, parts: Parts) -> object:
    """Give the client a frame that the node itself would not send."""
    writer = FrameWriter(talk.client.session)
    writer.sequence = talk.client.received
    return talk.client.receive(writer.write(kind, *parts))


def test_an_answer_comes_after_its_material(second: Any, step: MakeStep) -> None:
    client, node = second.at(State.IDLE).client, second.node
    node.receive(client.send_step(step(1, 4, 3)))  # all rows of the block, whose second section is missing
    with pytest.raises(ValueError, match="after the material"):
        node.send_answer(second.answer())
    node.receive(client.send_material(1, 1, bytes(11), 11))
    client.receive(node.send_answer(second.answer()))


# Stopping


def test_a_step_is_stopped(second: Any) -> None:
    client, node = second.at(State.STOPPING).client, second.node
    assert node.send_stopped_if_late() is None  # its step still runs
    client.receive(node.send_progress(1, 0))
    assert client.receive(node.send_stopped()) == Stopped(1)
    assert (client.state, node.state, node.step) == (State.IDLE, State.IDLE, None)
    assert client.position == node.position == 4
    node.receive(client.send_block(4, 1, 4))


def test_a_stop_that_crosses_the_answer_changes_nothing_but_the_queue(second: Any) -> None:
    client, node = second.at(State.RUNNING).client, second.node
    stop, answer = client.send_stop(), node.send_answer(second.answer())
    node.receive(stop)
    assert node.state is State.LATE
    assert client.receive(answer).first_row == 1
    stopped = node.send_stopped_if_late()
    assert stopped is not None
    assert node.send_stopped_if_late() is None
    assert client.receive(stopped) == Stopped(1)
    assert (client.state, node.state) == (State.IDLE, State.IDLE)
    assert client.position == node.position == 6
    assert client.queued_rows == node.queued_rows == 0
    node.receive(client.send_block(4, 1, 6))


def test_a_stop_that_comes_within_the_last_round_is_answered_and_stopped(second: Any) -> None:
    client, node = second.at(State.STOPPING).client, second.node
    assert client.receive(node.send_answer(second.answer())).first_row == 1
    assert client.state is node.state is State.LATE
    client.receive(node.send_stopped_if_late())
    assert client.position == node.position == 6


def test_stopped_names_the_step(second: Any) -> None:
    second.at(State.STOPPING)
    assert code(hear, second, FrameType.STOPPED, Stopped(2).parts()) == "out-of-range"
