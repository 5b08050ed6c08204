"""The drill: ten leaks are planted into the real code, and each is caught by the detector named here, in every run.

"words sent" and "words dealt" are the exact tests of pads.py, "ledger" is ledger.py, "streams" compares with the block
cipher. None of them is statistical. The last column says which statistical test (test_uniformity.py, marked long) sees the
leak in a transcript as well, and "–" where none can: there only the exact tests stand between us and the leak.

| leak                           | caught by   | statistics                                              |
|--------------------------------|-------------|---------------------------------------------------------|
| drop_kappa                     | words sent  | chi² of the received words                              |
| additive_answer                | words sent  | – (what D gets still looks random)                      |
| reuse_after_rewind             | ledger      | differences of a message with its repetition            |
| truncation_under_the_old_share | words dealt | – (the two words never look alike: λ' and λ are fresh)  |
| mask_shorter_than_what_is_sent | words sent  | – (sums of products of masked words are random as well) |
| mask_of_32_bits                | words sent  | – (the additive parts fill the upper half)              |
| clear_low_bit                  | words sent  | –                                                       |
| one_element_in_1000            | words sent  | –                                                       |
| same_keys_after_restart        | ledger      | duplicates                                              |
| constant_stream                | streams     | duplicates                                              |
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
