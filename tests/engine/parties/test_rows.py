"""A row is used once: what an evaluator refuses before a round, and what ends a step that has begun."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import SessionStopped
from engine.parties.evaluator import Evaluator
from engine.program import material as prepared
from engine.program.material import PreparedMaterial
from engine.ring.fixed import Ring
from engine.step import Step
from engine.wire import SlotKey
from tests.engine.trio import Mail, Trio, prompt, small_model, together


def silent(message: bytes) -> bytes:
    raise AssertionError("no round was to run")


def refuses(evaluator: Evaluator, request: Step, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluator.step(request, silent, lambda rows, section: None)


@pytest.mark.parametrize("role", [0, 1])
def test_a_step_on_rows_that_were_used_is_refused(role: int) -> None:
    trio = Trio(small_model(1))
    trio.deal(6)
    request = trio.dealer.request(prompt(2))
    trio.run(request)
    evaluator = trio.evaluators[role]
    refuses(evaluator, request, "next rows")
    refuses(evaluator, replace(request, first_position=6), "next rows")
    refuses(evaluator, replace(request, first_row=2, first_position=6), "next rows")
    refuses(evaluator, replace(request, first_row=4, first_position=6), "next rows")  # one row is left out
    refuses(evaluator, replace(request, first_row=3, first_position=5), "where the context ends")
    refuses(evaluator, replace(request, first_row=3, first_position=7), "where the context ends")
    assert evaluator.queued_rows == 4


@pytest.mark.parametrize("role", [0, 1])
def test_a_step_on_rows_that_were_dealt_for_other_positions_is_refused(role: int) -> None:
    """A client that announces rows for positions further on: its material would mask one position as another."""
    trio = Trio(small_model(1))
    evaluator = trio.evaluators[role]
    evaluator.announce(1, 2, 9)
    list(trio.dealer.deal(2))
    refuses(evaluator, trio.dealer.request([1]), "dealt for there")


@pytest.mark.parametrize("role", [0, 1])
def test_a_step_on_rows_that_were_discarded_is_refused(role: int) -> None:
    trio = Trio(small_model(1))
    trio.deal(3)
    request = trio.dealer.request([1])
    trio.rewind(4)
    evaluator = trio.evaluators[role]
    refuses(evaluator, request, "next rows")
    with pytest.raises(ValueError, match="new"):
        evaluator.announce(3, 1, 4)  # nor can their numbers come again
    trio.deal(2)
    refuses(evaluator, request, "next rows")
    assert not trio.step([1]).wrapped


def test_rows_of_a_step_that_was_redone_are_new_ones() -> None:
    trio = Trio(small_model(1))
    first = trio.step([1]).request
    trio.rewind(4)
    second = trio.step([1]).request
    assert second.first_row > first.first_row
    assert second.first_position == first.first_position
    for evaluator in trio.evaluators:
        refuses(evaluator, first, "next rows")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answers": 0}, "one of its rows at least"),
        ({"answers": 3}, "all of them at most"),
        ({"deltas": np.zeros(0, np.uint32)}, "one of its rows at least"),
        ({"deltas": np.zeros(7, np.uint32)}, "more rows"),
    ],
)
def test_a_step_of_another_shape_is_refused(change: dict[str, object], says: str) -> None:
    trio = Trio(small_model(1))
    trio.deal(6)
    request = trio.dealer.request(prompt(2))
    for evaluator in trio.evaluators:
        refuses(evaluator, replace(request, **change), says)  # type: ignore[arg-type]
        assert evaluator.queued_rows == 6


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 0), (1, -1)])
def test_announced_rows_are_new(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="new"):
        Trio(small_model(1)).evaluators[0].announce(first, count, 4)


def test_numbers_only_grow_and_may_leave_some_out() -> None:
    e = Trio(small_model(1)).evaluators[0]
    e.announce(1, 3, 4)
    with pytest.raises(ValueError, match="new"):
        e.announce(3, 1, 7)
    e.announce(9, 2, 7)
    assert e.queued_rows == 5


def test_a_step_over_numbers_that_were_left_out_is_refused() -> None:
    trio = Trio(small_model(1))
    evaluator = trio.evaluators[0]
    evaluator.announce(1, 1, 4)
    evaluator.announce(9, 1, 5)
    list(trio.dealer.deal(2))
    refuses(evaluator, trio.dealer.request([1, 2]), "more rows")
    assert evaluator.queued_rows == 2


def test_a_rewind_goes_back_only() -> None:
    e = Trio(small_model(1)).evaluators[0]
    with pytest.raises(ValueError, match="goes back"):
        e.rewind(5)


def test_prepared_sections_take_memory_until_they_are_used_or_discarded() -> None:
    trio = Trio(small_model(1))
    assert [e.queued_bytes for e in trio.evaluators] == [0, 0]
    trio.deal(4)
    full = [e.queued_bytes for e in trio.evaluators]
    assert min(full) > 0
    trio.step(prompt(4))
    assert [e.queued_bytes for e in trio.evaluators] == [0, 0]
    trio.deal(4)
    trio.rewind(4)
    assert [(e.queued_bytes, e.queued_rows) for e in trio.evaluators] == [(0, 0), (0, 0)]


def test_used_rows_of_a_block_are_given_back_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pages small enough for the small model, and all of them touched by something else once they are free; four rows' and
    more at a time, and the last ones'.
    """
    spent: list[int] = []

    def give_back(array: Ring, before: int) -> None:
        spent.append(array.shape[0])
        assert before == (spent[-1 - arrays] * array[:1].nbytes if len(spent) > arrays else 0)
        array[:] = -1

    sections = small_model().spec.sections
    arrays = 4 * sections  # both evaluators' of a section: a buffer, and what was dealt
    monkeypatch.setattr(prepared, "give_back", give_back)
    trio, plain = Trio(small_model()), small_model().plain()
    trio.deal(30)
    for tokens in ([3, 5, 8], [1], [2], prompt(20), prompt(4), [4]):
        off = trio.step(tokens).logits - plain.run(tokens, answers=1)
        assert abs(off).max() < 0.03
    assert spent.count(4) == spent.count(25) == spent.count(29) == spent.count(30) == arrays
    assert len(spent) == 4 * arrays


def test_a_sections_rows_are_given_back_before_the_next_section_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, int]] = []
    trio = Trio(small_model())
    part, spend = PreparedMaterial.part, PreparedMaterial.spend

    def note(what: str, material: PreparedMaterial) -> None:
        if any(material.plan is plan for plan in trio.evaluators[0].plans):
            events.append((what, material.section))

    def asked(self: PreparedMaterial, start: int, stop: int) -> dict[SlotKey, Ring]:
        note("asked", self)
        return part(self, start, stop)

    def spent(self: PreparedMaterial, rows: int) -> None:
        note("spent", self)
        spend(self, rows)

    monkeypatch.setattr(PreparedMaterial, "part", asked)
    monkeypatch.setattr(PreparedMaterial, "spend", spent)
    trio.deal(3)
    trio.step([3, 5, 8])
    sections = small_model().spec.sections
    assert events[: 2 * sections] == [(what, section) for section in range(sections) for what in ("asked", "spent")]


def test_a_rows_material_is_asked_for_once() -> None:
    e = Trio(small_model(1)).evaluators[0]
    e.announce(1, 4, 4)
    e.prepare(1, 0, b"")
    material = e.queue[0].load[0]
    assert material is not None
    material.part(0, 2)
    for start, stop in ((0, 2), (1, 3), (0, 4)):
        with pytest.raises(RuntimeError, match="twice"):
            material.part(start, stop)
    material.part(3, 4)  # the answered rows only


def test_a_lost_peer_leaves_the_context_and_spends_the_rows() -> None:
    trio = Trio(small_model(1))
    trio.step(prompt(3))
    trio.deal(1)
    request = trio.dealer.request([5])

    def lost(message: bytes) -> bytes:
        raise ConnectionError

    for evaluator in trio.evaluators:
        with pytest.raises(ConnectionError):
            evaluator.step(request, lost, lambda rows, section: None)
        assert evaluator.position == 7
        refuses(evaluator, request, "next rows")
    trio.dealer.rewind(7)
    for evaluator in trio.evaluators:
        evaluator.rewind(7)
    plain = small_model(1).plain()
    plain.run(prompt(3), answers=1)
    assert abs(trio.step([5]).logits - plain.run([5], answers=1)).max() < 0.03


@pytest.mark.parametrize("end", ["close", "discard", "rewind"])
def test_a_step_that_waits_for_material_is_woken(end: str) -> None:
    trio = Trio(small_model(1))
    evaluator = trio.evaluators[0]
    evaluator.announce(1, 1, 4)
    next(trio.dealer.deal(1))  # the dealer's side is dealt, this evaluator prepares nothing
    request = trio.dealer.request([5])
    caught: list[BaseException] = []
    waits = threading.Event()

    def run() -> None:
        try:
            evaluator.step(request, silent, lambda rows, section: waits.set())
        except SessionStopped as stopped:
            caught.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    assert waits.wait(20)
    if end == "rewind":
        evaluator.rewind(4)
    else:
        getattr(evaluator, end)()
    thread.join(20)
    assert len(caught) == 1


def test_progress_goes_through_the_sections_of_each_pass() -> None:
    trio = Trio(small_model(1))
    trio.deal(70)
    request = trio.dealer.request(prompt(70))
    seen: list[tuple[int, int]] = []
    mail = Mail()
    one, two = trio.evaluators
    together(
        lambda: one.step(request, mail.exchange(0), lambda rows, section: seen.append((rows, section))),
        lambda: two.step(request, mail.exchange(1), lambda rows, section: None),
    )
    assert seen == [(0, 0), (0, 1), (64, 0), (64, 1), (64, 2)]
