"""What is dealt: its exact length, and that it depends on a row's number and position and on nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.errors import InputError
from engine.parties.dealer import Abandoned
from engine.prf import Stream
from engine.program.dealing import Dealing
from engine.program.material import PreparedMaterial
from engine.program.plan import Kind, round_bytes
from engine.ring.fixed import Ring
from engine.rows.run import Rows
from engine.session.messages import ALARM_BYTES, MAX_ANSWERS, OPENED_BYTES
from engine.step import Step
from tests.engine.trio import Trio, prompt, small_model


def test_nothing_that_is_dealt_changes_with_a_token() -> None:
    """Two sessions with the same keys and other texts, rewinds included: the material is the same, byte by byte."""
    trios = []
    for seed in (1, 2):
        trio = Trio(small_model(), seed=5)
        trio.step(prompt(6, seed))
        for i in range(3):
            trio.step(prompt(1, 10 * seed + i))
        trio.rewind(6)
        trio.step(prompt(4, seed + 5))
        trios.append(trio)
    one, two = trios
    assert one.material == two.material
    assert len(one.material) == 5 * small_model().spec.sections


def test_what_goes_to_a_node_before_a_token_is_chosen_is_all_but_two_arrays() -> None:
    """Online a token changes the index difference by as much, and κ2: nothing else."""
    requests = []
    for token in (3, 5):
        trio = Trio(small_model(1), seed=5)
        trio.deal(1)
        requests.append(trio.dealer.request([token]))
    one, two = requests
    assert (one.first_row, one.first_position, one.answers) == (two.first_row, two.first_position, two.answers)
    assert (int(two.deltas[0]) - int(one.deltas[0])) % 307 == 2
    assert (one.kappa2 != two.kappa2).all()


def test_a_row_is_dealt_alike_in_any_block() -> None:
    """Masks come from (row, section, slot): fixed slots of a row are the same in a block of 3 and in three of 1."""
    whole, parts = Trio(small_model(1), seed=3), Trio(small_model(1), seed=3)
    whole.deal(3)
    for _ in range(3):
        parts.deal(1)
    last = whole.dealer.sections - 1
    for section in (0, last):
        for which in (0, 1):
            assert whole.material[1, section][which] == b"".join(parts.material[row, section][which] for row in (1, 2, 3))
    a, b = whole.dealer.request([1, 2, 3]), parts.dealer.request([1, 2, 3])
    np.testing.assert_array_equal(a.kappa2, b.kappa2)
    np.testing.assert_array_equal(a.deltas, b.deltas)


def test_the_material_has_its_planned_length() -> None:
    trio = Trio(small_model())
    for count in (1, 3, 64):
        position = trio.dealer.dealt_position
        first = trio.deal(count)
        for role in (1, 2):
            for section in range(trio.dealer.sections):
                exact = len(trio.material[first, section][role - 1])
                assert exact == trio.evaluators[role - 1].section_bytes(first, section)
                assert exact == trio.dealer.plans[section].dealt_bytes(Rows(first, position, count), role)
            total = sum(len(trio.material[first, s][role - 1]) for s in range(trio.dealer.sections))
            assert total == sum(trio.dealer.row_bytes(position + r, role) for r in range(count))


def test_prepared_rows_take_the_memory_that_their_block_is_booked_with() -> None:
    """At both nodes, to the byte: what they hold follows from the plan and the rows, before any of it is there."""
    trio = Trio(small_model())
    for count in (1, 3, 64):
        position = trio.dealer.dealt_position
        first = trio.deal(count)
        for role, evaluator in enumerate(trio.evaluators, 1):
            found = next(block for block in evaluator.queue if block.rows.first == first)
            roots = {id(root): root.nbytes for material in found.load if material for root in map(_root, _memory(material))}
            assert sum(roots.values()) == trio.dealer.made_bytes(count, position, role)
            assert sum(m.nbytes for m in found.load if m) <= trio.dealer.made_bytes(count, position, role)


def test_rounds_have_their_planned_lengths() -> None:
    """So that a block is refused before anything of it is computed, if a message of its rows would fit no frame."""
    trio = Trio(small_model())
    plans = trio.dealer.plans
    for count in (1, 3, 64):
        position = trio.dealer.dealt_position
        sent = trio.step(prompt(count, count)).sent
        rows = Rows(0, position, count)
        assert max(map(len, sent[0])) == max(round_bytes(plans, rows), plans[-1].round_bytes(rows.part(count - 1, count)))
        lengths = [len(message) for message in sent[0]]
        layers = lengths[: -len(plans[-1].rounds)]
        assert max(layers) == max(map(len, sent[1][: len(layers)])) == round_bytes(plans, rows)
        assert len(lengths) == sum(len(plan.rounds) for plan in plans)


def test_the_last_round_has_room_for_what_the_answers_open() -> None:
    """`max_answers` counts it by these two numbers."""
    sent = Trio(small_model()).step(prompt(20, 1), MAX_ANSWERS).sent
    assert len(sent[0][-1]) == len(sent[1][-1]) == MAX_ANSWERS * (307 * OPENED_BYTES + ALARM_BYTES)


def _memory(material: PreparedMaterial) -> list[Ring]:
    return [*material.held, *material.arrays.values()]


def _root(array: Ring) -> Ring:
    """The array whose memory this one is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize("change", [-8, -1, 1, 8])
@pytest.mark.parametrize(("role", "section"), [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2)])
def test_material_of_another_length_is_refused(role: int, section: int, change: int) -> None:
    trio = Trio(small_model(1))
    e = trio.evaluators[role - 1]
    e.announce(1, 2, 4)
    for at, materials in itertools.islice(trio.dealer.deal(2), section + 1):
        material = materials[role - 1]
        if at == section:
            wrong = material[:change] if change < 0 else bytes(material) + bytes(change)
            with pytest.raises(ValueError, match="exact length"):
                e.prepare(1, section, wrong)
        else:
            e.prepare(1, at, material)


def test_the_first_evaluator_is_dealt_what_both_receive_and_nothing_else() -> None:
    trio = Trio(small_model(1))
    first = trio.deal(2)
    for section, plan in enumerate(trio.dealer.plans):
        one, two = (np.frombuffer(part, np.int64) for part in trio.material[first, section])
        both = one.reshape(2, plan.both_words)
        fixed = two[: 2 * plan.dealt_words].reshape(2, plan.dealt_words)
        slots = [slot for slot in plan.slots.values() if slot.kind is Kind.BOTH]
        assert len(slots) == len(plan.both) == (0, 3, 1)[section]  # two norms and the reciprocal; the last norm
        assert sum(slot.row_words() for slot in slots) == plan.both_words
        for key, at in plan.both.items():
            words = plan.slots[key].row_words()
            np.testing.assert_array_equal(both[:, at : at + words], fixed[:, plan.dealt[key] :][:, :words])
    trio.evaluators[0].announce(3, 1, 6)
    with pytest.raises(ValueError, match="exact length"):
        trio.evaluators[0].prepare(3, 0, b"\0")


def test_material_of_a_block_that_was_not_announced() -> None:
    e = Trio(small_model(1)).evaluators[1]
    with pytest.raises(ValueError, match="announced"):
        e.section_bytes(1, 0)
    e.prepare(1, 0, b"anything")  # of a block that was discarded meanwhile: passed over


def test_dealing_ends_with_the_context_that_it_belonged_to() -> None:
    trio = Trio(small_model(1))
    blocks = trio.dealer.deal(2)
    next(blocks)
    assert trio.dealer.queued_rows == 2
    trio.dealer.rewind(4)
    assert trio.dealer.queued_rows == 0
    with pytest.raises(Abandoned):
        next(blocks)
    assert (trio.dealer.next_row, trio.dealer.dealt_position) == (3, 4)  # the numbers are gone, the position is back


def test_a_row_waits_until_it_is_dealt() -> None:
    trio = Trio(small_model(1))
    blocks = trio.dealer.deal(2)
    assert not trio.dealer.wait_rows(1, 0.0)
    with pytest.raises(ValueError, match="too few"):
        trio.dealer.request([1])
    next(blocks)
    assert trio.dealer.wait_rows(2, 0.0)
    with pytest.raises(ValueError, match="1 rows too few"):
        trio.dealer.request([1, 2, 3])
    assert trio.dealer.queued_rows == 2  # nothing was used
    request = trio.dealer.request([1])
    with pytest.raises(TimeoutError):
        trio.dealer.logits(request.first_row, b"", 0.0)
    for row in (0, 2, 99):  # the second row of the block was dealt, and is not asked for yet
        with pytest.raises(KeyError, match=f"row {row} was not asked for"):
            trio.dealer.wrapped(row, 0)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [([], "no tokens"), ([307], "307"), ([1, -1], "-1"), ([0] * 17, "needs 21 tokens and the context holds 20")],
)
def test_a_step_that_cannot_be_is_refused_in_the_users_words(tokens: list[int], says: str) -> None:
    trio = Trio(small_model(1), context=20)
    trio.deal(16)
    with pytest.raises(InputError, match=says):
        trio.dealer.request(tokens)
    assert (trio.dealer.queued_rows, trio.dealer.position) == (16, 4)


@pytest.mark.parametrize("count", [0, -1, 17])
def test_rows_that_leave_the_context_are_not_dealt(count: int) -> None:
    with pytest.raises(ValueError, match="leave the context"):
        Trio(small_model(1), context=20).dealer.deal(count)


@pytest.mark.parametrize("position", [3, 5, -1])
def test_a_rewind_stays_within_the_context(position: int) -> None:
    trio = Trio(small_model(1))
    with pytest.raises(ValueError, match="rewind"):
        trio.dealer.rewind(position)


def test_a_request_shows_nothing() -> None:
    trio = Trio(small_model(1))
    trio.deal(1)
    request = trio.dealer.request([1])
    assert isinstance(request, Step)
    assert repr(request) == "Step(…)"


def test_a_slot_that_a_gate_forgot_to_deal_is_noticed_before_anything_leaves() -> None:
    trio = Trio(small_model(1))
    plan = trio.dealer.plans[1]
    dealing = Dealing(plan, 1, Rows(1, 4, 2), (Stream(bytes(32)), Stream(bytes(32))), trio.dealer.masks)
    keyed_and_fixed = r"'bins'.*'lam'.* were not dealt"
    with pytest.raises(RuntimeError, match=keyed_and_fixed):
        dealing.material()


def test_a_slot_is_dealt_once() -> None:
    trio = Trio(small_model(1))
    dealing = Dealing(trio.dealer.plans[0], 0, Rows(1, 4, 2), (Stream(bytes(32)), Stream(bytes(32))), trio.dealer.masks)
    dealing.gate = 1
    dealing.share("sigma", np.ones(2, np.int64))
    with pytest.raises(RuntimeError, match="twice"):
        dealing.share("sigma", np.ones(2, np.int64))
