"""A small random LLaMA, made deterministically and written as real files for the readers.

The weights are scaled so that what flows looks like a trained model's: a residual of rms 0.4 to 3,
attention scores spread over several nats, logits with a spread of about 3.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import TensorSpec, serialize_file

Float32 = NDArray[np.float32]

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
IN_ORDER = (
    "Ġ t|Ġ a|h e|i n|r e|o n|e r|a t|Ġ s|n d|Ġ w|Ġ o|e n|i s|Ġt he|Ġ c|o r|i t|Ġ f|e s|Ġ p|in g|a n|Ġ b|e d|a l"
    "|Ġ m|a r|o u|Ġo f|l e|Ġa nd|i c|Ġ h|Ġ in|Ġ d|Ġt o|r o|s t|l l|Ġ I|en t|y st|er s|i st|a s|o m|e l"
)
MERGES = tuple(IN_ORDER.split("|"))


@dataclass(frozen=True)
class SmallLlama:
    """Sizes of a random LLaMA; the same sizes and seed give the same weights on every machine."""

    tied: bool = False
    layers: int = 3
    d_model: int = 48
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 12
    d_ffn: int = 100
    vocab: int = 307
    context: int = 512
    rope_theta: float = 10000.0
    rms_eps: float = 1e-5
    seed: int = 20240229

    bos_id = 1
    eos_id = 2


UNTIED = SmallLlama()
TIED = SmallLlama(tied=True)
ALIGNED = replace(UNTIED, d_model=64, heads=2, kv_heads=1, head_dim=32, d_ffn=96)
"""Rows of a multiple of 32, as the quantised storage types need them."""


@cache
def tensors(model: SmallLlama) -> dict[str, Float32]:
    """Every tensor by its Hugging Face name, float32; do not write into them."""
    source = np.random.Generator(np.random.PCG64(model.seed))
    d, q, kv = model.d_model, model.heads * model.head_dim, model.kv_heads * model.head_dim

    def matrix(rows: int, columns: int, spread: float) -> Float32:
        # Sums of uniforms: unlike the generator's normals, the same on every platform.
        values = source.random((4, rows, columns)).sum(axis=0) - 2.0
        return (values * (spread * math.sqrt(3.0 / columns))).astype(np.float32)

    def gain() -> Float32:
        return (0.6 + 0.8 * source.random(d)).astype(np.float32)

    made = {"model.embed_tokens.weight": matrix(model.vocab, d, 3.0)}
    for layer in range(model.layers):
        parts = {
            "input_layernorm": gain(),
            "self_attn.q_proj": matrix(q, d, 1.6),
            "self_attn.k_proj": matrix(kv, d, 1.6),
            "self_attn.v_proj": matrix(kv, d, 1.0),
            "self_attn.o_proj": matrix(d, q, 1.0),
            "post_attention_layernorm": gain(),
            "mlp.gate_proj": matrix(model.d_ffn, d, 2.0),
            "mlp.up_proj": matrix(model.d_ffn, d, 1.0),
            "mlp.down_proj": matrix(d, model.d_ffn, 0.8),
        }
        made |= {f"model.layers.{layer}.{name}.weight": part for name, part in parts.items()}
    made["model.norm.weight"] = gain()
    head = matrix(model.vocab, d, 3.0)
    return made if model.tied else made | {"lm_head.weight": head}


def digest(model: SmallLlama) -> str:
    """A fingerprint of all weights: golden files hold only for the weights they were computed with."""
    whole = hashlib.blake2b(digest_size=16)
    for name, values in tensors(model).items():
        whole.update(f"{name} {values.shape} ".encode() + values.tobytes())
    return whole.hexdigest()


def vocabulary(model: SmallLlama) -> list[str]:
    """The tokens by id: three special ones, the 256 bytes, merged pieces, and names that fill it up."""
    tokens = [*SPECIAL, *byte_tokens(), *(merge.replace(" ", "") for merge in MERGES)]
    fill = [f"<|unused_{index}|>" for index in range(len(tokens), model.vocab)]
    return [*tokens, *fill][: model.vocab]


def byte_tokens() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable}
    shown |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [shown[byte] for byte in range(256)]


def config(model: SmallLlama) -> dict[str, Any]:
    """config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocab,
        "hidden_size": model.d_model,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.d_ffn,
        "hidden_act": "silu",
        "rms_norm_eps": model.rms_eps,
        "rope_theta": model.rope_theta,
        "max_position_embeddings": model.context,
        "tie_word_embeddings": model.tied,
        "bos_token_id": model.bos_id,
        "eos_token_id": model.eos_id,
    }


def tokenizer_json(model: SmallLlama) -> dict[str, Any]:
    """tokenizer.json: byte-level BPE with GPT-2's words."""
    added = [
        {
            "id": index,
            "content": token,
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for index, token in enumerate(SPECIAL)
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(vocabulary(model))},
            "merges": [merge.split(" ") for merge in MERGES],
        },
    }


def write_huggingface(model: SmallLlama, directory: Path, dtype: str = "float32", shards: int = 1) -> Path:
    """Write a checkpoint directory; ``dtype`` is float32, float16 or bfloat16."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = {name: stored_as(values, dtype) for name, values in tensors(model).items()}
    names = list(stored)
    if shards == 1:
        write_safetensors(stored, dtype, directory / "model.safetensors")
    else:
        weight_map = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            part = {name: stored[name] for name in names[shard::shards]}
            write_safetensors(part, dtype, directory / file)
            weight_map |= dict.fromkeys(part, file)
        write_json(directory / "model.safetensors.index.json", {"weight_map": weight_map})
    write_json(directory / "config.json", config(model))
    write_json(directory / "tokenizer.json", tokenizer_json(model))
    words = {
        "chat_template": CHAT_TEMPLATE,
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(directory / "tokenizer_config.json", words)
    return directory


def stored_as(values: Float32, dtype: str) -> NDArray[Any]:
    """The values as they are stored; bfloat16 as the upper half of a float32, rounded to even."""
    if dtype == "bfloat16":
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype(dtype)


def write_safetensors(stored: dict[str, NDArray[Any]], dtype: str, path: Path) -> None:
    """Write arrays to a safetensors file, declared as ``dtype``."""
    specs = {
        name: TensorSpec(dtype=dtype, shape=values.shape, data_ptr=values.ctypes.data, data_len=values.nbytes)
        for name, values in stored.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{GGUF_NAMES[part]}.weight"
    return f"{GGUF_NAMES[stem]}.weight"


def permuted(values: Float32, heads: int) -> Float32:
    """Rows of q or k in llama.cpp's order, as its converter writes them."""
    rows, columns = values.shape
    halves = values.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def write_gguf(
    model: SmallLlama,
    path: Path,
    stored: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    changes: dict[str, object] | None = None,
) -> Path:
    """Write the model as a GGUF file with its matrices stored as ``stored``.

    ``changes`` sets metadata keys; None leaves a key out.
    """
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=False)
    for key, (value, kind, inner) in metadata(model, changes or {}).items():
        writer.add_key_value(key, value, kind, inner)
    for name, values in tensors(model).items():
        heads = {"q_proj": model.heads, "k_proj": model.kv_heads}.get(name.split(".")[-2])
        own = permuted(values, heads) if heads else values
        kind = stored if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(gguf_name(name), gguf.quantize(own, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def metadata(model: SmallLlama, changes: dict[str, object]) -> dict[str, tuple[Any, Any, Any]]:
    """The GGUF keys: value, type, type of an array's items."""
    tokens = vocabulary(model)
    values: dict[str, object] = {
        "llama.vocab_size": model.vocab,
        "llama.context_length": model.context,
        "llama.embedding_length": model.d_model,
        "llama.block_count": model.layers,
        "llama.feed_forward_length": model.d_ffn,
        "llama.attention.head_count": model.heads,
        "llama.attention.head_count_kv": model.kv_heads,
        "llama.attention.key_length": model.head_dim,
        "llama.attention.value_length": model.head_dim,
        "llama.attention.layer_norm_rms_epsilon": model.rms_eps,
        "llama.rope.dimension_count": model.head_dim,
        "llama.rope.freq_base": model.rope_theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": model.bos_id,
        "tokenizer.ggml.eos_token_id": model.eos_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    kept = {key: value for key, value in (values | changes).items() if value is not None}
    return {key: (value, *kind_of(value)) for key, value in kept.items()}


def kind_of(value: object) -> tuple[Any, Any]:
    """The GGUF type of a value, and that of its items."""
    kinds = gguf.GGUFValueType
    if isinstance(value, list):
        return kinds.ARRAY, kind_of(value[0])[0]
    scalar = {bool: kinds.BOOL, int: kinds.UINT32, float: kinds.FLOAT32, str: kinds.STRING}
    return scalar[type(value)], None
