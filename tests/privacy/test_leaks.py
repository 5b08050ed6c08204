"""The drill for masks, seeds, keys, indices, roots and pace: each leak of leaks.py is caught by the check named there.

| kind of leak                             | caught by                      | which compares                                   |
|------------------------------------------|--------------------------------|--------------------------------------------------|
| two things of a model under one mask     | packs, seed streams            | words moved mask by mask; ranges drawn of a seed |
| seeds or keys that are equal or follow   | seeds, keys; some are refused  | what the operating system gave, HKDF once more   |
| an index shared, or not of all words     | index over rewinds, vocabulary | real STEP frames with each row's own address     |
| a root short of bits, or of two keys     | roots                          | each bit of a root with each word of its key     |
| blocks, pieces, pauses by a token        | shapes, waits, pauses          | frames of the dealing thread; ranks of its times |

All but "pauses" are exact; that one has an error of 10^-6, whatever the machine does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.errors import ModelError, ProtocolError
from engine.parties.dealer import Dealer
from engine.parties.plain import Plain
from engine.prf import require_apart
from engine.provision import masking
from tests.privacy import fresh, index, leaks, model, pace, roots
from tests.privacy.ledger import LeakError
from tests.privacy.parts import RealSession
from tests.privacy.small import CONTEXT, prompt, small

DETECTORS: dict[str, Callable[[], object]] = {
    "packs": model.check_packs,
    "seed streams": model.check_seed_streams,
    "seeds": model.check_seeds,
    "index over rewinds": index.check_rewinds,
    "vocabulary": index.check_vocabulary,
    "roots": roots.check_roots,
    "keys": fresh.check_sessions,
    "shapes": pace.check_shapes,
    "waits": pace.check_waits,
    "pauses": pace.check_pauses,
}

LEAKS = [
    pytest.param(leak, id=leak.__name__, marks=() if leak in leaks.FIRST else pytest.mark.long) for leak in leaks.CAUGHT_BY
]


@pytest.mark.parametrize("name", ["packs", "seed streams", "seeds", "roots"])  # the others are in test_real_session.py
def test_without_a_leak_nothing_is_caught(name: str) -> None:
    DETECTORS[name]()


@pytest.mark.parametrize("leak", LEAKS)
def test_the_leak_is_caught(leak: Callable[[pytest.MonkeyPatch], None]) -> None:
    seen = (LeakError, ModelError, ProtocolError) if leak in leaks.REFUSED else LeakError
    with pytest.MonkeyPatch.context() as patch:
        leak(patch)
        with pytest.raises(seen):
            DETECTORS[leaks.CAUGHT_BY[leak]]()


@pytest.mark.long
@pytest.mark.parametrize("leak", LEAKS)
def test_the_leak_leaves_the_answer_right_or_is_refused(leak: Callable[[pytest.MonkeyPatch], None]) -> None:
    tokens, source = prompt(6, 40), small()
    plain = Plain(source.spec, source.weights.__getitem__, context=CONTEXT)
    plain.run(source.spec.prefix, answers=1)
    expected = plain.run(tokens, answers=1)
    with pytest.MonkeyPatch.context() as patch:
        leak(patch)
        if leak in leaks.REFUSED:
            with pytest.raises((ModelError, ProtocolError), match="the same"):
                RealSession(model.shared_anew())
            return
        with RealSession(model.shared_anew()) as session:
            session.advance(tokens[:2])
            session.rewind(len(source.spec.prefix))
            got = session.advance(tokens)
    assert np.abs(got - expected).max() < 0.1 * expected.std()


KEYS = [bytes(range(at, at + 32)) for at in (0, 40, 80, 120, 160)]


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("pair", [(one, two) for two in range(5) for one in range(two)])
def test_a_dealer_refuses_keys_and_seeds_that_are_nearly_the_same(pair: tuple[int, int], at: int) -> None:
    """Of any two, with any eight bytes in common."""
    keys, (one, two) = list(KEYS), pair
    part = slice(8 * at, 8 * at + 8)
    keys[two] = keys[two][: part.start] + keys[one][part] + keys[two][part.stop :]
    with pytest.raises(ProtocolError, match="same-keys") as refused:
        Dealer(small().spec, (keys[0], keys[1]), (keys[2], keys[3]), keys[4], prefix=3, context=8)
    assert not any(key.hex()[:8] in str(refused.value) for key in keys)
    require_apart(KEYS)


def test_equal_seeds_mask_nothing() -> None:
    seed = masking.os.urandom(32)
    for second in (seed, seed[:24] + bytes(8), bytes(24) + seed[24:]):
        with pytest.raises(ModelError, match="share the model again"):
            next(masking.masked_words(small().spec, small().weights.__getitem__, (seed, second)))
