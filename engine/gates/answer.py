"""The answer and the wrap alarm, opened in one round and forwarded to the dealer (protocol, sections 2 and 7).

The logits are an opening: bits [16, 40) of c go to the dealer, 3 bytes a logit (14 fraction bits for SmolLM2: hidden 13
+ head 17 - 16). The alarm word is the XOR of every wrap hit's 16-bit mask over the whole step; its two shares are opened
*between the nodes* under 16 mask bits from k1 and 16 from k2, and the opened word is forwarded: never a bare share.
"""

import numpy as np

from engine.gates.matmul import matmul
from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate, Reader
from engine.ring.fixed import Real, low, shift_logical
from engine.ring.kernels.words import pack24
from engine.rows.run import Extent
from engine.step import LOGIT_BYTES
from engine.wire import Mask, Wire

DROPPED = 16  #: low bits of a logit's opening that are not forwarded
KEPT = 24


def deal(d: Dealing, x: Mask, vocab: int) -> None:
    """Keep what the answer is read with: "logits", bits [16, 40) of ρ, int32 [rows, vocab], and "alarm", its mask [rows]."""
    one, two = d.kappa("alarm", Extent(1))
    rho = matmul(d, x, "head", vocab, low40=True).rho
    d.keep("logits", low(shift_logical(rho, DROPPED), KEPT).astype(np.int32))
    d.keep("alarm", low(one ^ two, 16).reshape(-1))


def evaluate(e: Evaluation, x: Wire, vocab: int) -> tuple[bytes, int]:
    """(the answer's bytes, 3 a logit; the opened alarm word of the last row). One round."""
    mask = e.kappa("alarm", Extent(1))
    logits = matmul(e, x, "head", vocab, low40=True)
    alarm = e.open(low(mask ^ np.int64(e.alarm), 16), Extent(1), Codec.XOR16)
    c = np.ascontiguousarray(logits.c)
    out = np.empty(c.size * LOGIT_BYTES, np.uint8)
    pack24(c.reshape(-1), out)
    word = int(alarm.c[-1, 0]) & 0xFFFF if e.rows.count else 0
    return out.tobytes(), word


def clear(p: Clear, x: Real, vocab: int) -> Real:
    """Logits."""
    z: Real = matmul(p, x, "head", vocab)
    p.observer.looked_up(p.section, "logit", z)
    return z


answer = Gate("answer", deal, evaluate, clear, ErrorBound(units=1))


def answered(p: Reader, x: Mask | Wire | Real) -> Mask | Wire | Real:
    """The last rows of a wire, as many as the reader's section has; every reader takes them locally.

    The dealer keeps all rows, because any of them may be answered. A step answers its last ones.
    """
    if isinstance(x, Wire):
        return x.tail(p.rows.count)
    if isinstance(x, Mask):
        return x
    return x[x.shape[0] - p.rows.count :]
