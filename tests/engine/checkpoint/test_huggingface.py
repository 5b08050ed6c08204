"""Hugging Face checkpoint directories: what they hold is read, what cannot be run is refused with one line."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.checkpoint import LlamaShape, checkpoint_shapes
from engine.checkpoint.huggingface import HuggingFaceCheckpoint
from engine.checkpoint.open import open_checkpoint
from engine.errors import ModelError
from tests.models import small_llama
from tests.models.small_llama import CHAT_TEMPLATE, TIED, UNTIED, write_json

ONE_LAYER = replace(UNTIED, layers=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return small_llama.write_huggingface(ONE_LAYER, tmp_path / "model")


def change(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None takes a key away."""
    value = json.loads(path.read_text()) | changes
    write_json(path, {key: part for key, part in value.items() if part is not None})


def message(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shape_and_template(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    assert checkpoint.shape == LlamaShape(
        vocab=307,
        d_model=48,
        layers=1,
        heads=4,
        kv_heads=2,
        head_dim=12,
        d_ffn=100,
        rope_theta=10000.0,
        rms_eps=1e-5,
        context=512,
        tied=False,
        bos_id=1,
        eos_ids=(2,),
        add_bos=False,
    )
    assert checkpoint.chat_template == CHAT_TEMPLATE
    assert checkpoint.path == directory
    assert checkpoint.tokenizer.encode("the").ids == [119, 261]


@pytest.mark.parametrize("model", [UNTIED, TIED])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_tensor_has_its_stored_value(model: small_llama.SmallLlama, shards: int, dtype: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_huggingface(model, tmp_path, dtype, shards))
    assert checkpoint.shape.tied is model.tied
    assert checkpoint_shapes(checkpoint.shape).keys() == small_llama.tensors(model).keys()
    for name, values in small_llama.tensors(model).items():
        stored = small_llama.stored_as(values, dtype)
        expected = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else stored
        read = checkpoint.tensor(name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, expected)


def test_bfloat16_keeps_eight_bits() -> None:
    values = np.array([1.0, -0.1, 3.14159, 1e-30], np.float32)
    back = (small_llama.stored_as(values, "bfloat16").astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(back, values, rtol=2**-8)


def test_a_tensor_that_the_model_does_not_have(directory: Path) -> None:
    with pytest.raises(KeyError):
        open_checkpoint(directory).tensor("model.layers.1.mlp.up_proj.weight")


def test_a_head_of_its_own_unties(directory: Path) -> None:
    change(directory / "config.json", tie_word_embeddings=True)
    assert open_checkpoint(directory).shape.tied is False


def test_defaults_of_old_configurations(directory: Path) -> None:
    absent = dict.fromkeys(["head_dim", "rope_theta", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings"])
    change(directory / "config.json", **absent, rope_scaling=None, bos_token_id=None, eos_token_id=None)
    shape = open_checkpoint(directory).shape
    assert (shape.head_dim, shape.rope_theta, shape.rms_eps, shape.context) == (12, 10000.0, 1e-6, 2048)
    assert (shape.tied, shape.bos_id, shape.eos_ids, shape.add_bos) == (False, None, (), False)


def test_rotary_base_of_transformers_5(directory: Path) -> None:
    change(directory / "config.json", rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    assert open_checkpoint(directory).shape.rope_theta == 5e5


def test_ends_of_both_files_once_each(directory: Path) -> None:
    change(directory / "config.json", eos_token_id=[0, 2])
    write_json(directory / "generation_config.json", {"eos_token_id": [2, 5]})
    assert open_checkpoint(directory).shape.eos_ids == (2, 5, 0)


def test_a_tokenizer_that_begins_text_says_so(directory: Path) -> None:
    process = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    change(directory / "tokenizer.json", post_processor=process)
    assert open_checkpoint(directory).shape.add_bos is True


def test_templates_by_name_and_in_a_file(directory: Path) -> None:
    words = directory / "tokenizer_config.json"
    change(words, chat_template=[{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}])
    assert open_checkpoint(directory).chat_template == "d"
    (directory / "chat_template.jinja").write_text("of the file")
    assert open_checkpoint(directory).chat_template == "of the file"
    (directory / "chat_template.jinja").unlink()
    words.unlink()
    assert open_checkpoint(directory).chat_template is None


def test_rotary_frequencies_of_old_checkpoints_are_left_out(tmp_path: Path) -> None:
    small_llama.write_huggingface(ONE_LAYER, tmp_path)
    more = small_llama.tensors(ONE_LAYER) | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(6, np.float32)}
    small_llama.write_safetensors(more, "float32", tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).shape.layers == 1


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gpt2"}, "model_type is 'gpt2'; only llama models can be shared"),
    ({"model_type": None}, "model_type is missing"),
    ({"attention_bias": True}, "attention_bias is true; biases are not supported"),
    ({"mlp_bias": True}, "mlp_bias is true; biases are not supported"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only silu is supported"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is not 1; every element must be rotated"),
    (
        {"quantization_config": {"bits": 4}},
        "quantized safetensors cannot be read; use the original, or a GGUF file",
    ),
    (
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_scaling is of type 'linear'; only plain rotary positions are supported",
    ),
    (
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}},
        "rope_parameters is of type 'llama3'; only plain rotary positions are supported",
    ),
    ({"rope_scaling": [1]}, "rope_scaling must be an object, not a list"),
    ({"hidden_size": None}, "hidden_size is missing"),
    ({"hidden_size": 10**9}, "hidden_size must be an integer from 1 to 262144, not 1000000000"),
    ({"num_hidden_layers": 0}, "num_hidden_layers must be an integer from 1 to 1024, not 0"),
    ({"num_attention_heads": 5, "head_dim": None}, "hidden_size 48 is not a multiple of its 5 heads"),
    ({"num_key_value_heads": 3}, "4 heads cannot share 3 key heads evenly"),
    ({"head_dim": 13}, "rotary positions need an even head width, not 13"),
    ({"vocab_size": "many"}, "vocab_size must be an integer from 1 to 1048576, not 'many'"),
    ({"bos_token_id": 307}, "bos_token_id must be a token id below 307, not 307"),
    ({"eos_token_id": [2, "x"]}, "eos_token_id must be a token id below 307, not 'x'"),
]


@pytest.mark.parametrize(("changes", "what"), CONFIGS)
def test_configurations_that_are_refused(changes: dict[str, Any], what: str, directory: Path) -> None:
    change(directory / "config.json", **changes)
    assert message(directory) == f"{directory / 'config.json'}: {what}"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"num_hidden_layers": 2}, "tensor model.layers.1.input_layernorm.weight is missing"),
        ({"intermediate_size": 99}, "tensor model.layers.0.mlp.gate_proj.weight must be 99 x 48, not 100 x 48"),
        ({"vocab_size": 306}, "the tokenizer knows token 306, the model only 306 tokens"),
        ({"vocab_size": 320}, "tensor model.embed_tokens.weight must be 320 x 48, not 307 x 48"),
    ],
)
def test_tensors_that_do_not_fit_the_configuration(changes: dict[str, Any], what: str, directory: Path) -> None:
    change(directory / "config.json", **changes)
    assert message(directory) == f"{directory}: {what}"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("model.layers.0.self_attn.q_proj.bias", "biases are not supported"),
        ("model.layers.0.self_attn.q_norm.weight", "has no place in a LLaMA model"),
    ],
)
def test_tensors_too_many(name: str, what: str, tmp_path: Path) -> None:
    small_llama.write_huggingface(ONE_LAYER, tmp_path)
    more = small_llama.tensors(ONE_LAYER) | {name: np.ones(48, np.float32)}
    small_llama.write_safetensors(more, "float32", tmp_path / "model.safetensors")
    assert message(tmp_path).startswith(f"{tmp_path}: tensor {name}")
    assert message(tmp_path).endswith(what)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    small_llama.write_huggingface(ONE_LAYER, tmp_path)
    damaged = dict(small_llama.tensors(ONE_LAYER))
    damaged["model.norm.weight"] = np.full(48, np.nan, np.float32)
    small_llama.write_safetensors(damaged, "float32", tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(tmp_path).tensor("model.norm.weight")
    assert str(caught.value) == f"{tmp_path}: tensor model.norm.weight holds values that are not finite numbers"


def test_a_storage_type_that_is_not_read(tmp_path: Path) -> None:
    small_llama.write_huggingface(ONE_LAYER, tmp_path)
    whole = {name: values.astype(np.float64) for name, values in small_llama.tensors(ONE_LAYER).items()}
    small_llama.write_safetensors(whole, "float64", tmp_path / "model.safetensors")
    found = message(tmp_path)
    assert found.endswith("is stored as F64; only F32, F16, BF16 are supported")


def test_a_file_that_shrinks_after_it_was_opened(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    file = directory / "model.safetensors"
    with file.open("r+b") as data:
        data.truncate(file.stat().st_size - 100)
    found = []
    for name in checkpoint_shapes(checkpoint.shape):
        try:
            checkpoint.tensor(name)
        except ModelError as error:
            found.append(str(error))
    assert found == [f"{file}: ends at byte {file.stat().st_size}, inside a tensor (truncated?)"]
    file.unlink()
    with pytest.raises(ModelError, match="cannot be read: No such file or directory"):
        checkpoint.tensor("model.norm.weight")


def without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def with_bytes(name: str, content: bytes) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return spoil


FILES: list[tuple[Callable[[Path], None], str, str]] = [
    (without("config.json"), "config.json", "cannot be read: No such file or directory"),
    (without("model.safetensors"), "", "neither model.safetensors nor its index is there"),
    (without("tokenizer.json"), "", "neither tokenizer.json nor tokenizer.model is there"),
    (with_bytes("tokenizer.json", b"{}"), "tokenizer.json", "not a tokenizer that can be built ("),
    (
        with_bytes("model.safetensors", b"\x10\0\0"),
        "model.safetensors",
        "truncated or damaged safetensors file (header too small)",
    ),
    (
        with_bytes("model.safetensors", struct.pack("<Q", 2**24 + 1) + b"{}"),
        "model.safetensors",
        "truncated or damaged safetensors file (header too large: 16777217 bytes)",
    ),
    (
        lambda directory: change(directory / "tokenizer_config.json", chat_template=[1]),
        "tokenizer_config.json",
        "chat_template must be a string, or a list with one named default",
    ),
]


NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "model.safetensors",
    "chat_template.jinja",
)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file(name: str, directory: Path) -> None:
    """A directory, a pipe (to open one waits for ever), a device without end, a link to nothing."""
    path = directory / name
    path.unlink(missing_ok=True)
    path.mkdir()
    assert message(directory) == f"{path}: is a directory, not a file"
    path.rmdir()
    os.mkfifo(path)
    assert message(directory) == f"{path}: is not a file"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert message(directory) == f"{path}: is not a file"
    path.unlink()
    path.symlink_to(directory / "nothing")
    assert message(directory) == f"{path}: cannot be read: No such file or directory"


@pytest.mark.parametrize(("spoil", "file", "what"), FILES)
def test_directories_that_lack_something(spoil: Callable[[Path], None], file: str, what: str, directory: Path) -> None:
    spoil(directory)
    assert message(directory).startswith(f"{directory / file}: {what}")


def test_a_truncated_file(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    assert message(directory) == (
        f"{file}: truncated or damaged safetensors file (incomplete metadata, file not fully covered)"
    )


@pytest.mark.parametrize(
    ("weight_map", "what"),
    [
        (None, "weight_map is missing"),
        ({"a": 1}, "weight_map.a must be a string, not 1"),
        ({"a": "../model.safetensors"}, "'../model.safetensors' is not the name of a safetensors file"),
        ({"a": "/etc/passwd"}, "'/etc/passwd' is not the name of a safetensors file"),
    ],
)
def test_indexes_that_are_refused(weight_map: Any, what: str, directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    index = directory / "model.safetensors.index.json"
    write_json(index, {"weight_map": weight_map})
    assert message(directory) == f"{index}: {what}"


def test_an_index_that_names_a_tensor_or_a_file_too_many(tmp_path: Path) -> None:
    small_llama.write_huggingface(ONE_LAYER, tmp_path, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    file = "model-00001-of-00002.safetensors"
    write_json(index, {"weight_map": places | {"more": file}})
    assert message(tmp_path) == f"{tmp_path / file}: tensor more is missing"
    write_json(index, {"weight_map": places | {"more": "gone.safetensors"}})
    assert message(tmp_path).startswith(f"{tmp_path / 'gone.safetensors'}: ")


def test_a_path_where_nothing_is(tmp_path: Path) -> None:
    assert message(tmp_path / "none") == f"{tmp_path / 'none'}: no such file or directory"


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A directory whose safetensors file a test may spoil, and that file's bytes."""
    path = small_llama.write_huggingface(ONE_LAYER, tmp_path_factory.mktemp("spoiled"))
    return path, (path / "model.safetensors").read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_only_model_errors_escape_a_spoiled_header(spoiled: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = spoiled
    changed = bytearray(content)
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    (path / "model.safetensors").write_bytes(changed)
    with contextlib.suppress(ModelError):
        checkpoint = HuggingFaceCheckpoint(path)
        for name in checkpoint_shapes(checkpoint.shape):
            checkpoint.tensor(name)
