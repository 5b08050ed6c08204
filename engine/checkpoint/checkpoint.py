"""What a model on disk must be for Trine, whatever its format: the LLaMA shape and its tensors.

Names and layout are Hugging Face's: a matrix is ``[out, in]``, the rows of q and k stand in
half-split rotary order (element i is rotated with element i + head_dim / 2). Each tensor is read
when it is asked for, never the whole model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.generate.template import TemplateText

__all__ = [
    "EMBEDDING",
    "FINAL_NORM",
    "HEAD",
    "MAX_CONTEXT",
    "MAX_HEADS",
    "MAX_LAYERS",
    "MAX_VOCAB",
    "MAX_WIDTH",
    "Checkpoint",
    "LlamaShape",
    "ModelText",
    "checkpoint_shapes",
    "read_bytes",
    "require_llama_tensors",
]

# The largest LLaMA has 405e9 weights: 128,256 tokens, width 53,248, 126 layers, 128 heads, a
# context of 131,072.
MAX_VOCAB = 1 << 20
MAX_WIDTH = 1 << 18
MAX_LAYERS = 1 << 10
MAX_HEADS = 1 << 10
MAX_CONTEXT = 1 << 24

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class LlamaShape:
    """Everything about a LLaMA but its weights and its text."""

    vocab: int
    """Rows of the embedding; the tokenizer may know fewer tokens."""
    d_model: int
    layers: int
    heads: int
    kv_heads: int
    """Key and value heads; each serves ``heads // kv_heads`` query heads."""
    head_dim: int
    d_ffn: int
    rope_theta: float
    rms_eps: float
    context: int
    """The longest context the model was made for, in tokens."""
    tied: bool
    """Whether the head is the embedding itself."""
    bos_id: int | None
    eos_ids: tuple[int, ...]
    """Tokens that end an answer."""
    add_bos: bool
    """Whether plain text begins with ``bos_id`` (a chat template writes its own)."""

    @property
    def q_rows(self) -> int:
        """Rows of the query matrix."""
        return self.heads * self.head_dim

    @property
    def kv_rows(self) -> int:
        """Rows of the key matrix and of the value matrix."""
        return self.kv_heads * self.head_dim

    def check(self, path: Path) -> LlamaShape:
        """This shape, if its numbers go together; else a `ModelError` that names ``path``."""
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} heads cannot share {self.kv_heads} key heads evenly", path)
        if self.head_dim % 2:
            raise ModelError(f"rotary positions need an even head width, not {self.head_dim}", path)
        return self


@dataclass(frozen=True)
class ModelText:
    """How a model's text becomes tokens; the tokenizer knows no id at or beyond the shape's ``vocab``."""

    tokenizer: Tokenizer
    chat_template: TemplateText | None


class Checkpoint(ABC):
    """A LLaMA on disk, opened and checked: every tensor is there with its right shape. A reader fills the attributes."""

    path: Path
    shape: LlamaShape
    text: ModelText

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's, its control tokens special."""
        return self.text.tokenizer

    @property
    def chat_template(self) -> TemplateText | None:
        """The model's, with the special tokens that it may name."""
        return self.text.chat_template

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor by its Hugging Face name; `ModelError` if a value of it is not finite."""
        expected = checkpoint_shapes(self.shape).get(name)
        if expected is None:
            raise KeyError(name)
        with np.errstate(all="ignore"):  # a damaged file holds any bits
            values = self._load(name)
        if not np.isfinite(values).all():
            raise ModelError(f"tensor {name} holds values that are not finite numbers", self.path)
        return values.reshape(expected)

    @abstractmethod
    def _load(self, name: str) -> NDArray[np.float32]:
        """The tensor's values as float32; the name is one of `checkpoint_shapes`."""


def checkpoint_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a LLaMA of this shape by name, in the order in which a token meets them."""
    d, ffn = shape.d_model, shape.d_ffn
    layer = {
        "input_layernorm": (d,),
        "self_attn.q_proj": (shape.q_rows, d),
        "self_attn.k_proj": (shape.kv_rows, d),
        "self_attn.v_proj": (shape.kv_rows, d),
        "self_attn.o_proj": (d, shape.q_rows),
        "post_attention_layernorm": (d,),
        "mlp.gate_proj": (ffn, d),
        "mlp.up_proj": (ffn, d),
        "mlp.down_proj": (d, ffn),
    }
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (shape.vocab, d)}
    for index in range(shape.layers):
        shapes |= {f"model.layers.{index}.{part}.weight": size for part, size in layer.items()}
    shapes[FINAL_NORM] = (d,)
    if not shape.tied:
        shapes[HEAD] = (shape.vocab, d)
    return shapes


def require_llama_tensors(shape: LlamaShape, found: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuse a file that lacks a tensor of this shape, has a misshapen one, or one too many."""
    expected = checkpoint_shapes(shape)
    for name, size in expected.items():
        if name not in found:
            raise ModelError(f"tensor {name} is missing", path)
        if found[name] != size:
            raise ModelError(f"tensor {name} must be {_times(size)}, not {_times(found[name])}", path)
    for name in sorted(found.keys() - expected.keys()):
        if name.endswith(".bias"):
            raise ModelError(f"tensor {name}: biases are not supported", path)
        raise ModelError(f"tensor {name[:80]} has no place in a LLaMA model", path)


def read_bytes(path: Path, offset: int, count: int) -> NDArray[np.uint8]:
    """``count`` bytes of a file from ``offset`` on, in a fresh array; less is a `ModelError`.

    Read, not mapped: a mapped file that shrinks kills the process instead of raising.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8, count=count, offset=offset)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", path) from error
    if data.size != count:
        raise ModelError(f"ends at byte {offset + data.size}, inside a tensor (truncated?)", path)
    return data


def _times(size: Iterable[int]) -> str:
    return " x ".join(str(n) for n in size) or "one number"
