"""What a model's metadata may say: nothing that would leave its bits."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.functions.tables import WideWindow, Window
from engine.models.config import ModelSpec
from tests.engine.trio import small_model


def changed(**changes: Any) -> dict[str, Any]:
    return small_model().spec.model_dump() | changes


def bits(**changes: int) -> dict[str, int]:
    return small_model().spec.weight_bits | {name.replace("_", "."): value for name, value in changes.items()}


def layers(**changes: Any) -> list[dict[str, Any]]:
    """The layers, the middle one with these changes."""
    first, middle, last = small_model().spec.model_dump()["layer"]
    return [first, middle | changes, last]


def silu(lo: int, n: int) -> dict[str, Any]:
    return {"window": Window(lo=lo, n=n, lowest=-(1 << (n - 1))), "degree": 4}


def scales(**changes: int) -> dict[str, Any]:
    return small_model().spec.scales.model_dump() | changes


def test_what_calibration_makes_is_held() -> None:
    assert ModelSpec.model_validate(changed()) == small_model().spec


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"layer": layers(silu=silu(31, 10))}, "layer 1: SiLU's window ends at bit 41"),
        ({"layer": layers(silu=silu(34, 8))}, "layer 1: SiLU's window ends at bit 42"),
        ({"weight_bits": bits(head=22)}, "head: 22 bits leave no room for a logit of 2\\^5; 21 at most"),
        ({"weight_bits": bits(head=20), "scales": scales(hidden=14, rsqrt=14) | {"final_rsqrt": 17}}, None),
        ({"score_n": 8, "score_bottom": -128, "scales": scales(rsqrt=16)}, "the scores' window ends at bit 34"),
        ({"exp_n": 8, "exp_bottom": -240, "scales": scales(rsqrt=16)}, "the exponential's window ends at bit 34"),
        ({"exp_bottom": -64}, "the exponential's window from -256 to -4"),
        ({"exp_bottom": -6}, "the exponential's window from -24"),
        ({"layer": layers(level=-49)}, "layer 1: levels -49 to"),
        ({"layer": layers(level=15)}, "layer 1: levels 15 to"),
        ({"score_bottom": -10, "layer": layers(level=-11)}, "layer 1: levels -11 to"),
        ({"reciprocal": WideWindow(lo=9, top=5, stages=4, low=2.0**-8)}, "the reciprocal's window"),
        ({"reciprocal": WideWindow(lo=12, top=6, stages=7, low=2.0**-5)}, "the reciprocal's window"),
        ({"weight_bits": {"head": 16}}, "weight_bits: 0.down is missing"),
        ({"weight_bits": bits(x_y=16)}, "weight_bits: x.y is missing or has no place"),
        ({"weight_bits": bits(**{"1_down": 8})}, None),
        ({"weight_bits": bits(**{"1_o": 8}), "scales": scales(residual=21)}, "layer 1: a matrix of too few bits"),
        ({"scales": scales(probability=40)}, "mixed values take"),
        ({"prefix": (1, 5, 400)}, "the public prefix"),
        ({"kv_heads": 3}, "4 heads of 12 cannot share 3 key heads"),
        ({"tightest": "1.score\n"}, "String should match"),
        ({"layer": layers()[:2]}, "it describes 2 of its 3 layers"),
    ],
)
def test_metadata_that_would_leave_its_bits_is_refused(change: dict[str, Any], what: str | None) -> None:
    if what is None:
        ModelSpec.model_validate(changed(**change))
        return
    with pytest.raises(ValidationError, match=what):
        ModelSpec.model_validate(changed(**change))
