"""A plan is what the program asks for: per section, for any number of rows at any position."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.models.config import ModelSpec
from engine.models.functions import tables
from engine.models.planning import plans, table_shapes
from engine.prf import Label, Stream
from engine.program.plan import Kind
from engine.program.streams import draw_keyed
from engine.rows.run import Rows
from tests.engine.trio import small_model


def test_there_is_a_plan_for_each_section_and_layers_of_one_shape_are_alike() -> None:
    spec = small_model().spec
    made = plans(spec)
    assert len(made) == spec.sections == spec.layers + 2
    assert list(made[1].slots) == list(made[2].slots)


def test_bytes_of_a_block_are_those_of_its_rows() -> None:
    """What is dealt for a row does not depend on the block that it comes in."""
    for plan in plans(small_model().spec):
        for role in (1, 2):
            block = plan.dealt_bytes(Rows(5, 7, 6), role)
            assert block == sum(plan.dealt_bytes(Rows(5 + r, 7 + r, 1), role) for r in range(6))


def test_each_further_key_costs_what_the_protocol_says() -> None:
    """Bins 8, exponential 8 + 8, the share of p 8 bytes a score; and two alarm bits a truncated word, twice."""
    spec = small_model().spec
    layer = plans(spec)[1]
    more, none = (layer.dealt_bytes(Rows(1, 64 + 15, 1), role) - layer.dealt_bytes(Rows(1, 15, 1), role) for role in (2, 1))
    assert none == 0
    assert more == 64 * spec.heads * (8 + 8 + 8 + 8) + 2 * 2 * 8 * spec.heads


def test_slots_of_a_row_lie_side_by_side_and_those_of_products_behind() -> None:
    for plan in plans(small_model().spec):
        ahead = {key for product in plan.products for key in (product.slot, product.lam)}
        for which, drawn in enumerate(plan.drawn):
            at = 0
            mine = {key: s for key, s in plan.slots.items() if s.kind is Kind.KAPPA or (which == 0 and s.kind is Kind.SHARE)}
            assert list(drawn.keyed) == [key for key, slot in mine.items() if slot.keyed]
            assert drawn.online.keys() | drawn.ahead.keys() == mine.keys() - drawn.keyed.keys()
            for places, words in ((drawn.online, drawn.online_words), (drawn.ahead, drawn.words)):
                for key, place in places.items():
                    assert (key in ahead) == (places is drawn.ahead)
                    assert place == slice(at, at := at + mine[key].row_words())
                at += at % 2 if places is drawn.online else 0  # a stream is read from an even word on
                assert words == at


def test_keyed_slots_of_a_row_lie_side_by_side_in_one_range() -> None:
    layer, rows = plans(small_model().spec)[1], Rows(9, 3, 3)

    class Numbered:
        """Gives each word of each row's range a number of its own."""

        def words(self, count: int, label: Label, row: int, section: int, slot: int, start: int) -> NDArray[np.int64]:
            assert (label, section, slot, start) == (Label.KEYED, 1, 0, 4)
            return (row << 32) + np.arange(count)

    for drawn in layer.drawn:
        runs = draw_keyed(drawn, cast(Stream, Numbered()), 1, rows)
        assert {key: run.size for key, run in runs.items()} == {k: s.offsets(rows)[-1] for k, s in drawn.keyed.items()}
        for r in range(rows.count):
            bounds = {key: slot.offsets(rows)[r : r + 2] for key, slot in drawn.keyed.items()}
            whole = np.concatenate([runs[key][start:stop] for key, (start, stop) in bounds.items()])
            np.testing.assert_array_equal(whole, (rows.first + r << 32) + np.arange(whole.size))


def test_the_tables_have_the_planned_shapes() -> None:
    spec = small_model(1).spec
    made = tables(spec)
    assert {name: table.shape for name, table in made.items()} == table_shapes(spec)
    assert {table.dtype for table in made.values()} == {np.dtype(np.int64)}


def test_the_digest_is_of_every_field() -> None:
    spec = small_model().spec
    assert spec.digest() == ModelSpec.model_validate_json(spec.model_dump_json()).digest()
    for change in ({"levels": 12}, {"rms_eps": 1e-6}, {"wrap_budget": 0.5}, {"prefix": (1, 5, 7)}):
        assert spec.model_copy(update=change).digest() != spec.digest()


@pytest.mark.parametrize("change", [{"levels": 15}, {"vocab": 1}, {"unknown": 1}, {"prefix": ()}, {"rope_theta": 0.5}])
def test_a_spec_that_no_program_runs_is_refused(change: dict[str, object]) -> None:
    whole = small_model().spec.model_dump() | change
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(whole)
