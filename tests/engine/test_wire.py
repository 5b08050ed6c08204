"""Wires and openings: what one party holds, what it may not ask for, and that none of it is shown or stored."""

from __future__ import annotations

import copy
import pickle  # to see that it refuses
from typing import Any

import numpy as np
import pytest

from engine.rows.run import Extent
from engine.step import Answer, Step
from engine.wire import Mask, Opening, Rho, Wire

SECRET = 0x1234567
X = np.full((2, 3), SECRET)
ROW = Extent(3)


class Round:
    """Answers what it was given, or nothing."""

    def __init__(self) -> None:
        self.pending: list[Opening] = []
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        for opening in self.pending:
            opening.settle(X)


def secrets() -> list[Any]:
    opening = Opening(ROW, 64, Round())
    opening.settle(X)
    request = Step(1, 4, 1, np.array([SECRET], np.uint32), X)
    return [
        Wire(X, X, ROW),
        Mask(X, ROW),
        Rho(X, ROW),
        opening,
        request,
        Answer(1, 1, 79, 1000, SECRET, bytes([SECRET & 255]) * 9),
    ]


@pytest.mark.parametrize("thing", secrets(), ids=lambda t: type(t).__name__)
def test_nothing_is_shown_or_pickled(thing: Any) -> None:
    for text in (repr(thing), str(thing), f"{thing}", repr([thing])):
        assert type(thing).__name__ + "(…)" in text
        assert str(SECRET) not in text
        assert "array" not in text
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(thing)
    with pytest.raises(TypeError, match="never pickled"):
        copy.copy(thing)


def test_an_error_about_a_wire_says_nothing_of_its_words() -> None:
    with pytest.raises(ValueError, match="full word") as caught:
        Wire(X, X, ROW, 34).full()
    assert str(SECRET) not in str(caught.value)


def test_the_value_of_an_opening_is_fetched_once_by_its_round() -> None:
    end = Round()
    opening = Opening(ROW, 64, end)
    end.pending.append(opening)
    assert opening.c is opening.c
    assert end.flushes == 1


def test_an_opening_is_answered_once() -> None:
    opening = Opening(ROW, 64, Round())
    opening.settle(X)
    with pytest.raises(RuntimeError, match="twice"):
        opening.settle(X)


def test_an_opening_without_an_answer_is_an_error() -> None:
    end = Round()
    opening = Opening(ROW, 64, end)
    with pytest.raises(RuntimeError, match="not answered"):
        _ = opening.c
    assert end.flushes == 1


def test_columns_of_an_opening_are_an_opening() -> None:
    whole = Opening(ROW, 40, Round())
    whole.settle(np.arange(6).reshape(2, 3))
    part = whole.columns(1, 3)
    assert (part.extent, part.bits) == (Extent(2), 40)
    assert part.c.tolist() == [[1, 2], [4, 5]]
    assert part.c.flags.c_contiguous


def test_a_full_word_is_not_to_be_had_from_a_narrow_wire() -> None:
    for wire in (Wire(X, X, ROW, 34), Mask(X, ROW, 34)):
        with pytest.raises(ValueError, match="2\\^34"):
            wire.full()
    for whole in (Wire(X, X, ROW), Mask(X, ROW)):
        assert whole.full() is whole


def test_a_share_that_was_not_dealt_is_refused() -> None:
    with pytest.raises(ValueError, match="no share"):
        Wire(X, None, ROW).share()
    assert Wire(X, X, ROW).share() is X


def test_wires_and_masks_add_up_modulo_2_64_and_only_full_ones() -> None:
    huge = np.full((2, 3), np.iinfo(np.int64).max)
    total = Wire(huge, huge, ROW) + Wire(huge, X, ROW)
    assert (total.m == -2).all()
    assert (total.share() == huge + X).all()
    assert total.source is None  # its mask is no single slot
    assert ((Mask(huge, ROW) + Mask(huge, ROW)).lam == -2).all()
    with pytest.raises(ValueError, match="2\\^34"):
        _ = Wire(X, X, ROW) + Wire(X, X, ROW, 34)
    with pytest.raises(ValueError, match="2\\^34"):
        _ = Mask(X, ROW, 34) + Mask(X, ROW)
    with pytest.raises(ValueError, match="no share"):
        (Wire(X, X, ROW) + Wire(X, None, ROW)).share()
    assert ((Wire(X, None, ROW) + Wire(X, X, ROW)).m == 2 * X).all()


def test_the_last_rows_of_a_wire_are_one() -> None:
    words = np.arange(12, dtype=np.int64).reshape(4, 3)
    last = Wire(words, -words, Extent(3), 34).tail(2)
    assert (last.m == words[2:]).all()
    assert (last.share() == -words[2:]).all()
    assert (last.extent, last.bits, last.source) == (Extent(3), 34, None)
    with pytest.raises(ValueError, match="no share"):
        Wire(words, None, Extent(3)).tail(1).share()
