"""What a section draws of a stream, at every party: a row's fixed slots in one range, its keyed slots in another."""

import numpy as np

from engine.prf import FAST, Label, Stream
from engine.program.plan import Drawn
from engine.ring.fixed import WORD_BYTES, Ring
from engine.rows.run import Rows
from engine.wire import SlotKey


def draw_fixed(buffer: Ring, stream: Stream, section: int, rows: Rows, start: int = 0) -> None:
    """Draw the fixed slots of each row from word `start` (even) on, [rows, words]."""
    for r in range(rows.count):
        stream.fill(buffer[r], Label.FIXED, rows.first + r, section, 0, FAST + WORD_BYTES * start)


def draw_keyed(drawn: Drawn, stream: Stream, section: int, rows: Rows) -> dict[SlotKey, Ring]:
    """Each keyed slot of the rows, flat; a row's lie in one range, one behind the other."""
    runs: dict[SlotKey, list[Ring]] = {key: [] for key in drawn.keyed}
    for r in range(rows.count):
        sizes = [slot.row_words(rows.position + r + 1) for slot in drawn.keyed.values()]
        words, at = stream.words(sum(sizes), Label.KEYED, rows.first + r, section, 0, FAST // WORD_BYTES), 0
        for run, size in zip(runs.values(), sizes, strict=True):
            run.append(words[at : at + size])
            at += size
    return {key: run[0] if len(run) == 1 else np.concatenate(run) for key, run in runs.items()}
