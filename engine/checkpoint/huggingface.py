"""A Hugging Face checkpoint directory: config.json, safetensors, and a tokenizer.

Pickle files are never opened. Nothing here trusts the directory: every number is bounded before it
is used, every tensor's place is checked against its file before it is read.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from engine.checkpoint.checkpoint import (
    HEAD,
    MAX_CONTEXT,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_VOCAB,
    MAX_WIDTH,
    Checkpoint,
    LlamaShape,
    ModelText,
    read_bytes,
    require_llama_tensors,
)
from engine.checkpoint.fields import Fields, read_json, require_file
from engine.checkpoint.huggingface_text import read_huggingface_text
from engine.checkpoint.tokenizer import writes_first
from engine.errors import ModelError

__all__ = ["HuggingFaceCheckpoint"]

MAX_CONFIG = 1 << 24
MAX_INDEX = 1 << 26
MAX_HEADER = 1 << 24
"""Bytes of a safetensors header: a hundred times the largest LLaMA's. The library takes 100 MB, and a gigabyte for them."""
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
}
"""bfloat16 is no numpy type: it is the upper half of a float32, read as bits."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")
"""What an index may name: a file of the same directory, nothing that leads out of it."""


@dataclass(frozen=True)
class _FilePlace:
    """Where a tensor lies: a file, the first byte in it, and how its numbers are stored."""

    file: Path
    offset: int
    dtype: str
    size: tuple[int, ...]


class HuggingFaceCheckpoint(Checkpoint):
    """A directory with config.json, safetensors, and tokenizer.json or tokenizer.model."""

    def __init__(self, path: Path, text: ModelText | None = None) -> None:
        self.path = path
        config = read_json(path / "config.json", MAX_CONFIG)
        _require_llama(config)
        generation = _optional_json(path / "generation_config.json")
        words = _optional_json(path / "tokenizer_config.json")
        self._places = _places(path)
        _require_template(words)
        vocab = config.integer("vocab_size", 1, MAX_VOCAB)
        self.text = text or read_huggingface_text(path, words, vocab)
        bos = next(iter(_ids("bos_token_id", vocab, config, generation)), None)
        self.shape = replace(
            _sizes(config, vocab),
            # With a head of its own in the files the tie is only a wish (transformers 5 decides
            # likewise).
            tied=config.boolean("tie_word_embeddings", False) and HEAD not in self._places,
            bos_id=bos,
            eos_ids=_ids("eos_token_id", vocab, config, generation),
            add_bos=writes_first(self.tokenizer, bos, path),
        ).check(path / "config.json")
        require_llama_tensors(self.shape, {n: p.size for n, p in self._places.items()}, path)

    def _load(self, name: str) -> NDArray[np.float32]:
        place = self._places[name]
        dtype = DTYPES[place.dtype]
        raw = read_bytes(place.file, place.offset, math.prod(place.size) * dtype.itemsize)
        if place.dtype == "BF16":
            return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return raw.view(dtype).astype(np.float32, copy=False)


def _require_llama(config: Fields) -> None:
    """Refuse every configuration that the program would compute wrongly."""
    kind = config.text("model_type")
    if kind != "llama":
        raise config.error(f"model_type is {kind[:60]!r}; only llama models can be shared")
    for flag in ("attention_bias", "mlp_bias"):
        if config.boolean(flag, False):
            raise config.error(f"{flag} is true; biases are not supported")
    activation = config.text("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise config.error(f"hidden_act is {activation[:60]!r}; only silu is supported")
    if config.number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0:
        raise config.error("partial_rotary_factor is not 1; every element must be rotated")
    if "quantization_config" in config:
        raise config.error("quantized safetensors cannot be read; use the original, or a GGUF file")


def _sizes(config: Fields, vocab: int) -> LlamaShape:
    """The shape's numbers; what depends on the other files is left at nothing."""
    d_model = config.integer("hidden_size", 1, MAX_WIDTH)
    heads = config.integer("num_attention_heads", 1, MAX_HEADS)
    if "head_dim" not in config and d_model % heads:
        raise config.error(f"hidden_size {d_model} is not a multiple of its {heads} heads")
    return LlamaShape(
        vocab=vocab,
        d_model=d_model,
        layers=config.integer("num_hidden_layers", 1, MAX_LAYERS),
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", 1, MAX_HEADS, heads),
        head_dim=config.integer("head_dim", 1, MAX_WIDTH, max(d_model // heads, 1)),
        d_ffn=config.integer("intermediate_size", 1, MAX_WIDTH),
        rope_theta=_rope_theta(config),
        rms_eps=config.number("rms_norm_eps", 0.0, 1.0, 1e-6),
        context=config.integer("max_position_embeddings", 1, MAX_CONTEXT, 2048),
        tied=False,
        bos_id=None,
        eos_ids=(),
        add_bos=False,
    )


def _rope_theta(config: Fields) -> float:
    """The base of the rotary frequencies; transformers 5 keeps it in rope_parameters."""
    theta = config.number("rope_theta", 1.0, 1e12, 10000.0)
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.section(key)
        if rope is None:
            continue
        kind = rope.text("rope_type", rope.text("type", "default"))
        if kind != "default":
            raise config.error(f"{key} is of type {kind[:60]!r}; only plain rotary positions are supported")
        theta = rope.number("rope_theta", 1.0, 1e12, theta)
    return theta


def _ids(key: str, vocab: int, config: Fields, generation: Fields | None) -> tuple[int, ...]:
    """Token ids of both files without repetition; what generation_config.json says comes first."""
    more = generation.token_ids(key, vocab) if generation else ()
    return tuple(dict.fromkeys(more + config.token_ids(key, vocab)))


def _optional_json(path: Path) -> Fields | None:
    return read_json(path, MAX_CONFIG) if os.path.lexists(path) else None  # a link to nothing is no absence


def _require_template(words: Fields | None) -> None:
    """Refuse a chat template that is neither one nor several by name."""
    value = words.values.get("chat_template") if words else None
    if isinstance(value, list):
        named = [entry for entry in value if isinstance(entry, dict)]
        value = next((e.get("template") for e in named if e.get("name") == "default"), 0)
    if words and value is not None and not isinstance(value, str):
        raise words.error("chat_template must be a string, or a list with one named default")


def _places(path: Path) -> dict[str, _FilePlace]:
    """Every tensor of the directory, without the rotary frequencies that old checkpoints carry."""
    places: dict[str, _FilePlace] = {}
    for file, listed in _files(path).items():
        found = _file_places(file)
        for name in found.keys() if listed is None else listed:
            if name not in found:
                raise ModelError(f"tensor {name[:80]} is missing", file)
            if not name.endswith(".rotary_emb.inv_freq"):
                places[name] = found[name]
    return places


def _files(path: Path) -> dict[Path, list[str] | None]:
    """The safetensors files, each with the tensors that are to be read from it (None: all)."""
    single = path / "model.safetensors"
    if os.path.lexists(single):
        return {single: None}
    if not os.path.lexists(path / "model.safetensors.index.json"):
        raise ModelError("neither model.safetensors nor its index is there", path)
    index = read_json(path / "model.safetensors.index.json", MAX_INDEX)
    places = index.section("weight_map")
    if places is None:
        raise index.error("weight_map is missing")
    files: dict[Path, list[str] | None] = {}
    by_file: dict[str, list[str]] = {}
    for name in places.values:
        by_file.setdefault(places.text(name), []).append(name)
    for file, names in by_file.items():
        if not FILE_NAME.fullmatch(file):
            raise index.error(f"{file[:80]!r} is not the name of a safetensors file")
        files[path / file] = names
    return files


def _file_places(file: Path) -> dict[str, _FilePlace]:
    """The tensors of one safetensors file.

    The safetensors library checks the header: its length, that each tensor has as many bytes as its
    shape needs, that they cover the file without gap or overlap. It does not read bfloat16 into
    numpy, so the reading is done here.
    """
    require_file(file)
    try:
        with file.open("rb") as data:
            length = int.from_bytes(data.read(8), "little")
            if length > MAX_HEADER:
                raise ModelError(f"truncated or damaged safetensors file (header too large: {length} bytes)", file)
            with safe_open(file, framework="np"):
                pass
            header = json.loads(data.read(length))
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", file) from error
    except (SafetensorError, ValueError, RecursionError) as error:
        what = str(error).removeprefix("Error while deserializing header: ")[:160]
        raise ModelError(f"truncated or damaged safetensors file ({what})", file) from error
    header.pop("__metadata__", None)
    places = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            kinds = ", ".join(DTYPES)
            what = f"tensor {name[:80]} is stored as {entry['dtype']}; only {kinds} are supported"
            raise ModelError(what, file)
        start = 8 + length + entry["data_offsets"][0]
        places[name] = _FilePlace(file, start, entry["dtype"], tuple(entry["shape"]))
    return places
