"""The roofline row: seconds to stream a shape's 8-byte matrices once through the engine's matrix–vector kernel.

``python -m benchmarks.roofline SHAPE [PROCESSES]``: with 2 processes both evaluators' streams run at once, as in a real step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np

from benchmarks.shapes import SHAPES
from engine.ring.kernels.linear import multiply_into

REPEATS = 5
MOST_WORDS = 1 << 28  #: a larger shape is measured on a part of it


def measure(name: str) -> list[float]:
    """Seconds of each run."""
    shape = SHAPES[name]
    whole = shape.matrix_words
    words = min(whole, MOST_WORDS)
    matrix = np.arange(words // shape.d_model * shape.d_model, dtype=np.int64).reshape(-1, shape.d_model)
    x, out = np.ones((1, shape.d_model), np.int64), np.zeros((1, matrix.shape[0]), np.int64)
    multiply_into(x, matrix, out)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        multiply_into(x, matrix, out)
        seconds.append((time.perf_counter() - start) * whole / words)
    return seconds


def both(name: str, environment: dict[str, str]) -> float:
    """The slower of two processes that stream at once, median of their runs."""
    command = [sys.executable, "-m", "benchmarks.roofline", name]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | environment) for _ in range(2)]
    runs = [json.loads(process.communicate()[0]) for process in started]
    return max(float(np.median(run)) for run in runs)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
