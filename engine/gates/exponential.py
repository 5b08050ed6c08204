"""2^x for x = s_j - M: its own separable form, with cells of 4 (protocol, section 4).

    2^x = T[x_hi] · 2^c_lo · 2^(-ρ_lo)
    round a: open w = σ·T[x_hi]·2^c_lo (T at p's 20 bits, 2^c_lo at 13);  round b: open [σ·2^(-ρ_lo)]·w (the share at 15 bits)

Dealt a score: 8 bytes of bits, 8 of share, 8 of the result's λ2. Online: 8 and 8 bytes each way.
"""

from math import log

import numpy as np

from engine.functions.tables import Window
from engine.gates.lookup import deal_bits, read_bits
from engine.gates.truncation import truncate
from engine.program.bound import ErrorBound
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real
from engine.ring.kernels.lookups import power_of_two
from engine.wire import Mask, Opening, Rho, Wire

FRACTION = 13  #: bits of 2^c_lo
SHARE = 15  #: bits of the dealt σ·2^(-ρ_lo)
_ERROR = ErrorBound(units=2, relative=2.0 ** -(FRACTION + 1) + 2.0 ** (3 - SHARE) + 1e-6)
"""Of 2^c_lo, which is 1 or more, and of 2^(-ρ_lo), which is 1/16 or more, half a unit each; of the tables, 1e-6."""
ABOVE = 15 / (4 * log(2))  #: the mean of 2^(ρ_lo): by so much what is opened first is larger than 2^x


def deal(d: Dealing, x: Rho, window: Window, out: int) -> Mask:
    """λ of 2^x."""
    sigma = deal_bits(d, "u", x, window)
    low = (x.rho.reshape(-1) & np.int64((1 << window.lo) - 1)) * 2.0 ** (2 - window.lo)
    weights = sigma * np.rint(np.exp2(SHARE - low)).astype(np.int64)
    d.share("r", weights)
    one, two = d.kappa("w", x.extent)
    last1, last2 = d.kappa("z", x.extent)
    w = truncate(d, Rho(one + two, x.extent), out + FRACTION, out, "exp", share=False)
    rho = last1 + last2 + weights.reshape(last1.shape) * w.lam
    return truncate(d, Rho(rho, x.extent), out + SHARE, out, "p")  # type: ignore[no-any-return]


def evaluate(e: Evaluation, x: Opening, window: Window, out: int) -> Wire:
    """The wire of 2^x at `out` fraction bits, two rounds; error below 3.1e-4 of the value, rms 6e-5."""
    shares, kappa, last = e.share("r", x.extent), e.kappa("w", x.extent), e.kappa("z", x.extent)
    value = read_bits(e, "u", x, window, e.weights.tables["exp"])[:, 0]
    factor = np.empty_like(value)
    power_of_two(
        np.ascontiguousarray(x.c),
        window.lo,
        e.weights.tables["pow.coarse"],
        e.weights.tables["pow.fine"],
        factor,
    )
    w = truncate(e, e.open(value * factor + kappa, x.extent), out + FRACTION, out, "exp", share=False)
    return truncate(e, e.open(w.m * shares + last, x.extent), out + SHARE, out, "p")  # type: ignore[no-any-return]


def clear(p: Clear, x: Real, window: Window, out: int) -> Real:
    """2^x."""
    del window
    p.observer.looked_up(p.section, "exp", x)
    y = np.exp2(x)
    p.truncated("exp", y * ABOVE, out + FRACTION)
    p.truncated("p", y, out + SHARE)
    return y


exponential = Gate("exponential", deal, evaluate, clear, _ERROR)
