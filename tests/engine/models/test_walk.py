"""The walk enters a section when it is asked for, hands x on, and holds no reader behind its section."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from engine.models import llama
from engine.models.walk import Section, run, walk
from engine.parties.plain import Plain
from engine.program.clear import Clear
from engine.program.dealing import KeptArrays
from engine.rows.run import Rows
from tests.engine.trio import prompt, small_model

SECTIONS: Sequence[Section] = (lambda p, x: [*x, "first"], lambda p, x: [*x, "second"], lambda p, x: [*x, "third"])


def reader() -> Clear:
    return Clear(lambda name: np.zeros((1, 1)), Rows(1, 0, 1), [], [], {})


def test_each_section_takes_what_the_one_before_it_gave() -> None:
    assert run(SECTIONS, ["tokens"], lambda number: reader()) == ["tokens", "first", "second", "third"]
    assert run((), "tokens", lambda number: reader()) == "tokens"


def test_a_section_is_entered_when_it_is_asked_for() -> None:
    entered: list[int] = []

    def enter(number: int) -> Clear:
        entered.append(number)
        return reader()

    steps = walk(SECTIONS, [], enter)
    assert entered == []
    for number in range(3):
        assert next(steps)[0] == number
        assert entered == list(range(number + 1))


def test_a_reader_that_nobody_holds_is_gone_before_the_next_section_is_entered() -> None:
    """What the dealer drew for a section is as large as its material."""
    made: list[weakref.ref[Clear]] = []

    def enter(number: int) -> Clear:
        assert all(before() is None for before in made)
        p = reader()
        made.append(weakref.ref(p))
        return p

    gc.disable()
    try:
        for _, p, _ in walk(SECTIONS, [], enter):
            assert made[-1]() is p
            del p
    finally:
        gc.enable()
    assert len(made) == 3


def test_a_program_is_a_value_that_a_reader_takes() -> None:
    """A model of one layer less, made of another one's sections, answers as something else."""
    model = small_model(2)
    tokens = prompt(3)

    def shorter(spec: object, rows: Rows) -> Sequence[Section]:
        embedding, first, _, answer = llama.sections(model.spec, rows)
        return embedding, first, answer

    whole = Plain(model.spec, model.weights.__getitem__).run(tokens)
    cut = Plain(model.spec, model.weights.__getitem__, program=shorter).run(tokens)
    assert whole.shape == cut.shape
    assert not np.allclose(whole, cut)


def test_a_name_is_kept_once() -> None:
    kept, more = KeptArrays(), KeptArrays()
    kept.add("index", np.zeros(2))
    more.add("index", np.ones(2))
    with pytest.raises(RuntimeError, match="twice"):
        kept.add_all(more)
    np.testing.assert_array_equal(kept["index"], np.zeros(2))
    assert "base" not in kept
