"""A model's public metadata: shape, scales, exponents and look-up windows. Everything here is known to all parties.

Its canonical JSON is part of the program digest that the three parties compare before any share moves.
"""

from hashlib import blake2b
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.functions.tables import WideWindow, Window
from engine.models.limits import complaints

PROGRAM_VERSION = 8  #: of the gate code: a change in what is dealt or sent changes it

Small = Annotated[int, Field(ge=0, le=62)]


class Frozen(BaseModel):
    """Immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Scales(Frozen):
    """Fraction bits (protocol, section 11)."""

    activation: Small = 12  #: q, k, v, SiLU
    hidden: Annotated[int, Field(ge=12, le=14)] = 13  #: a norm's output, and q, k, v before they are divided by the rms
    query: Annotated[int, Field(ge=8, le=16)] = 16  #: W_q and W_k
    residual: Small = 18
    probability: Small = 20
    mixture: Small = 16
    reciprocal: Small = 17
    norm: Small = 13  #: a norm's input over 2^exponent
    rsqrt: Annotated[int, Field(ge=12, le=16)] = 15  #: 2^exponent / rms in a layer
    final_rsqrt: Small = 17  #: and in the last norm, whose error scales every logit
    rotary: Small = 14
    power: Annotated[int, Field(ge=1, le=20)] = 10

    @model_validator(mode="after")
    def _narrow_fits(self) -> Self:
        """A narrow wire's share travels in 40 bits, and a scores' window of 2^6 bins of 4 lies within its own."""
        if not self.score + 8 <= self.narrow <= 40:
            raise ValueError(f"q and k are exact modulo 2^{self.narrow}; their scores need {self.score + 8} bits, 40 at most")
        return self

    @property
    def narrow(self) -> int:
        """Q, k and scores are exact modulo 2^narrow: one logical shift takes the bits above the activations' away."""
        return 64 - (self.hidden + self.rsqrt - self.activation) - self.rotary

    @property
    def score(self) -> int:
        """Scores: the product of two activations."""
        return 2 * self.activation


class Norm(Frozen):
    """RMSNorm: t = x / 2^exponent has `Scales.norm` bits, the look-up reads Σ t² at twice those (protocol, section 6)."""

    exponent: int = Field(ge=-20, le=20)
    window: WideWindow


class Silu(Frozen):
    """SiLU's look-up."""

    window: Window
    degree: int = Field(ge=1, le=5)


class LayerSpec(Frozen):
    """Windows of one decoder layer."""

    attention_norm: Norm
    mlp_norm: Norm
    silu: Silu
    value_extra: int = Field(default=0, ge=0, le=6)  #: bits beyond the activations', where values and heads are small
    ffn_extra: int = Field(default=0, ge=0, le=6)  #: the same for SiLU's output and the product
    level: int = Field(ge=-256, le=256)  #: the lowest tested level of the row maximum, in bins of 4 (log2 units)


class ModelSpec(Frozen):
    """Everything public about a shared model."""

    name: str = Field(max_length=200)
    vocab: int = Field(ge=2, le=1 << 20)
    d_model: int = Field(ge=2, le=1 << 16)
    layers: int = Field(ge=1, le=1 << 10)
    heads: int = Field(ge=1, le=1 << 10)
    kv_heads: int = Field(ge=1, le=1 << 10)
    head_dim: int = Field(ge=2, le=1 << 10)
    d_ffn: int = Field(ge=1, le=1 << 18)
    rope_theta: float = Field(gt=1)
    rms_eps: float = Field(gt=0, lt=1)
    context: int = Field(ge=2, le=1 << 17)
    prefix: tuple[int, ...] = Field(min_length=1, max_length=512)
    eos: tuple[int, ...] = ()
    scales: Scales = Scales()
    levels: int = Field(default=16, ge=4, le=60, multiple_of=4)
    score_bottom: int = Field(default=-48, ge=-256, le=0)  #: lowest of the bins of 4 (log2 units) in which a score may lie
    score_n: int = Field(default=6, ge=6, le=8)  #: log2 of their number
    exp_bottom: int = Field(default=-56, ge=-256, le=0)  #: lowest of the cells of 4 in which a score less the maximum may lie
    exp_n: int = Field(default=6, ge=6, le=8)  #: log2 of their number
    final_norm: Norm
    reciprocal: WideWindow
    layer: tuple[LayerSpec, ...]
    weight_bits: dict[str, Annotated[int, Field(ge=8, le=24)]]  #: of "LAYER.v", .o, .gate, .up, .down and "head"
    wrap_budget: float = Field(ge=0, lt=1)
    reveal: str = "logits"  #: read by nobody; it stands in every pack and its digest, until their format changes
    tightest: str = Field(default="", pattern=r"^(\d{1,4}\.)?[a-z_]{0,20}$")  #: LAYER.NAME, most used in calibration

    @model_validator(mode="after")
    def _holds(self) -> Self:
        """Nothing that it describes leaves its bits (`engine.models.limits`)."""
        for complaint in complaints(self):
            raise ValueError(complaint)
        return self

    def norms(self) -> dict[str, Norm]:
        """The norms by the names of their tables."""
        norms = {"final_norm": self.final_norm}
        for i, layer in enumerate(self.layer):
            norms[f"{i}.attention_norm"] = layer.attention_norm
            norms[f"{i}.mlp_norm"] = layer.mlp_norm
        return norms

    @property
    def sections(self) -> int:
        """Sections of the program: the embedding, each layer, the answer."""
        return self.layers + 2

    def tensors(self) -> dict[str, tuple[int, int]]:
        """The program's matrices, [out, in], in the order in which a pack holds them."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim
        shapes = {"embed": (self.vocab, self.d_model)}
        for layer in range(self.layers):
            shapes[f"{layer}.qkv"] = (qkv, self.d_model)
            shapes[f"{layer}.o"] = (self.d_model, self.heads * self.head_dim)
            shapes[f"{layer}.gate"] = (self.d_ffn, self.d_model)
            shapes[f"{layer}.up"] = (self.d_ffn, self.d_model)
            shapes[f"{layer}.down"] = (self.d_model, self.d_ffn)
        shapes["head"] = (self.vocab, self.d_model)
        return shapes

    @property
    def low40(self) -> frozenset[str]:
        """Matrices whose products are opened modulo 2^40: SiLU's window and the answer read no more of them."""
        return frozenset(name for name in self.tensors() if name == "head" or name.endswith(".gate"))

    def digest(self) -> str:
        """The program digest: this metadata and the version of the gate code (hex)."""
        text = f"trine program {PROGRAM_VERSION}\n{self.model_dump_json()}"
        return blake2b(text.encode(), digest_size=32).hexdigest()
