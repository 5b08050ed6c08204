"""Twenty thousand decoded tokens at all three parties: none is garbled, as the wrap budget says.

Two layers, so that one reads what another wrote, and contexts of 128 tokens: five minutes on one busy core. The
budget of this model is 2^-23.7 wraps a token, so 0.0015 are expected in the whole run; each would raise the alarm, be
redone and be counted, and none may be seen in a logit.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine.parties.trio import Trio
from tests.engine.parties.test_trio import LARGEST, RMS
from tests.engine.trio import PREFIX, VOCAB, small_model

TOKENS, CONTEXT, LAYERS = 20_000, 128, 2
MOST_WRAPS = 1  #: two of them have a chance of one in a million


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_twenty_thousand_tokens_and_none_is_garbled() -> None:
    model = small_model(LAYERS)
    assert TOKENS * model.spec.wrap_budget < 0.01
    trio = Trio(model.spec, model.seeds, model.packs, prefix=len(PREFIX), context=CONTEXT)
    plain, draw = model.plain(), np.random.default_rng(20)
    position, token = len(PREFIX), 0
    squares = worst = 0.0
    for _ in range(TOKENS):
        if position == CONTEXT:
            position = len(PREFIX)
            trio.rewind(position)
            token = int(draw.integers(VOCAB))
        (logits,) = trio.step([token])
        off = np.abs(logits - plain.run([token], position=position, answers=1)[0])
        assert off.max() < LARGEST, f"garbled at {position}"
        squares, worst = squares + float(np.square(off).mean()), max(worst, float(off.max()))
        position += 1
        token = int(np.argmax(logits + draw.gumbel(size=VOCAB)))  # a draw from the engine's own distribution
    assert np.sqrt(squares / TOKENS) < RMS
    assert trio.redone <= MOST_WRAPS
