"""The program's tensors against the definition, by computing with both."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.open import open_checkpoint
from engine.provision.fold import iter_tensors, tensor_shapes
from tests.models import small_llama
from tests.models.small_llama import SmallLlama

WIDE_HEADS = replace(small_llama.UNTIED, head_dim=16, layers=1)


@pytest.mark.parametrize("model", [small_llama.UNTIED, small_llama.TIED, WIDE_HEADS])
def test_names_and_shapes_are_those_listed_without_loading(model: SmallLlama, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_huggingface(model, tmp_path))
    made = [(name, values.shape) for name, values in iter_tensors(checkpoint)]
    assert made == tensor_shapes(checkpoint.shape)


def test_shapes_of_the_small_model(tmp_path: Path) -> None:
    shape = open_checkpoint(small_llama.write_huggingface(WIDE_HEADS, tmp_path)).shape
    assert tensor_shapes(shape) == [
        ("embed", (307, 48)),
        ("0.qkv", (64 + 32 + 32, 48)),
        ("0.o", (48, 64)),
        ("0.gate", (100, 48)),
        ("0.up", (100, 48)),
        ("0.down", (48, 100)),
        ("head", (307, 48)),
    ]


@pytest.mark.parametrize("model", [small_llama.UNTIED, small_llama.TIED])
def test_folded_matrices_read_a_norm_without_gain(model: SmallLlama, tmp_path: Path) -> None:
    folded = dict(iter_tensors(open_checkpoint(small_llama.write_huggingface(model, tmp_path))))
    raw = {name: np.float64(values) for name, values in small_llama.tensors(model).items()}
    x = np.linspace(-1.0, 2.0, model.d_model)
    wide, small = 48, 24
    for layer in range(model.layers):
        own = {n: raw[f"model.layers.{layer}.{n}.weight"] for n in LAYER}
        normed = x * own["input_layernorm"]
        q, k, v = np.split(folded[f"{layer}.qkv"] @ x, [wide, wide + small])
        # Scores q . k are in log2 units: 2^(q . k) = e^(W_q h . W_k h / sqrt(head_dim))
        true_q = own["self_attn.q_proj"] @ normed / math.log(2.0) / math.sqrt(model.head_dim)
        np.testing.assert_allclose(q, true_q, rtol=1e-12)
        np.testing.assert_allclose(k, own["self_attn.k_proj"] @ normed, rtol=1e-12)
        np.testing.assert_allclose(v, own["self_attn.v_proj"] @ normed, rtol=1e-12)
        np.testing.assert_array_equal(folded[f"{layer}.o"], own["self_attn.o_proj"])
        normed = x * own["post_attention_layernorm"]
        for name in ("gate", "up"):
            expected = own[f"mlp.{name}_proj"] @ normed
            np.testing.assert_allclose(folded[f"{layer}.{name}"] @ x, expected, rtol=1e-12)
        np.testing.assert_array_equal(folded[f"{layer}.down"], own["mlp.down_proj"])
    np.testing.assert_array_equal(folded["embed"], raw["model.embed_tokens.weight"])
    head = raw["model.embed_tokens.weight" if model.tied else "lm_head.weight"]
    np.testing.assert_allclose(folded["head"] @ x, head @ (x * raw["model.norm.weight"]), rtol=1e-10)
    assert all(values.dtype == np.float64 for values in folded.values())


LAYER = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
