"""A shape's shared model on disk, as three processes read it: metadata, masked words, seeds, and an answer to check against.

``python -m benchmarks.model SHAPE PREFIX DIRECTORY`` makes it in a process of its own, tensor by tensor, and prints the seconds
and the peak of memory that this took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.layer import LAYER
from benchmarks.meter import peak_mb
from benchmarks.shapes import SHAPES, Shape, specification, weights
from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.functions import functions, tables
from engine.parties.pack import NodePack, node_pack
from engine.parties.plain import Plain
from engine.program.clear import Clear
from engine.provision.masking import fresh_seeds, masked_words
from engine.provision.pack import layout
from engine.ring.fixed import Real
from engine.rows.run import Rows

CHECKED_ROWS = 3
_NONE = "0" * 64


@dataclass(frozen=True, slots=True)
class Expected:
    """Inputs (tokens, or residuals of a layer) behind the whole prefix, and what comes out in the clear."""

    tokens: list[int]
    residual: Real
    outputs: Real


def make(shape: Shape, prefix: int, directory: Path) -> None:
    """Write the model: spec.json, seeds, masked.bin, tables.safetensors, expected.npz."""
    tensor = weights(shape)
    spec = specification(shape, prefix, tensor)
    seeds = fresh_seeds()
    (directory / "spec.json").write_text(spec.model_dump_json())
    (directory / "seeds").write_bytes(seeds[0] + seeds[1])
    with (directory / "masked.bin").open("wb") as file:
        for _, words in masked_words(spec, tensor, seeds):
            words.tofile(file)
    save_file(tables(spec), directory / "tables.safetensors")
    source = np.random.Generator(np.random.PCG64(7))
    tokens = source.integers(0, spec.vocab, CHECKED_ROWS)
    residual = source.standard_normal((CHECKED_ROWS, spec.d_model))
    outputs = in_the_clear(spec, tensor, tokens.tolist(), residual if shape.layer else None)
    np.savez(directory / "expected.npz", tokens=tokens, residual=residual, outputs=outputs)


def in_the_clear(spec: ModelSpec, tensor: Callable[[str], Real], tokens: list[int], residual: Real | None) -> Real:
    """Logits of the tokens behind the prefix; with a residual, what the first layer makes of it."""
    plain = Plain(spec, tensor, context=len(spec.prefix) + CHECKED_ROWS)
    plain.run(spec.prefix, answers=1)
    if residual is None:
        return plain.run(tokens)
    rows = Rows(0, plain.position, residual.shape[0])
    reader = Clear(tensor, rows, plain.keys, plain.values, functions(spec))
    reader.enter(LAYER, rows)
    outputs: Real = llama.sections(spec, rows)[LAYER](reader, residual)
    return outputs


def read_spec(directory: Path) -> ModelSpec:
    """The public metadata."""
    return ModelSpec.model_validate_json((directory / "spec.json").read_bytes())


def read_seeds(directory: Path) -> tuple[bytes, bytes]:
    """Both model seeds: the dealer's alone, were this no benchmark."""
    data = (directory / "seeds").read_bytes()
    return data[:32], data[32:]


def read_expected(directory: Path) -> Expected:
    """What the check compares with."""
    held = np.load(directory / "expected.npz")
    return Expected(held["tokens"].tolist(), held["residual"], held["outputs"])


def load_pack(directory: Path, role: int, *, stored: bool) -> NodePack:
    """A node's pack, its halves of the products stored or drawn; the masked words are mapped from the one file of both."""
    spec = read_spec(directory)
    words = np.memmap(directory / "masked.bin", np.int64, "r")
    arrays = {name: np.asarray(words[at : at + int(np.prod(shape))]).reshape(shape) for name, shape, at in layout(spec)}
    prefixes = [(arrays[f"prefix.{i}.0"], arrays[f"prefix.{i}.1"]) for i in range(spec.layers)]
    masked = {name: arrays[name] for name in spec.tensors()}
    held = load_file(directory / "tables.safetensors")
    seed = read_seeds(directory)[role - 1]
    return node_pack(role, spec, seed, masked, prefixes, held, (_NONE, _NONE), stored=stored)


if __name__ == "__main__":
    started = time.monotonic()
    make(SHAPES[sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"seconds": time.monotonic() - started, "peak_mb": peak_mb()}))
