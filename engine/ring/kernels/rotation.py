"""Inner products of one-hot bits over the vocabulary with the rotated rows of the embedding table."""

import numpy as np

from engine.ring.fixed import Ring
from engine.ring.kernels.jit import kernel


@kernel
def rotated_rows(bits: Ring, deltas: Ring, table: Ring, sign: int, out: Ring) -> None:
    """``out[r] += sign * sum_j bits[r][j] * table[(j + deltas[r]) mod vocab]``; table [vocab, d], out [rows, d].

    The table is read once for all rows, 64 of its rows at a time, and four that count are added at once.
    """
    vocab, d = table.shape
    block = 64
    chosen = np.empty(block, np.int64)
    for base in range(0, vocab, block):
        end = min(base + block, vocab)
        for r in range(deltas.size):
            count = 0
            for t in range(base, end):
                j = t - deltas[r]
                if j < 0:
                    j += vocab
                chosen[count] = t
                count += (bits[r, j >> 6] >> np.int64(j & 63)) & np.int64(1)
            k = 0
            while k + 4 <= count:
                one, two, three, four = chosen[k], chosen[k + 1], chosen[k + 2], chosen[k + 3]
                for i in range(d):
                    out[r, i] += sign * (table[one, i] + table[two, i] + table[three, i] + table[four, i])
                k += 4
            while k < count:
                one = chosen[k]
                for i in range(d):
                    out[r, i] += sign * table[one, i]
                k += 1
