"""A step as all parties speak of it: what the dealer asks for and what an evaluator answers.

Their bytes are the session's (engine/session/messages.py). None of what they carry is shown or stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.rows.run import Rows
from engine.wire import Secret

LOGIT_BYTES = 3
"""Of an answered row's logit, as it is forwarded to the dealer: bits [16, 40) of its opening."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Step(Secret):
    """Tokens to compute on the rows first_row … behind first_position tokens; the trailing `answers` rows are answered.

    The dealer makes one for both evaluators. The first one receives `kappa2` of width 0.
    """

    first_row: int
    first_position: int
    answers: int
    deltas: NDArray[np.uint32]  #: [rows], index differences below the vocabulary's size
    kappa2: NDArray[np.int64]  #: [rows, d_model], the embedding's last word, for the second evaluator only

    @property
    def count(self) -> int:
        """How many rows, and tokens."""
        return len(self.deltas)

    @property
    def rows(self) -> Rows:
        """The rows that it uses."""
        return Rows(self.first_row, self.first_position, self.count)


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Secret):
    """The end of the step that began with first_row: its last `count` rows are answered in `data`.

    An evaluator answers count · vocab · 3 bytes, the forwarded openings of the logits; what the second one sends in their
    place is 32 bytes of digest (`answer_digest`).
    """

    first_row: int
    count: int
    rounds: int  #: of the step
    peer_bytes: int  #: that the node sent to the other one in the step; 0 until the node, which has the link, says so
    alarm: int  #: the opened alarm word, 16 bits
    data: bytes | memoryview
