"""How much of each window and of each word was used, and the sentence that refuses what does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.functions.tables import WideWindow
from engine.models.config import ModelSpec
from engine.models.limits import LOW_BITS, OVERSHOOT, WORD_BITS
from engine.parties.retry import place
from engine.provision.unseen_tokens import NEGLIGIBLE

if TYPE_CHECKING:
    from engine.provision.calibrate import Seen

Key = tuple[int, str]


def window_use(spec: ModelSpec, seen: Seen) -> dict[Key, float]:
    """How much of each window was used, by (section, name): 1 is its edge; above 1 a value wraps into a wrong cell.

    Of the row maxima, how far they lie beyond the tested levels, over how far they may; under "word", the largest word that
    is truncated over the largest that the wrap alarm sees.
    """
    use = {key: _use(spec, key, seen.low[key], high) for key, high in seen.high.items()}
    for (section, _), word in seen.peak.items():
        use[section, "word"] = max(use.get((section, "word"), 0.0), word * 2.0**-WORD_BITS)
    return use


def _use(spec: ModelSpec, key: Key, low: float, high: float) -> float:
    section, name = key
    layer = spec.layer[section - 1] if 1 <= section <= spec.layers else None
    if name == "score":
        return _cyclic_use(spec.score_bottom, spec.score_n, low, high)
    if name == "exp":
        return _cyclic_use(spec.exp_bottom, spec.exp_n, low, high)
    if name == "narrow":
        return max(-low, high) / 2.0 ** (spec.scales.narrow - 1 - spec.scales.activation)
    if name == "logit":
        return max(-low, high) / logit_room(spec)
    if name == "reciprocal":
        return _wide_use(spec.reciprocal, low, high, spec.scales.probability)
    if name == "max" and layer is not None:
        return level_use(layer.level, spec.levels, low, high)
    if name == "silu" and layer is not None:
        window = layer.silu.window
        reach = -window.lowest * 2.0 ** (window.lo - spec.scales.hidden - spec.weight_bits[f"{section - 1}.gate"])
        return max(-low, high) / reach
    norm = spec.final_norm if layer is None else getattr(layer, name)
    unit, least = 4.0**norm.exponent, spec.d_model * spec.rms_eps / NEGLIGIBLE
    return _wide_use(norm.window, max(low, least) / unit, high / unit, 2 * spec.scales.norm)


def _cyclic_use(bottom: int, n: int, low: float, high: float) -> float:
    """Of a window of cells of 4 around 0; the last one is lost to a borrow."""
    return max(low / (4 * bottom) if bottom else float(low < 0), high / (4 * (bottom + (1 << n) - 1)))


def _wide_use(window: WideWindow, low: float, high: float, scale: int) -> float:
    """Use of the window's reach; above 1 if a value is below what the tables follow."""
    return max(high * 2.0**scale / window.end, 0.0 if low >= window.low else window.low / max(low, 1e-300))


def level_use(level: int, levels: int, low: float, high: float) -> float:
    """How far a row's maxima lie outside the tested levels, over the 8 log2 units that the softmax takes up."""
    return max(high - 4 * (level + levels), 4 * level - low, 0.0) / OVERSHOOT


def logit_room(spec: ModelSpec) -> float:
    """The first logit that its opening has no room for."""
    return float(2.0 ** (LOW_BITS - 1 - spec.scales.hidden - spec.weight_bits["head"]))


def table_name(spec: ModelSpec, key: Key) -> str:
    """LAYER.NAME, or NAME of what belongs to no layer."""
    section, name = key
    return f"{section - 1}.{name}" if 1 <= section <= spec.layers else name


def complaint(spec: ModelSpec, seen: Seen, limit: float) -> str | None:
    """A sentence on the window that is used most, if that is beyond `limit`."""
    if max(window_use(spec, seen).values()) <= limit:
        return None
    return f"{fullest(spec, seen)}, {limit:.0%} at most; Trine cannot run this checkpoint"


def fullest(spec: ModelSpec, seen: Seen) -> str:
    """Which window is used most, by what, and how much of it."""
    use = window_use(spec, seen)
    key = max(use, key=lambda k: use[k])
    at = "" if key not in seen.high else f" from {seen.low[key]:.4g} to {seen.high[key]:.4g}"
    unit = " log2 units" if at and key[1] in ("score", "exp", "max") else ""
    return f"{place(table_name(spec, key))} go{at}{unit}, {use[key]:.0%} of the window"
