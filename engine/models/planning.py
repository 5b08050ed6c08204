"""The plans of a program's sections, recorded by running the evaluator's side over zero rows."""

import numpy as np

from engine.models import llama
from engine.models.config import ModelSpec
from engine.models.llama import score_windows
from engine.models.walk import Program, run
from engine.program.evaluation import Evaluation
from engine.program.plan import Plan
from engine.program.recording import Shapes, no_exchange
from engine.ring.kernels.linear import compile_products
from engine.ring.kernels.lookups import Table
from engine.rows.run import Rows

POWERS = 1 << 11  #: entries of each table of powers of two


class _Columns(dict[str, Table]):
    """Stands for the tables: a plan depends on their numbers of columns only. Long and short ones: both are compiled."""

    def __init__(self, spec: ModelSpec) -> None:
        shapes = table_shapes(spec)
        super().__init__({name: np.empty((shape[0], 128), np.int32) for name, shape in shapes.items() if len(shape) == 2})
        self.update({name: np.empty(shape, np.int64) for name, shape in shapes.items() if len(shape) == 1})
        self["exp"] = np.empty((1, 128), np.int64)


def table_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Each look-up table's shape: [columns, words a column], ready to rotate; of wide windows and powers of two, [entries]."""
    exponentials = score_windows(spec)[1]
    shapes: dict[str, tuple[int, ...]] = {"exp": (1, 2 * exponentials.cells), "pow.coarse": (POWERS,), "pow.fine": (POWERS,)}
    wide = {"final_norm": spec.final_norm.window, "reciprocal": spec.reciprocal}
    for i, layer in enumerate(spec.layer):
        wide[f"{i}.attention_norm"] = layer.attention_norm.window
        wide[f"{i}.mlp_norm"] = layer.mlp_norm.window
        shapes[f"{i}.silu"] = (layer.silu.degree + 1, 2 * layer.silu.window.cells)
    for name, window in wide.items():
        shapes[name] = ((window.degree + 1) * window.tree.starts[-1],)
    return shapes


def plans(spec: ModelSpec, program: Program = llama.sections) -> list[Plan]:
    """One plan a section: the embedding, each layer, the answer. Compiles the evaluator's kernels as it goes."""
    compile_products()
    recorded: list[Plan] = []
    weights = Shapes(_Columns(spec), layers=spec.layers, kv_heads=spec.kv_heads, head_dim=spec.head_dim)
    nothing = Rows(0, 0, 0)
    tokens = np.empty(0, np.int64), np.empty((0, spec.d_model), np.int64)

    def enter(number: int) -> Evaluation:
        recorded.append(Plan())
        e = Evaluation(1, weights, nothing, no_exchange, recorded[number])
        e.enter(number, None)
        return e

    run(program(spec, nothing), tokens, enter)
    return recorded
