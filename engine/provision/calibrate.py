"""Windows, exponents and the wrap budget of a model, measured on text by the program in the clear (protocol, section 11).

Everything here becomes public metadata. Margins: a SiLU window reaches 4 times the largest argument seen, a norm's
16 times the largest and half the smallest Σ x² seen (4 and 0.7 in the rms), the tested levels of the row maximum are
centred on those seen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log2

import numpy as np

from engine.functions.tables import WideWindow, Window
from engine.models.config import LayerSpec, ModelSpec, Norm, Silu
from engine.parties.plain import Plain
from engine.ring.fixed import Real
from engine.ring.points import STEP

WRAP_LIMIT = 2.0**-12  #: a token; above it the sharing tool refuses
LOW_MARGIN = 0.7
REACH_MARGIN = 4.0
SILU_BITS = 8
LOWEST_CELLS = 8
SMALLEST_TOP = 5
#: (log2 of the cell's width, degree)
SILU_CELLS = ((-2, 3), (-1, 3), (0, 4))


@dataclass
class Seen:
    """What calibration saw: ranges by (section, name) and the expected number of wraps."""

    low: dict[tuple[int, str], float] = field(default_factory=dict)
    high: dict[tuple[int, str], float] = field(default_factory=dict)
    squares: dict[tuple[int, str], tuple[float, int]] = field(default_factory=dict)
    wraps: float = 0.0

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """Add Σ |z| / 2^64 and the sum of squares."""
        total, count = self.squares.get((section, name), (0.0, 0))
        self.squares[section, name] = (total + float(np.square(values).sum()), count + values.size)
        self.wraps += float(np.abs(values).sum()) * 2.0 ** (bits - 64)

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """Widen a range."""
        if values.size:
            key = (section, name)
            self.low[key] = min(self.low.get(key, np.inf), float(values.min()))
            self.high[key] = max(self.high.get(key, -np.inf), float(values.max()))


def provisional(spec: dict[str, object], layers: int) -> ModelSpec:
    """A spec of that shape whose windows do not matter: the reader in the clear uses exact functions."""
    window = WideWindow(lo=20, top=5, stages=4, low=1.0)
    norm = Norm(exponent=0, window=window)
    layer = LayerSpec(
        attention_norm=norm,
        mlp_norm=norm,
        silu=Silu(window=Window(lo=26, n=8, lowest=-128), degree=3),
        level=-8,
    )
    bits = {f"{i}.{part}": 16 for i in range(layers) for part in ("v", "o", "gate", "up", "down")} | {"head": 16}
    whole = {
        "weight_bits": bits,
        "final_norm": norm,
        "reciprocal": window,
        "layer": (layer,) * layers,
        "layers": layers,
        "wrap_budget": 0.0,
    }
    return ModelSpec.model_validate(whole | spec)


def observe(
    spec: ModelSpec,
    weights: Callable[[str], Real],
    texts: Iterable[Sequence[int]],
    progress: Callable[[int], None],
) -> tuple[Seen, int]:
    """Run the texts behind the public prefix, and behind its first token alone; returns what was seen, of how many tokens."""
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


def wide_window(low: float, high: float, scale: int) -> WideWindow:
    """A window whose cells are fine enough at `low` (8 to 16 of the finest below it) and which reaches `high`."""
    lo = floor(log2(low * 2.0**scale / LOWEST_CELLS))
    if lo < 1:
        raise ValueError("the smallest value of a window is below its scale's resolution")
    reach = ceil(log2(high * 2.0**scale / (1 - 2.0**-SMALLEST_TOP)))  # the last cell is lost
    stages, more = divmod(max(reach - lo, SMALLEST_TOP) - SMALLEST_TOP, STEP)
    return WideWindow(lo=lo, top=SMALLEST_TOP + more, stages=stages, low=low)


def _norm(spec: ModelSpec, seen: Seen, section: int, name: str) -> Norm:
    d, key = spec.d_model, (section, name)
    exponent = floor(log2(np.sqrt(max(seen.low[key] / d, 2.0**-36))))
    unit = 4.0**exponent
    low = LOW_MARGIN**2 * seen.low[key] / unit
    high = REACH_MARGIN**2 * seen.high[key] / unit
    return Norm(exponent=exponent, window=wide_window(max(low, 2.0**-10), high, 2 * spec.scales.norm))


def silu_window(reach: float, scale: int) -> Silu:
    """The cheapest accurate window over ±`reach`: 2^n / 8 bytes of bits and 8 a degree are dealt a value.

    Cells of 1/4 and 1/2 at degree 3 err by 1e-5 and 1.6e-4; beyond 2^8 cells, cells of 1 at degree 4 by 2.8e-4.
    """
    fitting = []
    for cell, degree in SILU_CELLS:
        n = max(6, ceil(log2(2 * reach / 2.0**cell)))
        fitting.append((2**n // 8 + 8 * degree if n <= SILU_BITS else 2**n, cell, degree, n))
    _, cell, degree, n = min(fitting[:-1]) if fitting[-2][3] <= SILU_BITS else fitting[-1]
    return Silu(window=Window(lo=scale + cell, n=n, lowest=-(1 << (n - 1))), degree=degree)


def _extra(seen: Seen, section: int, name: str, rms: float) -> int:
    """Bits that a small quantity can carry without exceeding one of that rms at the activations' scale.

    Values of SmolLM2's first layer have an rms of 0.04: at 12 bits their rounding alone would move every logit by 0.3 %.
    """
    total, count = seen.squares[section, name]
    return int(np.clip(floor(log2(rms) - log2(np.sqrt(total / max(count, 1)) + 2.0**-20)), 0, 6))


def measured(
    spec: ModelSpec,
    weights: Callable[[str], Real],
    texts: Sequence[Sequence[int]],
    progress: Callable[[int], None],
) -> ModelSpec:
    """A provisional spec with the windows, exponents and extra bits that the texts ask for, and its wrap budget a token.

    The budget is that of every third text, seen a second time: exponents and extra bits are part of the products' scales.

    Raises:
        ValueError, OverflowError: no windows fit what is computed on the texts.
    """
    found = calibrated(spec, observe(spec, weights, texts, progress)[0])
    seen, tokens = observe(found, weights, texts[::3], lambda done: None)
    return found.model_copy(update={"wrap_budget": seen.wraps / max(tokens, 1)})


def calibrated(spec: ModelSpec, seen: Seen) -> ModelSpec:
    """The spec with the windows, exponents and extra bits that `seen` asks for; without a wrap budget (`measured`)."""
    b = spec.scales
    layers = []
    for section in range(1, spec.layers + 1):
        reach = REACH_MARGIN * max(abs(seen.low[section, "silu"]), abs(seen.high[section, "silu"]), 0.5)
        middle = (seen.low[section, "max"] + seen.high[section, "max"]) / 2
        level = int(np.clip(round(middle / 4) - spec.levels // 2, spec.score_bottom, 15 - spec.levels))
        value, ffn = _extra(seen, section, "v", 0.5), _extra(seen, section, "ffn", 1.0)
        layers.append(
            LayerSpec(
                attention_norm=_norm(spec, seen, section, "attention_norm"),
                mlp_norm=_norm(spec, seen, section, "mlp_norm"),
                silu=silu_window(reach, b.hidden + spec.weight_bits[f"{section - 1}.gate"]),
                value_extra=value,
                ffn_extra=ffn,
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
        }
    )


def weight_bits(deviations: Mapping[str, float]) -> dict[str, int]:
    """Bits of each matrix so that its standard deviation is 2^12 to 2^13 units: its rounding then limits nothing."""
    return {name: int(np.clip(floor(13 - log2(max(d, 2.0**-20))), 12, 20)) for name, d in deviations.items()}
