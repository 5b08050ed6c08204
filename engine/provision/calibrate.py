"""Windows, exponents and the wrap budget of a model, measured on text by the program in the clear (protocol, section 11).

Everything here becomes public metadata. Margins: a SiLU window reaches 4 times the largest argument seen, a norm's
16 times the largest and half the smallest Σ x² seen (4 and 0.7 in the rms), the tested levels of the row maximum are
centred on those seen.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log2

import numpy as np

from engine.functions.tables import WideWindow, Window
from engine.models.config import LayerSpec, ModelSpec, Norm, Scales, Silu
from engine.parties.plain import Plain
from engine.ring.fixed import Real

WRAP_LIMIT = 2.0**-12  #: a token; above it the sharing tool refuses
LOW_MARGIN = 0.7
REACH_MARGIN = 4.0
#: (log2 of the cell's width, degree): the fit to SiLU errs by at most 2^-12 with each
SILU_CELLS = ((-2, 3), (-1, 3), (0, 4))


@dataclass
class Seen:
    """What calibration saw: ranges by (section, name) and the expected number of wraps."""

    low: dict[tuple[int, str], float] = field(default_factory=dict)
    high: dict[tuple[int, str], float] = field(default_factory=dict)
    wraps: float = 0.0

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """Add Σ |z| / 2^64."""
        del section, name
        self.wraps += float(np.abs(values).sum()) * 2.0 ** (bits - 64)

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """Widen a range."""
        if values.size:
            key = (section, name)
            self.low[key] = min(self.low.get(key, np.inf), float(values.min()))
            self.high[key] = max(self.high.get(key, -np.inf), float(values.max()))


def provisional(spec: dict[str, object], layers: int) -> ModelSpec:
    """A spec of that shape whose windows do not matter: the reader in the clear uses exact functions."""
    window = WideWindow(fine=Window(lo=20, n=10, lowest=0), coarse=Window(lo=27, n=10, lowest=0), low=1.0)
    norm = Norm(exponent=0, window=window)
    layer = LayerSpec(
        attention_norm=norm,
        mlp_norm=norm,
        silu=Silu(window=Window(lo=26, n=8, lowest=-128), degree=3),
        level=-8,
    )
    whole = {
        "final_norm": norm,
        "reciprocal": window,
        "layer": (layer,) * layers,
        "layers": layers,
        "wrap_budget": 0.0,
    }
    return ModelSpec.model_validate(spec | whole)


def observe(
    spec: ModelSpec,
    weights: Callable[[str], Real],
    texts: Iterable[Sequence[int]],
    progress: Callable[[int], None],
) -> tuple[Seen, int]:
    """Run the texts behind the public prefix, and behind its first token alone; returns what was seen and of how many tokens."""
    seen, tokens = Seen(), 0
    longest = max(spec.context - len(spec.prefix), 1)
    for i, text in enumerate(texts):
        whole = spec.prefix if i % 2 == 0 else spec.prefix[:1]
        plain = Plain(spec, weights, context=len(whole) + min(len(text), longest))
        plain.run(whole, answers=1)
        plain.observer = seen
        plain.run(text[:longest], answers=None)
        tokens += len(text[:longest])
        progress(tokens)
    return seen, tokens


def wide_window(low: float, high: float, scale: int, lowest_cells: int = 4) -> WideWindow:
    """Two windows whose cells are fine enough at `low` (4 to 8 fine cells) and which reach `high`."""
    lo = floor(log2(low * 2.0**scale / lowest_cells))
    if lo < 1:
        raise ValueError("the smallest value of a window is below its scale's resolution")
    total = max(ceil(log2(high * 2.0**scale)) - lo + 3, 12)
    fine = (total + 1) // 2
    coarse = total - fine
    return WideWindow(
        fine=Window(lo=lo, n=fine, lowest=0),
        coarse=Window(lo=lo + fine - 3, n=coarse, lowest=0),
        low=low,
    )


def _norm(spec: ModelSpec, seen: Seen, section: int, name: str) -> Norm:
    d, key = spec.d_model, (section, name)
    exponent = floor(log2(np.sqrt(max(seen.low[key] / d, 2.0**-36))))
    unit = 4.0**exponent
    low = LOW_MARGIN**2 * seen.low[key] / unit
    high = REACH_MARGIN**2 * seen.high[key] / unit
    return Norm(exponent=exponent, window=wide_window(max(low, 2.0**-10), high, 2 * spec.scales.rsqrt))


def silu_window(reach: float, scale: int) -> Silu:
    """The cheapest window over ±`reach`: 2^n / 8 bytes of bits and 8 a column are dealt a value."""
    best: tuple[int, Silu] | None = None
    for cell, degree in SILU_CELLS:
        n = max(6, ceil(log2(2 * reach / 2.0**cell)))
        cost = 2**n // 8 + 8 * (degree + 1)
        if best is None or cost < best[0]:
            window = Window(lo=scale + cell, n=n, lowest=-(1 << (n - 1)))
            best = (cost, Silu(window=window, degree=degree))
    if best is None:
        raise ValueError("no SiLU window")
    return best[1]


def calibrated(spec: ModelSpec, seen: Seen, tokens: int) -> ModelSpec:
    """The spec with measured windows and wrap budget (expected wraps a token)."""
    b = spec.scales
    layers = []
    for section in range(1, spec.layers + 1):
        reach = REACH_MARGIN * max(abs(seen.low[section, "silu"]), abs(seen.high[section, "silu"]), 0.5)
        middle = (seen.low[section, "max"] + seen.high[section, "max"]) / 2
        level = int(np.clip(round(middle / 4) - spec.levels // 2, spec.score_bottom, 15 - spec.levels))
        layers.append(
            LayerSpec(
                attention_norm=_norm(spec, seen, section, "attention_norm"),
                mlp_norm=_norm(spec, seen, section, "mlp_norm"),
                silu=silu_window(reach, b.activation + b.weight),
                level=level,
            )
        )
    final = _norm(spec, seen, spec.layers + 1, "final_norm")
    reciprocal = wide_window(2.0**-8, 4.0 * spec.context, b.probability)
    return spec.model_copy(
        update={
            "layer": tuple(layers),
            "final_norm": final,
            "reciprocal": reciprocal,
            "wrap_budget": seen.wraps / max(tokens, 1),
        }
    )


def scales_for(deviations: Sequence[float]) -> Scales:
    """Weight bits so that the matrices' standard deviation is about 2^13 units."""
    return Scales(weight=int(np.clip(round(13 - log2(float(np.median(deviations)))), 12, 20)))
