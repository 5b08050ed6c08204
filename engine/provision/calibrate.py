"""Windows, exponents and the wrap budget of a model, measured on text by the program in the clear (protocol, section 11).

Everything here becomes public metadata. Margins: a SiLU window reaches 4 times the largest argument seen, a norm's
16 times the largest and half the smallest Σ x² seen (4 and 0.7 in the rms), the scores' 1.4 times the largest either way, a
logit's room is what no residual can pass, or 4 times the largest seen; the tested levels of the row maximum are centred on
those seen. Unusual tokens (`engine.provision.unseen_tokens`) widen the same windows, by smaller margins, and no more than that.
What is used beyond `USE_LIMIT` even so is refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log2, sqrt
from typing import Any

import numpy as np

from engine.functions.tables import WideWindow, Window
from engine.models.config import LayerSpec, ModelSpec, Norm, Scales, Silu
from engine.models.limits import LOW_BITS, OVERSHOOT
from engine.parties.plain import Plain
from engine.parties.retry import place
from engine.provision.unseen_tokens import NEGLIGIBLE, EmbeddingRows, rows_of
from engine.provision.window_use import Key, complaint, level_use, table_name, window_use
from engine.ring.fixed import Real
from engine.ring.kernels.points import STEP

WRAP_LIMIT = 2.0**-12  #: a token; above it the sharing tool refuses
RARE_WRAP_LIMIT = 2.0**-8  #: the same for texts of unusual tokens
USE_LIMIT = 0.8  #: of a window, by what calibration saw
LOW_MARGIN = 0.7
REACH_MARGIN = 4.0
SCORE_MARGIN = 1.4
RARE_LOW, RARE_REACH, RARE_SCORE = 0.85, 2.0, 1.3  #: the same of what unusual tokens show
ROW_MARGIN = 1.15  #: of the rows' own rms, which are known
LEVELS = 16  #: of the row maximum, unless a layer needs more
MOST_LEVELS = 60
LEVEL_MARGIN = 1.25  #: of the row maxima's range, or with the fewest levels:
BULK, BULK_MARGIN = (0.01, 0.99), 1.5  #: of the range of 98 of 100 row maxima, if all others are held without a margin
BLURRED = 1600.0  #: the largest rms is at most so many 2^E: 2^E / rms then has 20 units of 2^-15
LEAST_SQUARES = 2.0**-22  #: of t, in a window: 16 units of 2^-26
MOST_CELLS = 16  #: log2, of SiLU's window
MOST_BINS = 8  #: log2, of the scores': they are exact modulo 2^10 log2 units
LEAST_BITS = 8  #: of a matrix
LOST_BITS = 6  #: of a gate's or the head's matrix, for room; the others round it to 0.5 % of its deviation
SILU_BITS = 8
LOWEST_CELLS = 8
SMALLEST_TOP = 5
#: (log2 of the cell's width, degree)
SILU_CELLS = ((-2, 3), (-1, 3), (0, 4))


@dataclass
class Seen:
    """What calibration saw: ranges by (section, name), the largest words and the expected number of wraps."""

    low: dict[Key, float] = field(default_factory=dict)
    high: dict[Key, float] = field(default_factory=dict)
    squares: dict[Key, tuple[float, int]] = field(default_factory=dict)
    peak: dict[Key, float] = field(default_factory=dict)  #: of a word that is truncated
    kept: dict[Key, list[Real]] = field(default_factory=dict)  #: of norms, Σ x² of each row; the row maxima of scores
    wraps: float = 0.0

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """Add Σ |z| / 2^64 and the sum of squares."""
        self._add(section, name, values)
        sizes = np.abs(values)
        self.wraps += float(sizes.sum()) * 2.0 ** (bits - 64)
        peak = float(sizes.max(initial=0.0)) * 2.0**bits
        self.peak[section, name] = max(self.peak.get((section, name), 0.0), peak)

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """Widen a range."""
        if values.size:
            key = (section, name)
            self.low[key] = min(self.low.get(key, np.inf), float(values.min()))
            self.high[key] = max(self.high.get(key, -np.inf), float(values.max()))
            if name == "logit":
                self._add(section, name, values)
            elif name == "max" or name.endswith("norm"):
                self.kept.setdefault(key, []).append(values.reshape(-1))

    def _add(self, section: int, name: str, values: Real) -> None:
        total, count = self.squares.get((section, name), (0.0, 0))
        self.squares[section, name] = (total + float(np.square(values).sum()), count + values.size)

    def all(self, key: Key) -> Real:
        """Every value of that name that was kept."""
        return np.concatenate(self.kept[key])

    def rms(self, key: Key) -> float:
        """Of all values of that name."""
        total, count = self.squares[key]
        return sqrt(total / max(count, 1))

    def and_(self, other: "Seen") -> "Seen":
        """The ranges and largest words of both."""
        low = {key: min(self.low.get(key, np.inf), other.low.get(key, np.inf)) for key in self.low | other.low}
        high = {key: max(self.high.get(key, -np.inf), other.high.get(key, -np.inf)) for key in self.high | other.high}
        peak = {key: max(self.peak.get(key, 0.0), other.peak.get(key, 0.0)) for key in self.peak | other.peak}
        return Seen(low, high, peak=peak)


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
        "reciprocal": wide_window(2.0**-OVERSHOOT, 4.0 * 2**17, 20),
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
    return int(np.clip(floor(log2(rms) - log2(seen.rms((section, name)) + 2.0**-20)), 0, 6))


def measured(
    spec: ModelSpec,
    weights: Callable[[str], Real],
    texts: Sequence[Sequence[int]],
    progress: Callable[[int], None],
    say: Callable[[str], None] = lambda sentence: None,
) -> ModelSpec:
    """A provisional spec with the windows, exponents and bits that the texts and the embedding's rows ask for, and its wrap
    budget a token.

    The budget is that of every third text, seen a second time: exponents and extra bits are part of the products' scales.
    `say` is told what the model's owner should know.

    Raises:
        ValueError, OverflowError: no windows fit what is computed on the texts.
    """
    rows = rows_of(spec, weights("embed"))
    usual, done = observe(spec, weights, texts, progress)
    rare, _ = observe(spec, weights, rows.texts, lambda more: progress(done))
    found = calibrated(spec, usual, rare, rows, longest_row(weights("head")))
    again, tokens = observe(found, weights, texts[::3], lambda more: None)
    unusual, others = observe(found, weights, rows.texts, lambda more: None)
    if unusual.wraps > RARE_WRAP_LIMIT * max(others, 1):
        raise ValueError(f"an unusual token would be garbled with probability {unusual.wraps / others:.2g}, 2^-8 at most")
    seen = usual.and_(rare)
    seen.peak = again.and_(unusual).peak
    if refused := complaint(found, seen, USE_LIMIT):
        raise ValueError(refused)
    if blurred := rows.blurred(found):
        say(blurred)
    use = window_use(found, seen)
    tightest = table_name(spec, max(use, key=lambda key: use[key]))
    return found.model_copy(update={"wrap_budget": again.wraps / max(tokens, 1), "tightest": tightest})


def longest_row(matrix: Real) -> float:
    """The largest length of a row."""
    return sqrt(float(np.einsum("ij,ij->i", matrix, matrix).max()))


def calibrated(
    spec: ModelSpec, usual: Seen, rare: Seen | None = None, rows: EmbeddingRows | None = None, head_row: float | None = None
) -> ModelSpec:
    """The spec with the windows, exponents and bits that text, unusual tokens, the embedding's rows and the head's longest row
    ask for; without a wrap budget (`measured`).

    Raises:
        ValueError: there are none.
    """
    rare = rare or Seen()
    seen = usual.and_(rare)
    spec = spec.model_copy(update={"scales": _scales(spec, rows)})
    found = _scores(spec, usual, rare)
    found["levels"], levels = _levels(spec, usual, seen, found["score_bottom"], found["score_n"])
    bits, layers = dict(spec.weight_bits), []
    for section in range(1, spec.layers + 1):
        gate = f"{section - 1}.gate"
        silu, bits[gate] = _silu(spec, usual, rare, section)
        layers.append(
            LayerSpec(
                attention_norm=_norm(spec, usual, rare, (section, "attention_norm"), rows if section == 1 else None),
                mlp_norm=_norm(spec, usual, rare, (section, "mlp_norm")),
                silu=silu,
                value_extra=_extra(usual, section, "v", 0.5),
                ffn_extra=_extra(usual, section, "ffn", 1.0),
                level=levels[section - 1],
            )
        )
    bits["head"] = _head_bits(spec, usual, rare, head_row)
    final = _norm(spec, usual, rare, (spec.layers + 1, "final_norm"))
    reciprocal = wide_window(2.0**-OVERSHOOT, 4.0 * spec.context, spec.scales.probability)
    found |= {"layer": tuple(layers), "final_norm": final, "weight_bits": bits, "reciprocal": reciprocal}
    whole = spec.model_dump() | found
    return ModelSpec.model_validate(whole)


def _reach(usual: Seen, rare: Seen, key: Key, margin: float, rare_margin: float) -> tuple[float, float]:
    """The range of text and of unusual tokens, each with its margin, 0 within it."""
    lows = margin * usual.low[key], rare_margin * rare.low.get(key, 0.0)
    highs = margin * usual.high[key], rare_margin * rare.high.get(key, 0.0)
    return min(*lows, 0.0), max(*highs, 0.0)


def _exponent(spec: ModelSpec, usual: Seen, rare: Seen, key: Key, rows: EmbeddingRows | None) -> int:
    """E: 2^E is the smallest rms of text, or less where rows are shorter, so that t = x / 2^E and 2^E / rms lose alike."""
    d, eps = spec.d_model, spec.rms_eps
    shortest = min(usual.low[key], rare.low.get(key, np.inf), np.inf if rows is None else rows.lowest)
    middle = float(np.median(usual.all(key))) / d
    usually = sqrt(middle + eps)
    smallest = max(sqrt(usual.low[key] / d + eps), usually / 16)
    even = usually * min(sqrt(shortest / d + eps), sqrt(middle))
    return floor(log2(min(smallest, sqrt(even))))


def _norm(spec: ModelSpec, usual: Seen, rare: Seen, key: Key, rows: EmbeddingRows | None = None) -> Norm:
    """Its window holds the Σ x² of text and of unusual tokens, with their margins, and those of all `rows`."""
    d, eps = spec.d_model, spec.rms_eps
    lows = [LOW_MARGIN**2 * usual.low[key], RARE_LOW**2 * rare.low.get(key, np.inf)]
    highs = [REACH_MARGIN**2 * usual.high[key], RARE_REACH**2 * rare.high.get(key, 0.0)]
    if rows is not None:
        lows.append(rows.lowest / ROW_MARGIN**2)
        highs.append(rows.highest * ROW_MARGIN**2)
    exponent = _exponent(spec, usual, rare, key, rows)
    unit = 4.0**exponent
    largest = sqrt(max(highs) / d / unit) / REACH_MARGIN
    if largest > BLURRED:
        where, span = place(table_name(spec, key)), f"{sqrt(min(lows) / d):.2g} to {largest * sqrt(unit):.2g}"
        raise ValueError(f"{where} meets rows of an rms from {span}, too far apart for one window")
    low = max(min(lows), d * eps / NEGLIGIBLE) / unit
    return Norm(exponent=exponent, window=wide_window(max(low, LEAST_SQUARES), max(highs) / unit, 2 * spec.scales.norm))


def _silu(spec: ModelSpec, usual: Seen, rare: Seen, section: int) -> tuple[Silu, int]:
    """The window, and the gate's bits: fewer where it would not end within the 40 that are opened."""
    low, high = _reach(usual, rare, (section, "silu"), REACH_MARGIN, RARE_REACH)
    reach, wanted = max(-low, high, REACH_MARGIN / 2), spec.weight_bits[f"{section - 1}.gate"]
    if (n := ceil(log2(2 * reach))) > MOST_CELLS:
        raise ValueError(f"layer {section - 1}: SiLU's window over ±{reach:.4g} takes 2^{n} cells, 2^{MOST_CELLS} at most")
    silu = silu_window(reach, spec.scales.hidden + wanted)
    bits = wanted - max(0, silu.window.lo + silu.window.n - LOW_BITS)
    if bits < max(wanted - LOST_BITS, LEAST_BITS):
        raise ValueError(f"layer {section - 1}: SiLU's window over ±{reach:.4g} would leave {bits} bits to the gate's matrix")
    return silu_window(reach, spec.scales.hidden + bits), bits


def _head_bits(spec: ModelSpec, usual: Seen, rare: Seen, row: float | None) -> int:
    """Bits with which no residual's logit leaves its opening: a norm's output is at most sqrt(d) long.

    Where a single long row would cost the others their accuracy, 4 times the largest logit that was seen must do.
    """
    key, wanted = (spec.layers + 1, "logit"), spec.weight_bits["head"]
    room = LOW_BITS - 1 - spec.scales.hidden
    low, high = _reach(usual, rare, key, REACH_MARGIN, RARE_REACH)
    seen = min(wanted, room - ceil(log2(max(-low, high, 1.0))))
    sure = seen if row is None else min(wanted, room - ceil(log2(max(1.02 * row * sqrt(spec.d_model), 1.0))))
    least = ceil(log2(300 * sqrt(spec.d_model + 64) / max(usual.rms(key), 2.0**-20)))  # 0.1 % of the logits' size
    bits = sure if sure >= min(least, wanted) else max(sure, min(seen, least))
    if bits < max(LEAST_BITS, min(wanted, least) - 4):
        raise ValueError(
            f"logits from {usual.low[key]:.4g} to {usual.high[key]:.4g} would leave {bits} bits to the head's matrix"
        )
    return bits


def _scales(spec: ModelSpec, rows: EmbeddingRows | None) -> Scales:
    """More bits of 1/Σ for contexts of more than 2048 keys, and of the residual for short rows of the embedding."""
    b = spec.scales
    bits = {"reciprocal": b.reciprocal + max(0, ceil(log2(spec.context / 2048)))}
    return b.model_copy(update=bits | ({} if rows is None else {"residual": rows.residual}))


def _scores(spec: ModelSpec, usual: Seen, rare: Seen) -> dict[str, Any]:
    """Bins of the scores and cells of the exponential: the spec's own where they do, else as few as do."""
    ranges = {}
    for name in ("score", "exp"):
        layers = [_reach(usual, rare, (s, name), SCORE_MARGIN, RARE_SCORE) for s in range(1, spec.layers + 1)]
        ranges[name] = min(low for low, _ in layers) / 4, max(high for _, high in layers) / 4
    bottom, n = _bins(*ranges["score"], spec.score_bottom, spec.score_n)
    over = OVERSHOOT / 4
    exp_bottom, exp_n = _bins(ranges["exp"][0] - over, 1 + over, spec.exp_bottom, spec.exp_n)
    return {"score_bottom": bottom, "score_n": n, "exp_bottom": exp_bottom, "exp_n": exp_n}


def _bins(low: float, high: float, bottom: int, n: int) -> tuple[int, int]:
    """(lowest, log2 of the number) of bins that hold [low, high] and a last one, which is lost; the widest if none do."""
    if bottom <= low and high <= bottom + (1 << n) - 1:
        return bottom, n
    first, count = floor(low), ceil(high) - floor(low) + 1
    n = min(max(n, ceil(log2(count))), MOST_BINS)
    if count > 1 << n:
        return max(-(1 << n), min(ceil(high) + 1 - (1 << n), 0)), n
    return first - ((1 << n) - count) // 2, n


def _levels(spec: ModelSpec, usual: Seen, seen: Seen, bottom: int, n: int) -> tuple[int, list[int]]:
    """How many levels, and each layer's lowest one, centred on the row maxima of text, or of all that was seen where that is
    more than the fewest levels hold.
    """
    sections = range(1, spec.layers + 1)
    ranges = [(seen.low[s, "max"], seen.high[s, "max"]) for s in sections]
    bulk = [tuple(np.quantile(usual.all((s, "max")), BULK)) for s in sections]
    middles = [usual.low[s, "max"] + usual.high[s, "max"] for s in sections]
    last = bottom + (1 << n) - 1
    for levels in range(LEVELS, MOST_LEVELS + 4, 4):
        lowest = [int(np.clip(round(middle / 8) - levels // 2, bottom, last - levels)) for middle in middles]
        if _held(lowest, levels, ranges, LEVEL_MARGIN, 1.0):
            break
        few = levels == LEVELS and _held(lowest, levels, bulk, BULK_MARGIN, 1.0)
        if few and _held(lowest, levels, ranges, 1.0, USE_LIMIT):
            break
        middles = [low + high for low, high in ranges]
    return levels, lowest


def _held(lowest: Sequence[int], levels: int, ranges: Sequence[tuple[float, ...]], margin: float, limit: float) -> bool:
    """Whether the levels hold each layer's range, made longer by the margin."""
    for level, (low, high) in zip(lowest, ranges, strict=True):
        middle, half = (low + high) / 2, margin * (high - low) / 2
        if level_use(level, levels, middle - half, middle + half) > limit:
            return False
    return True


def weight_bits(deviations: Mapping[str, float]) -> dict[str, int]:
    """Bits of each matrix so that its standard deviation is 2^12 to 2^13 units: its rounding then limits nothing."""
    return {name: int(np.clip(floor(13 - log2(max(d, 2.0**-20))), 12, 20)) for name, d in deviations.items()}
