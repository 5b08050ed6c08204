"""``python -m benchmarks alarm [--model DIRECTORY]``: what an alarm for values outside windows would cost a token, exact.

Nothing of it is built: docs/protocol.md says how each indicator works, `tests/benchmarks/test_alarm.py` plays them. Each is an
XOR share of one bit, made of bits that the evaluators hold, for the 16-bit word that is opened anyway: nothing more is opened.

    own cells: a window's outer cells are forbidden, or a point function's leaves: nothing is dealt
    coarse: one-hot bits of ρ's top bits as well, all above cells of an eighth of SiLU's window, or of 16 log2 units
    doubled: one bit more of the window, whose other half is forbidden
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import Shape, bare
from engine.functions.tables import WideWindow, Window
from engine.models.config import ModelSpec
from engine.models.limits import LOW_BITS
from engine.models.planning import plans
from engine.program.plan import dealt_bytes
from engine.provision.calibrate import silu_window
from engine.rows.run import Rows

KEYS = 128
SEVEN = Shape("LLaMA-7B", 4096, 11008, 32, 32, 32, 32000, context=2048)
REACH = 64.0  #: of its SiLU windows, supposed
EIGHTH = 3  #: log2 of the coarse cells in a SiLU window
BINS = 2  #: log2 of the cells of 4 in a coarse one of the scores


@dataclass(frozen=True, slots=True)
class Cost:
    """One indicator's."""

    window: str
    how: str
    values: int  #: a token
    dealt: int  #: bytes a token more, to both nodes


def dealt(spec: ModelSpec, keys: int) -> int:
    """Bytes that are dealt to both nodes for a token that sees `keys` keys."""
    made, row = plans(spec), Rows(0, keys - 1, 1)
    return sum(dealt_bytes(made, row, role) for role in (1, 2))


def costs(spec: ModelSpec, keys: int) -> Iterator[Cost]:
    """Each indicator that deals something; "doubled" as the difference of two plans."""
    now, scores = dealt(spec, keys), spec.layers * spec.heads * keys
    values = {
        "silu": spec.layers * spec.d_ffn,
        "score": scores,
        "exp": scores,
        "reciprocal": spec.layers * spec.heads,
        "norms": 2 * spec.layers + 1,
    }
    turned = (spec.heads + spec.kv_heads) * spec.head_dim
    yield Cost("silu", "coarse", values["silu"], sum(spec.d_ffn * coarse_bits(layer.silu.window) // 8 for layer in spec.layer))
    yield Cost("exp", "coarse", scores, scores * coarse_scores(spec) // 8)
    yield Cost("q and k", "top two bits", spec.layers * turned, spec.layers * 3 * 8 * -(-turned // 64))
    for window, count in values.items():
        yield Cost(window, "doubled", count, dealt(doubled(spec, window), keys) - now)


def coarse_bits(window: Window) -> int:
    """Coarse one-hot bits of a SiLU argument, over all that is opened of it; whole bytes."""
    return max(8, 1 << (LOW_BITS - window.lo - window.n + EIGHTH))


def coarse_scores(spec: ModelSpec) -> int:
    """The same of a score less its maximum."""
    return max(8, 1 << (spec.scales.narrow - spec.scales.score - 2 - BINS))


def doubled(spec: ModelSpec, window: str) -> ModelSpec:
    """The spec with one bit more of that window.

    Raises:
        ValueError: what is opened has no room for it.
    """
    plain = spec.model_dump()
    if window in ("score", "exp"):
        n = plain[f"{window}_n"]
        plain |= {f"{window}_n": n + 1, f"{window}_bottom": plain[f"{window}_bottom"] - (1 << (n - 1))}
    elif window == "silu":
        for layer in plain["layer"]:
            own = layer["silu"]["window"]
            own |= {"n": own["n"] + 1, "lowest": 2 * own["lowest"]}
    elif window == "reciprocal":
        plain["reciprocal"] = _longer(spec.reciprocal)
    else:
        plain["final_norm"]["window"] = _longer(spec.final_norm.window)
        for layer, own in zip(plain["layer"], spec.layer, strict=True):
            layer["attention_norm"]["window"] = _longer(own.attention_norm.window)
            layer["mlp_norm"]["window"] = _longer(own.mlp_norm.window)
    return ModelSpec.model_validate(plain)


def _longer(window: WideWindow) -> dict[str, Any]:
    """An octave more."""
    top, stages = (6, window.stages) if window.top == 5 else (5, window.stages + 1)
    return window.model_dump() | {"top": top, "stages": stages}


def seven() -> ModelSpec:
    """A 7B model's metadata, with windows as they are by default and SiLU's over ±`REACH`."""
    spec = bare(SEVEN, 1)
    layers = []
    for i, layer in enumerate(spec.layer):
        silu = silu_window(REACH, spec.scales.hidden + spec.weight_bits[f"{i}.gate"])
        layers.append(layer.model_copy(update={"silu": silu}).model_dump())
    return ModelSpec.model_validate(spec.model_dump() | {"layer": layers})


def lines(spec: ModelSpec, keys: int = KEYS) -> list[str]:
    """The table as Markdown."""
    now = dealt(spec, keys)
    out = [f"{spec.name} at {keys} keys, {now / 1e6:.3f} MB dealt a token:", "", "| window | indicator | values | kB more | |"]
    out.append("|---|---|---|---|---|")
    for cost in costs(spec, keys):
        out.append(f"| {cost.window} | {cost.how} | {cost.values:,} | {cost.dealt / 1e3:.1f} | {cost.dealt / now:.2%} |")
    return [*out, ""]


def both(model: Path | None) -> list[str]:
    """The tables of a shared model (None: the demo's, shared here if it was not) and of the 7B shape."""
    from engine.provision.pack import load_client_model

    if model is None:
        from app.demo.demo_model import ensure_demo_model

        model = ensure_demo_model()
    return [*lines(load_client_model(model / "client").spec), *lines(seven())]
