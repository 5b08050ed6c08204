"""A GGUF file that holds a LLaMA, with any quantisation that the gguf package dequantises.

llama.cpp rotates neighbouring elements (2i, 2i + 1) where Hugging Face rotates (i, i + head_dim /
2), so its converter permutes the rows of q and k; here they are put back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, dequantize
from numpy.typing import NDArray

from engine.checkpoint.checkpoint import (
    EMBEDDING,
    FINAL_NORM,
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
from engine.checkpoint.control_tokens import settled, with_controls
from engine.checkpoint.fields import Fields
from engine.checkpoint.gguf_header import GgufHeader, TensorPlace, read_header
from engine.checkpoint.tokenizer import TokenKind, Vocabulary, build_tokenizer
from engine.errors import ModelError
from engine.generate.template import MAX_TEMPLATE, TemplateText

__all__ = ["GgufCheckpoint"]

_ENDS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
"""Keys of tokens that end an answer; llama.cpp counts those around a gap that is filled in."""
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding", "sep_token": "seperator"}
"""The names of special tokens in a chat template and in the file ("seperator" is how it is spelled there)."""
_USUAL = {"unknown": 0, "bos": 1, "eos": 2}
_WHOLE = {"token_embd.weight": EMBEDDING, "output_norm.weight": FINAL_NORM, "output.weight": HEAD}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NEUTRAL: dict[str, object] = {
    "llama.expert_count": 0,
    "llama.attention.causal": True,
    "llama.attention.scale": 0,
    "llama.attention.sliding_window": 0,
    "llama.attention.clamp_kqv": 0,
    "llama.attn_logit_softcapping": 0,
    "llama.final_logit_softcapping": 0,
    "llama.rope.scaling.factor": 1,
    "llama.rope.scale_linear": 1,
    "llama.logit_scale": 1,
    "llama.embedding_scale": 1,
    "llama.residual_scale": 1,
    "split.count": (0, 1),
}
"""Keys that change what is computed (or the number of files), each with the value that we run, or several.

A file that was merged from parts keeps their keys, with a count of 0.
"""


class GgufCheckpoint(Checkpoint):
    """A LLaMA in one GGUF file; tensors are dequantised when they are asked for."""

    def __init__(self, path: Path, text: ModelText | None = None) -> None:
        self.path = path
        header = read_header(path)
        fields = Fields(header.metadata, path)
        _require_llama(fields)
        self._places = {_renamed(name): place for name, place in header.tensors.items()}
        _require_readable(header, path)
        self.shape = _shape(fields, self._places).check(path)
        require_llama_tensors(self.shape, {n: p.size for n, p in self._places.items()}, path)
        self.text = text or _text(fields, self.shape)

    def _load(self, name: str) -> NDArray[np.float32]:
        place = self._places[name]
        values = _dequantized(place, read_bytes(self.path, place.offset, place.length))
        if name.endswith("self_attn.q_proj.weight"):
            return _half_split(values, self.shape.heads)
        if name.endswith("self_attn.k_proj.weight"):
            return _half_split(values, self.shape.kv_heads)
        return values


def _require_llama(fields: Fields) -> None:
    architecture = fields.text("general.architecture")
    if architecture != "llama":
        raise fields.error(f"architecture is {architecture[:60]!r}; only llama models can be shared")
    for key, neutral in _NEUTRAL.items():
        values = neutral if isinstance(neutral, tuple) else (neutral,)
        value = fields.values.get(key, values[-1])
        if value not in values:
            raise fields.error(f"{key} is {str(value)[:60]}; only {values[-1]} is supported")
    scaling = fields.text("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise fields.error(f"llama.rope.scaling.type is {scaling[:60]!r}; only plain rotary positions are run")


def _require_readable(header: GgufHeader, path: Path) -> None:
    """Refuse a quantisation that the gguf package cannot undo, before anything is read."""
    if "rope_freqs.weight" in header.tensors:
        raise ModelError("tensor rope_freqs.weight: scaled rotary positions are not supported", path)
    first = {place.stored: name for name, place in reversed(header.tensors.items())}
    for stored, name in first.items():
        block, width = GGML_QUANT_SIZES[stored]
        probe = TensorPlace((1, block), stored, 0, width)
        try:
            _dequantized(probe, np.zeros(width, dtype=np.uint8))
        except NotImplementedError as error:
            raise ModelError(f"tensor {name}: type {stored.name} is not supported", path) from error


def _renamed(name: str) -> str:
    """The Hugging Face name of a GGUF tensor; a name without one stays as it is."""
    block, _, rest = name.removeprefix("blk.").partition(".")
    part, _, kind = rest.rpartition(".")
    if name.startswith("blk.") and part in _PARTS:
        return f"model.layers.{block}.{_PARTS[part]}.{kind}"
    return _WHOLE.get(name, name)


def _shape(fields: Fields, places: dict[str, TensorPlace]) -> LlamaShape:
    d_model = fields.integer("llama.embedding_length", 1, MAX_WIDTH)
    heads = fields.integer("llama.attention.head_count", 1, MAX_HEADS)
    if "llama.attention.key_length" not in fields and d_model % heads:
        raise fields.error(f"width {d_model} is not a multiple of its {heads} heads")
    head_dim = fields.integer("llama.attention.key_length", 1, MAX_WIDTH, max(d_model // heads, 1))
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if fields.integer(key, 0, MAX_WIDTH, head_dim) != head_dim:
            raise fields.error(f"{key} must be the head's width {head_dim}")
    tokens = fields.values.get("tokenizer.ggml.tokens")
    vocab = fields.integer("llama.vocab_size", 1, MAX_VOCAB, len(tokens) if isinstance(tokens, list) else None)
    bos = _ids(fields, "bos", vocab)
    ends = [index for key in _ENDS for index in _ids(fields, key, vocab)]
    return LlamaShape(
        vocab=vocab,
        d_model=d_model,
        layers=fields.integer("llama.block_count", 1, MAX_LAYERS),
        heads=heads,
        kv_heads=fields.integer("llama.attention.head_count_kv", 1, MAX_HEADS, heads),
        head_dim=head_dim,
        d_ffn=fields.integer("llama.feed_forward_length", 1, MAX_WIDTH),
        rope_theta=fields.number("llama.rope.freq_base", 1.0, 1e12, 10000.0),
        rms_eps=fields.number("llama.attention.layer_norm_rms_epsilon", 0.0, 1.0),
        context=fields.integer("llama.context_length", 1, MAX_CONTEXT),
        tied=HEAD not in places,
        bos_id=bos[0] if bos else None,
        eos_ids=tuple(dict.fromkeys(ends)),
        add_bos=bool(bos) and fields.boolean("tokenizer.ggml.add_bos_token", _adds_bos(fields)),
    )


def _ids(fields: Fields, key: str, vocab: int) -> tuple[int, ...]:
    """The token that a key names, or what it is in every sentencepiece vocabulary, as llama.cpp takes it to be."""
    ids = fields.token_ids(f"tokenizer.ggml.{key}_token_id", vocab)
    usual = _USUAL.get(key)
    if ids or usual is None or usual >= vocab or fields.text("tokenizer.ggml.model") != "llama":
        return ids
    return (usual,)


def _adds_bos(fields: Fields) -> bool:
    """What llama.cpp does for a file that does not say whether text begins with the first token."""
    if fields.text("tokenizer.ggml.model") == "llama":
        return True
    return fields.text("tokenizer.ggml.pre", "default") in ("llama-bpe", "llama3", "llama-v3")


def _text(fields: Fields, shape: LlamaShape) -> ModelText:
    tokens = fields.strings("tokenizer.ggml.tokens")
    if not tokens:
        raise fields.error("tokenizer.ggml.tokens is missing")
    template = fields.text("tokenizer.chat_template", "")
    if len(template) > MAX_TEMPLATE:
        raise fields.error(f"the chat template is longer than {MAX_TEMPLATE} characters")
    kinds = fields.integers("tokenizer.ggml.token_type") or [TokenKind.NORMAL] * len(tokens)
    vocabulary = Vocabulary(
        model=fields.text("tokenizer.ggml.model"),
        pre=fields.text("tokenizer.ggml.pre", "default"),
        tokens=tokens,
        kinds=kinds,
        scores=fields.numbers("tokenizer.ggml.scores"),
        merges=fields.strings("tokenizer.ggml.merges"),
        bos_id=shape.bos_id if shape.add_bos else None,
        space_prefix=fields.boolean("tokenizer.ggml.add_space_prefix", True),
    )
    named = TemplateText(template, _special(fields, tokens))
    vocabulary = with_controls(vocabulary, template, shape.eos_ids)
    tokenizer = settled(build_tokenizer(vocabulary, fields.path), named, shape.vocab, fields.path)
    return ModelText(tokenizer, named if template else None)


def _special(fields: Fields, tokens: list[str]) -> dict[str, str]:
    """The special tokens that a chat template may name."""
    found = {name: _ids(fields, key, len(tokens)) for name, key in _SPECIAL.items()}
    return {name: tokens[ids[0]] for name, ids in found.items() if ids}


def _dequantized(place: TensorPlace, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Stored bytes → float32 of ``place.size``; NotImplementedError for a type gguf lacks."""
    values = dequantize(data.reshape(-1, place.length // _rows(place)), place.stored)
    return values.reshape(place.size).astype(np.float32, copy=False)


def _rows(place: TensorPlace) -> int:
    return place.size[0] if len(place.size) > 1 else 1


def _half_split(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k from neighbouring pairs (llama.cpp) to half-split order (Hugging Face)."""
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)
