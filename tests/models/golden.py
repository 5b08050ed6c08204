"""The golden files: what transformers and torch computed once (scripts/golden/make_golden.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.models import small_llama

FOLDER = Path(__file__).parent / "golden"
SMALL = {"untied": small_llama.UNTIED, "tied": small_llama.TIED}


@dataclass(frozen=True)
class SmallCase:
    """One prompt on a small model, computed in float64."""

    prompt: str
    tokens: list[int]
    """Of the prompt; it stands at position 0, nothing before it."""
    rows: list[int]
    """The rows whose logits are kept."""
    logits: NDArray[np.float32]
    """[len(rows), vocab]"""
    greedy: list[int]
    """The next 32 tokens, none of them stops."""


@dataclass(frozen=True)
class RealCase:
    """SmolLM2-135M-Instruct (Q4_1, dequantised), computed in float32."""

    strings: list[tuple[str, list[int]]]
    """Texts and their token ids, special tokens recognised, nothing added."""
    question: str
    chat_text: str
    """The question in the chat template, ready for an answer."""
    chat_tokens: list[int]
    greedy: list[int]
    """The greedy answer, with the token that ends it."""
    answer: str
    top_tokens: list[int]
    """The likeliest first tokens of the answer, best first."""
    top_logits: list[float]
    logits_mean: float
    """Of all logits of that row, as the next."""
    logits_spread: float


@cache
def small_cases(name: str) -> tuple[SmallCase, ...]:
    """The prompts of the small model ``name``, a key of `SMALL`."""
    with np.load(FOLDER / f"small_{name}.npz") as arrays:
        return tuple(
            SmallCase(**case, logits=arrays[f"logits_{index}"])
            for index, case in enumerate(_json(f"small_{name}.json")["cases"])
        )


def small_digest(name: str) -> str:
    """`small_llama.digest` of the weights that the figures hold for."""
    fingerprint: str = _json(f"small_{name}.json")["weights"]
    return fingerprint


def small_chat_tokens(name: str) -> list[int]:
    """The user's "hi" in the small model's chat template, ready for an answer."""
    tokens: list[int] = _json(f"small_{name}.json")["chat_tokens"]
    return tokens


@cache
def real_case() -> RealCase:
    """The demo model's answer."""
    value = _json("smollm2_135m.json")
    strings = [(text, ids) for text, ids in value.pop("strings")]
    del value["versions"], value["file"]
    return RealCase(strings=strings, **value)


def _json(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return value
