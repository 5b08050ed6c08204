"""The drill: eleven leaks are planted into the real code, and each is caught by the detector named here, in every run.

"words sent" and "words dealt" are the exact tests of pads.py, "ledger" is ledger.py, "streams" compares with the block
cipher. None of them is statistical. The last column says what test_uniformity.py (marked long) sees of the leak in 20
passes of 24 tokens, and "–" where a transcript looks random all the same: there only the exact test stands before the leak.

| leak                           | caught by   | statistics                                                  |
|--------------------------------|-------------|-------------------------------------------------------------|
| drop_kappa                     | words sent  | chi² of multiply's words, alone and with the own message    |
| additive_answer                | words sent  | – (the additive part is as uniform as the opening)          |
| reuse_after_rewind             | ledger      | equal words; differences with the repetition before         |
| truncation_under_the_old_share | words dealt | difference of the two dealt shares (never either one alone) |
| mask_shorter_than_what_is_sent | words sent  | – (sums of products of masked words fill the upper bits)    |
| mask_of_32_bits                | words sent  | chi² of the look-up's words                                 |
| clear_low_bit                  | words sent  | chi² and the bit                                            |
| roots_that_everybody_knows     | words dealt | chi² of the keys' words                                     |
| one_element_in_1000            | words sent  | words near zero (chi² alone: not at 500,000 elements)       |
| same_keys_after_restart        | ledger      | equal words                                                 |
| constant_stream                | streams     | equal words                                                 |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.parties.plain import Plain
from tests.privacy import pads
from tests.privacy.ledger import LeakError, Ledger
from tests.privacy.mutants import MUTANTS, planted
from tests.privacy.session import Session
from tests.privacy.small import CONTEXT, prompt, small
from tests.privacy.test_ledger import long_session
from tests.privacy.test_pads import check_streams


def messages_of_either_node() -> None:
    for role in (1, 2):
        pads.check_messages(small(), role)


def material() -> None:
    pads.check_dealt(small())
    pads.check_online(small())


def ledger_of_two_sessions() -> None:
    ledger = Ledger()
    for _ in range(2):
        long_session(ledger)
    ledger.check_nothing_twice()


DETECTORS: dict[str, Callable[[], object]] = {
    "words sent": messages_of_either_node,
    "words dealt": material,
    "ledger": ledger_of_two_sessions,
    "streams": check_streams,
}

CAUGHT_BY = {
    "drop_kappa": "words sent",
    "additive_answer": "words sent",
    "reuse_after_rewind": "ledger",
    "truncation_under_the_old_share": "words dealt",
    "mask_shorter_than_what_is_sent": "words sent",
    "mask_of_32_bits": "words sent",
    "clear_low_bit": "words sent",
    "roots_that_everybody_knows": "words dealt",
    "one_element_in_1000": "words sent",
    "same_keys_after_restart": "ledger",
    "constant_stream": "streams",
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_leak_is_caught(name: str) -> None:
    with planted(name), pytest.raises(LeakError):
        DETECTORS[CAUGHT_BY[name]]()


@pytest.mark.parametrize("name", sorted(set(MUTANTS) - {"additive_answer"}))
def test_the_leak_leaves_the_answer_right(name: str) -> None:
    model, tokens = small(), prompt(6, 40)
    plain = Plain(model.spec, model.weights.__getitem__, context=CONTEXT)
    plain.run(model.spec.prefix, answers=1)
    expected = plain.run(tokens, answers=2)
    with planted(name):
        session = Session(model)
        session.step(tokens[:2])
        session.rewind(len(model.spec.prefix))
        got = session.step(tokens, answers=2)
    assert np.abs(got - expected).max() < 0.1 * expected.std()


def test_without_a_leak_nothing_is_caught() -> None:
    for detector in DETECTORS.values():
        detector()
