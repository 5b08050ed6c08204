"""The program's tensors: a checkpoint's, with norm gains and the softmax's scale folded in.

RMSNorm in the program then has no gain, a score is a plain inner product of q and k, and it is in log2 units
(protocol.md, sections 4 to 6), because ``W_q`` takes ``log2(e) / sqrt(head_dim)``. q, k and v stand in one matrix.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.checkpoint import EMBEDDING, FINAL_NORM, HEAD, Checkpoint, LlamaShape

__all__ = ["iter_tensors", "program_tensor", "tensor_names", "tensor_shapes"]


def tensor_shapes(shape: LlamaShape) -> list[tuple[str, tuple[int, int]]]:
    """Name and size ``(out, in)`` of every program tensor, in program order: embed, l.qkv … l.down, head."""
    d, q, kv, ffn = shape.d_model, shape.q_rows, shape.kv_rows, shape.d_ffn
    layer = [("qkv", (q + 2 * kv, d)), ("o", (d, q)), ("gate", (ffn, d)), ("up", (ffn, d)), ("down", (d, ffn))]
    return [
        ("embed", (shape.vocab, d)),
        *((f"{index}.{name}", size) for index in range(shape.layers) for name, size in layer),
        ("head", (shape.vocab, d)),
    ]


def tensor_names(shape: LlamaShape) -> list[str]:
    """Names of the program tensors, in program order."""
    return [name for name, _ in tensor_shapes(shape)]


def program_tensor(checkpoint: Checkpoint, name: str) -> NDArray[np.float64]:
    """One program tensor, float64 ``[out, in]``; the checkpoint's tensors behind it are read now."""

    def load(what: str) -> NDArray[np.float64]:
        return checkpoint.tensor(what).astype(np.float64)

    if name == "embed":
        return load(EMBEDDING)
    if name == "head":
        return load(EMBEDDING if checkpoint.shape.tied else HEAD) * load(FINAL_NORM)
    layer, part = name.split(".")
    prefix = f"model.layers.{layer}."
    if part == "qkv":
        gain = load(prefix + "input_layernorm.weight")
        scale = math.log2(math.e) / math.sqrt(checkpoint.shape.head_dim)
        q, k, v = (load(f"{prefix}self_attn.{x}_proj.weight") for x in "qkv")
        return np.concatenate([q * (gain * scale), k * gain, v * gain])
    if part == "o":
        return load(prefix + "self_attn.o_proj.weight")
    matrix = load(f"{prefix}mlp.{part}_proj.weight")
    return matrix if part == "down" else matrix * load(prefix + "post_attention_layernorm.weight")


def iter_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Name and values of every program tensor, in the order of `tensor_shapes`, one in memory at a time."""
    for name in tensor_names(checkpoint.shape):
        yield name, program_tensor(checkpoint, name)
