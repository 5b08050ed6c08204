"""Inner products of one-hot bits over the vocabulary with the rotated rows of the embedding table."""

import numpy as np

from engine.ring.fixed import Ring
from engine.ring.jit import kernel


@kernel
def rotated_rows(bits: Ring, deltas: Ring, table: Ring, sign: int, out: Ring) -> None:
    """``out[r] += sign * sum_j bits[r][j] * table[(j + deltas[r]) mod vocab]``; table [vocab, d], out [rows, d].

    The table is read once for all rows, 16 of its rows at a time.
    """
    vocab, d = table.shape
    rows = deltas.size
    block = 16
    for base in range(0, vocab, block):
        end = min(base + block, vocab)
        for r in range(rows):
            for t in range(base, end):
                j = t - deltas[r]
                if j < 0:
                    j += vocab
                if (bits[r, j >> 6] >> np.int64(j & 63)) & np.int64(1):
                    if sign > 0:
                        for i in range(d):
                            out[r, i] += table[t, i]
                    else:
                        for i in range(d):
                            out[r, i] -= table[t, i]
