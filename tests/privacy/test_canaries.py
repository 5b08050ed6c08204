"""Prompt words, keys and weights do not show: not in representations, not in tracebacks, not in pickles."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import numpy as np
import pytest

from engine.prf import Stream
from engine.program.dealing import KeptArrays
from engine.program.material import PreparedMaterial
from engine.program.plan import Plan
from engine.program.weights import Cache
from engine.rows.run import Extent, Rows
from engine.session import messages
from engine.session.keys import derive
from engine.step import Answer, Step
from engine.wire import Mask, Opening, Rho, Wire
from tests.privacy.session import Aborted, Session
from tests.privacy.small import Shared, prompt, small

WORD = 7_236_214_859_127_341_003  # a planted secret word; its first digits would show in any listing of an array
SHOWN = ("7236214859", "7.23621485", "0x646c6177")
KEY = b"a key that must not be shown 32b"
KEYS = [KEY, KEY[::-1], KEY[16:] + KEY[:16]]
ARRAY = np.full((2, 3), WORD, np.int64)


class _Round:
    def flush(self) -> None:
        raise AssertionError


def secrets() -> list[Any]:
    opening = Opening(Extent(3), 64, _Round())
    opening.settle(ARRAY)
    material = PreparedMaterial(Plan(), 1, 0, Rows(1, 0, 2), Stream(KEY))
    material.arrays[1, "z"] = ARRAY
    kept = KeptArrays()
    kept.add("base", ARRAY)
    return [
        Wire(ARRAY, ARRAY, Extent(3)),
        Mask(ARRAY, Extent(3)),
        Rho(ARRAY, Extent(3)),
        opening,
        material,
        Cache(ARRAY, ARRAY),
        kept,
        Step(1, 0, 1, ARRAY[0].astype(np.uint32), ARRAY),
        Answer(1, 1, 55, 1000, WORD & 0xFFFF, ARRAY.tobytes()),
        Stream(KEY),
        small().packs[0],
        small().packs[1],
    ]


@pytest.mark.parametrize("secret", secrets(), ids=lambda secret: type(secret).__name__)
def test_a_secret_is_not_shown_and_not_pickled(secret: Any) -> None:
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert len(text) < 100
        assert not any(shown in text for shown in SHOWN)
        assert "key that" not in text
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            refused(secret)


def test_a_party_is_not_shown_and_not_pickled() -> None:
    session = Session(small(), fixed=KEYS)
    session.step(prompt(2, 1))
    for party in (session.dealer, *session.evaluators, session.dealer.masks):
        assert len(repr(party)) < 120
        with pytest.raises(TypeError):
            pickle.dumps(party)


def test_messages_do_not_show_what_they_carry() -> None:
    data = KEY * 4
    carried = [
        Step(1, 0, 1, ARRAY[0].astype(np.uint32), ARRAY),
        messages.Material(1, 0, data),
        Answer(1, 1, 55, 1000, 0, data),
    ]
    for message in carried:
        assert "key that" not in repr(message)
        assert not any(shown in repr(message) for shown in (*SHOWN, str(ARRAY[0].astype(np.uint32)[0])))


def failure(model: Shared, tokens: list[int], **how: Any) -> str:
    """The traceback of a step that goes wrong, as the interpreter and the node's log print it."""
    session = Session(model, fixed=KEYS)
    try:
        session.step(tokens, **how)
    except (Aborted, ValueError) as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("the step did not fail")


def test_tracebacks_show_no_prompt_key_or_weight() -> None:
    model, tokens = small(), [113, 127, 109, 113]
    head = f"{model.weights['head'].flat[0]:.4f}"
    for text in (failure(model, tokens, cut=5), failure(model, tokens, cut=40), failure(model, tokens, answers=9)):
        assert "key that" not in text
        assert KEY.hex() not in text
        assert head not in text
        assert "113, 127" not in text
        assert "[113" not in text


def test_wrong_keys_and_lengths_are_refused_without_showing_them() -> None:
    with pytest.raises(ValueError, match="32 bytes") as short:
        Stream(KEY[:-1])
    with pytest.raises(ValueError, match="32 bytes") as seed:
        derive(KEY[:-1], (KEY, KEY), session=b"", epoch=0, pair="D-E1", purpose="streams")
    session = Session(small())
    session.evaluators[1].announce(1, 1, 3)
    with pytest.raises(ValueError, match="exact length") as length:
        session.evaluators[1].prepare(1, 0, KEY * 2)
    for error in (short, seed, length):
        assert "key that" not in "".join(traceback.format_exception(error.value))
