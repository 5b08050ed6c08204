"""The program's tensors: a checkpoint's, with norm gains and the softmax's scale folded in.

RMSNorm in the program then has no gain, a score is a plain inner product of q and k, and it is in
log2 units (protocol.md, sections 4 to 6), because ``W_q`` takes ``log2(e) / sqrt(head_dim)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.provision.checkpoint import EMBEDDING, FINAL_NORM, HEAD, Checkpoint, LlamaShape

__all__ = ["iter_tensors", "tensor_shapes"]

_BEHIND_ATTENTION_NORM = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"}
_BEHIND_MLP_NORM = {"gate": "mlp.gate_proj", "up": "mlp.up_proj"}


def tensor_shapes(shape: LlamaShape) -> list[tuple[str, tuple[int, int]]]:
    """Name and size ``(out, in)`` of every program tensor, in program order."""
    d, q, kv, ffn = shape.d_model, shape.q_rows, shape.kv_rows, shape.d_ffn
    layer = [
        ("q", (q, d)),
        ("k", (kv, d)),
        ("v", (kv, d)),
        ("o", (d, q)),
        ("gate", (ffn, d)),
        ("up", (ffn, d)),
        ("down", (d, ffn)),
    ]
    return [
        ("embed", (shape.vocab, d)),
        *((f"{index}.{name}", size) for index in range(shape.layers) for name, size in layer),
        ("head", (shape.vocab, d)),
    ]


def iter_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Name and values (float64, ``[out, in]``) of every program tensor, as `tensor_shapes` lists.

    One tensor is in memory at a time, as long as the caller keeps none.
    """
    shape = checkpoint.shape
    yield "embed", checkpoint.tensor(EMBEDDING).astype(np.float64)
    for index in range(shape.layers):
        yield from _layer(checkpoint, index)
    head = checkpoint.tensor(EMBEDDING if shape.tied else HEAD)
    yield "head", head.astype(np.float64) * checkpoint.tensor(FINAL_NORM)


def _layer(checkpoint: Checkpoint, index: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    def load(part: str) -> NDArray[np.float64]:
        return checkpoint.tensor(f"model.layers.{index}.{part}.weight").astype(np.float64)

    gain = load("input_layernorm")
    scale = math.log2(math.e) / math.sqrt(checkpoint.shape.head_dim)
    for name, part in _BEHIND_ATTENTION_NORM.items():
        yield f"{index}.{name}", load(part) * (gain * scale if name == "q" else gain)
    yield f"{index}.o", load("self_attn.o_proj")
    gain = load("post_attention_layernorm")
    for name, part in _BEHIND_MLP_NORM.items():
        yield f"{index}.{name}", load(part) * gain
    yield f"{index}.down", load("mlp.down_proj")
