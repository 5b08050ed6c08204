"""The demo beside what it promises: ``trine ask`` from a cold start, then the parties of `benchmarks.chatting`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from app.local_party.dealing import BLOCK_ROWS
from benchmarks.traffic import measure_traffic
from engine.models.config import ModelSpec
from engine.models.functions import tables
from engine.models.planning import plans
from engine.parties.evaluator import Evaluator
from engine.parties.masks import SeedStream
from engine.parties.pack import NodePack
from engine.program.plan import dealt_bytes
from engine.provision.pack import load_client_model
from engine.rows.run import Rows

QUESTION = "What is the capital of France?"
COLD_STARTS = 2
KEYS, FURTHER = 128, 1024  #: where the dealt bytes of a row are taken, and where their slope ends


def measure_demo(model: Path | None = None, *, quick: bool = False) -> dict[str, Any]:
    """All figures; `model` is a shared model's directory (None: the demo model, shared here if it was not)."""
    chosen = [] if model is None else ["--model", str(model)]
    asked = [_ask(chosen) for _ in range(1 if quick else COLD_STARTS + 1)]
    command = [sys.executable, "-m", "benchmarks.chatting", *chosen, *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    if model is None:
        from app.demo.demo_model import ensure_demo_model

        model = ensure_demo_model()
    spec = load_client_model(model / "client").spec
    # The first start may have shared the model and compiled every kernel.
    return figures | {
        "asked": asked if quick else asked[1:],
        "row": row_bytes(spec),
        "traffic": measure_traffic(spec, KEYS, BLOCK_ROWS),
    }


def _ask(model: list[str]) -> dict[str, float]:
    """Seconds from starting the program to the answer's first byte, and to the program's end."""
    command = [sys.executable, "-m", "app.cli.main", "ask", QUESTION, "--max-tokens", "16", *model]
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            if process.stdout is None:
                raise RuntimeError("the program has no output")
            first = os.read(process.stdout.fileno(), 1)
            first_byte = time.monotonic() - began
            process.stdout.read()
            code = process.wait()
        ended = time.monotonic() - began
        errors.seek(0)
        if code or not first:
            raise RuntimeError(f"trine ask ended with {code}: {errors.read().decode(errors='replace')}")
    return {"first_byte": first_byte, "end": ended}


def row_bytes(spec: ModelSpec) -> dict[str, Any]:
    """Exact bytes of a row: dealt at `KEYS` keys, for each further key, and held prepared by each evaluator."""
    made = plans(spec)

    def dealt(keys: int) -> int:
        return sum(dealt_bytes(made, Rows(0, keys - 1, 1), role) for role in (1, 2))

    slope = (dealt(FURTHER) - dealt(KEYS)) / (FURTHER - KEYS)
    return {"keys": KEYS, "dealt": dealt(KEYS), "further_key": slope, "prepared": prepared_bytes(spec, KEYS)}


def prepared_bytes(spec: ModelSpec, keys: int) -> list[int]:
    """What each evaluator really holds of a row that is prepared for, by preparing one with matrices of zeros."""
    held = []
    zeros = {name: np.zeros(shape, np.int64) for name, shape in spec.tensors().items()}
    nothing = np.zeros((spec.kv_heads, 1, spec.head_dim), np.int64)
    for role in (1, 2):
        seeds, digests = SeedStream(bytes(32), spec), ("0" * 64, "0" * 64)
        pack = NodePack(role, spec, zeros, zeros, tables(spec), [(nothing, nothing)] * spec.layers, seeds, *digests)
        evaluator = Evaluator(pack, bytes(32), prefix=1, context=spec.context)
        evaluator.announce(1, 1, keys - 1)
        for section in range(evaluator.sections):
            evaluator.prepare(1, section, bytes(evaluator.section_bytes(1, section)))
        sections = [material for block in evaluator.queue for material in block.load if material is not None]
        held.append(sum(_owned(material.arrays.values()) for material in sections))
    return held


def _owned(arrays: Iterable[Any]) -> int:
    """Bytes of the buffers behind the arrays, each counted once and whole: a view keeps all of its buffer."""
    buffers: dict[int, int] = {}
    for array in arrays:
        while isinstance(array.base, np.ndarray):
            array = array.base
        buffers[id(array)] = array.nbytes
    return sum(buffers.values())


def main() -> None:
    """Print the demo's table alone."""
    from benchmarks.promises import lines

    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    print("\n".join(lines(measure_demo(options.model, quick=options.quick))))


if __name__ == "__main__":
    main()
