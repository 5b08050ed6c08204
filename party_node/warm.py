"""Before a node says that it is ready: compile every kernel and touch every weight once."""

from __future__ import annotations

import numpy as np

from engine.parties.evaluator import Evaluator
from engine.parties.pack import NodePack
from engine.session.keys import KEY_BYTES, fresh
from engine.step import Step

_SIZES = (1, 4)  # rows of a step: a decoding step, and a pass of several


def warm_up(pack: NodePack) -> None:
    """Compute a decoding step and a small pass on noise, against the node's own echo."""
    rows = sum(_SIZES)
    evaluator = Evaluator(pack, fresh(KEY_BYTES), prefix=1, context=1 + rows)
    evaluator.announce(1, rows, 1)
    for section in range(evaluator.sections):
        evaluator.prepare(1, section, bytes(evaluator.section_bytes(1, section)))
    first = 1
    for count in _SIZES:
        request = Step(
            first_row=first,
            first_position=first,
            answers=1,
            deltas=np.zeros(count, np.uint32),
            kappa2=np.zeros((count, pack.spec.d_model), np.int64),
        )
        evaluator.step(request, _echo, _ignore)
        first += count


def _echo(message: bytes) -> bytes:
    return message


def _ignore(rows: int, section: int) -> None:
    """No progress is shown."""
