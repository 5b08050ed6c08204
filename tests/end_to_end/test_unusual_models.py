"""Small models whose numbers are unlike a usual one's, shared and run: right, or refused in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.open import open_checkpoint
from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.parties.trio import Trio
from engine.provision.check import Accuracy, check
from engine.provision.pack import load_client_model, load_node_pack
from engine.provision.share import ShareOptions, share
from engine.provision.weights import WeightSource
from engine.provision.window_use import window_use
from tests.models import small_llama
from tests.models.small_llama import TIED, UNTIED, SmallLlama

Tensors = dict[str, NDArray[np.float32]]
Change = Callable[[Tensors], None]

EMBEDDING = "model.embed_tokens.weight"
UNUSUAL = tuple(range(70, 100))
"""Tokens that calibration's texts never hold, and the checked ones do."""
RIGHT, ROW = 0.01, 0.05
"""Of the logits' spread: their error's root mean square, and that of the worst row. A usual model has 0.0011 and 0.0024."""


def times(factor: float, *names: str) -> Change:
    def change(tensors: Tensors) -> None:
        for name in names:
            tensors[name] = tensors[name] * np.float32(factor)

    return change


def layer(index: int, name: str) -> str:
    return f"model.layers.{index}.{name}.weight"


def rows(factors: Mapping[int, float]) -> Change:
    def change(tensors: Tensors) -> None:
        for token, factor in factors.items():
            tensors[EMBEDDING][token] *= np.float32(factor)

    return change


def reserved(length: float) -> Change:
    """Rows as of tokens that nobody ever trained: zeros, or noise of that rms."""

    def change(tensors: Tensors) -> None:
        shape = tensors[EMBEDDING][70:100].shape
        tensors[EMBEDDING][70:100] = length * np.random.default_rng(1).standard_normal(shape)

    return change


def written(path: Path, change: Change, model: SmallLlama = UNTIED) -> Checkpoint:
    directory = small_llama.write_huggingface(model, path / "checkpoint")
    tensors = {name: values.copy() for name, values in small_llama.tensors(model).items()}
    change(tensors)
    small_llama.write_safetensors(tensors, "float32", directory / "model.safetensors")
    return open_checkpoint(directory)


def some(seed: int, length: int, among: Sequence[int]) -> list[int]:
    return np.random.default_rng(seed).choice(np.array(among), length).tolist()


def shared(path: Path, checkpoint: Checkpoint, said: list[str] | None = None) -> ModelSpec:
    usual = [token for token in range(3, 307) if token not in UNUSUAL]
    options = ShareOptions("unusual", 256, [some(i, 60, usual) for i in range(6)], [1, 5, 6], [2])
    return share(checkpoint, path / "shared", options, say=(said if said is not None else []).append)


def checked(path: Path, checkpoint: Checkpoint, spec: ModelSpec, text: Sequence[int]) -> Accuracy:
    """The figures on one text, every window within its edge."""
    client = load_client_model(path / "shared" / "client")
    packs = [load_node_pack(path / "shared" / f"node{role}") for role in (1, 2)]

    def trio(context: int) -> Trio:
        return Trio(spec, client.seeds, packs, prefix=len(spec.prefix), context=context)

    accuracy, seen = check(trio, WeightSource(checkpoint), spec, [text])
    assert max(window_use(spec, seen).values()) <= 1
    return accuracy


def right(path: Path, change: Change, model: SmallLlama = UNTIED) -> ModelSpec:
    """Share and check on text of usual and of unusual tokens; returns the metadata."""
    checkpoint = written(path, change, model)
    spec = shared(path, checkpoint)
    text = some(9, 24, range(3, 307))
    for token in UNUSUAL[:16]:
        text += [token, *some(token, 1, range(3, 60))]
    accuracy = checked(path, checkpoint, spec, text)
    assert accuracy.logit_error < RIGHT
    assert accuracy.worst_row < ROW
    assert accuracy.redone == 0
    return spec


SHARP = times(4, layer(0, "self_attn.q_proj"))
LENGTHS = rows({70: 0.0, 71: 0.001, 72: 0.02, 73: 0.1, 74: 0.4, 75: 0.6, 76: 3.0, 77: 5.0, 78: 10.0, 79: 0.0})


def test_scores_that_reach_76(tmp_path: Path) -> None:
    spec = right(tmp_path, SHARP)
    assert spec.score_bottom * 4 <= -76
    assert (spec.score_bottom + (1 << spec.score_n)) * 4 >= 76


def test_rows_of_the_embedding_from_zero_to_ten_times_the_usual_length(tmp_path: Path) -> None:
    right(tmp_path, LENGTHS)


def test_arguments_of_silu_that_reach_400(tmp_path: Path) -> None:
    spec = right(tmp_path, times(45, layer(1, "mlp.gate_proj")))
    assert spec.layer[1].silu.window.n > 10
    assert spec.weight_bits["1.gate"] < spec.weight_bits["0.gate"]


MHA, MQA = replace(UNTIED, kv_heads=4), replace(UNTIED, kv_heads=1)
VARIANTS: dict[str, tuple[Change, SmallLlama]] = {
    "scores of 113": (times(6, layer(0, "self_attn.q_proj")), UNTIED),
    "keys in place of queries": (times(4, layer(0, "self_attn.k_proj")), UNTIED),
    "a later layer's scores": (times(4, layer(2, "self_attn.q_proj")), TIED),
    "every layer's scores": (times(4, *(layer(i, "self_attn.q_proj") for i in range(3))), UNTIED),
    "as many key heads": (SHARP, MHA),
    "one key head": (SHARP, MQA),
    "tied rows": (LENGTHS, TIED),
    "reserved rows of zeros": (reserved(0.0), UNTIED),
    "reserved rows of noise": (reserved(1e-4), UNTIED),
    "reserved rows of less noise, a smaller epsilon": (reserved(1e-5), replace(UNTIED, rms_eps=1e-6)),
    "a head of a thousandfold": (times(1000, "lm_head.weight"), UNTIED),
    "gains of 30": (times(30, layer(1, "post_attention_layernorm"), "model.norm.weight"), UNTIED),
    "arguments of SiLU of thousands": (times(1000, layer(2, "mlp.gate_proj")), UNTIED),
    "an embedding of a thousandth": (times(1e-3, EMBEDDING), UNTIED),
    "an embedding of a hundredfold": (times(100, EMBEDDING), TIED),
}


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_others_that_are_right(name: str, tmp_path: Path) -> None:
    right(tmp_path, *VARIANTS[name])


REFUSED = {
    "attention scores": (
        times(20, layer(1, "self_attn.q_proj")),
        r"layer 1's attention scores.* from -\d.* to \d.* log2 units",
    ),
    "gains of attention": (times(30, layer(0, "input_layernorm")), r"layer 0's attention scores.* log2 units"),
    "logits": (times(1e6, "lm_head.weight"), r"logits from -\d.* would leave \d bits"),
    "SiLU": (times(1e5, layer(0, "mlp.gate_proj")), r"layer 0: SiLU's window over ±\d.* takes"),
    "embedding": (times(1e-6, EMBEDDING), r"the embedding's usual row has an rms of 4\.\d+e-07"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_with_numbers_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    change, what = REFUSED[name]
    checkpoint = written(tmp_path, change)
    with pytest.raises(ModelError) as error:
        shared(tmp_path, checkpoint)
    assert re.search(what, str(error.value))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "shared").exists()


def test_rows_that_are_lost_beside_the_others_are_told(tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors[EMBEDDING] *= np.float32(1000)
        reserved(1e-3)(tensors)

    said: list[str] = []
    shared(tmp_path, written(tmp_path, change), said)
    (sentence,) = said
    assert re.match(r"the embedding rows of 30 tokens \(70, 71, .*, …\) are so much shorter", sentence)
