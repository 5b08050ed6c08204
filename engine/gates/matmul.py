"""z = x · W for a wire x and a model matrix W (protocol, section 3).

    z1 = m_x·(m_W - λ_W1) - λ_x1·m_W        z2 = -m_x·λ_W2 - λ_x2·m_W        t = λ_x·Λ_W

One round, 8 bytes (5 with ``low40``) an output each way, nothing dealt. The half -λ_xi·m_W is made ahead of time.
"""

import numpy as np

from engine.program.clear import Clear
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real
from engine.rows.run import Extent
from engine.wire import Mask, Opening, Rho, Wire


def deal(d: Dealing, x: Mask, weight: str, outputs: int, *, low40: bool = False) -> Rho:
    """ρ = κ1 + κ2 - λ_x·Λ_W, [rows, outputs]."""
    extent = Extent(outputs)
    one, two = d.kappa("z", extent)
    return Rho(one + two - d.masks.matmul(x.full().lam, weight), extent, 40 if low40 else 64)


def evaluate(e: Evaluation, x: Wire, weight: str, outputs: int, *, low40: bool = False) -> Opening:
    """Opens z (its low 40 bits with `low40`), [rows, outputs]; scale: x's plus W's."""
    extent = Extent(outputs)
    masked = np.array(e.offline_product("z", extent, weight, x.full()))
    e.weights.multiply(weight, x.m, masked)
    return e.open(masked, extent, Codec.LOW40 if low40 else Codec.WORDS)


def clear(p: Clear, x: Real, weight: str, outputs: int, *, low40: bool = False) -> Real:
    """x @ W.T."""
    del outputs, low40
    return x @ p.weights(weight).T


matmul = Gate("matmul", deal, evaluate, clear)
