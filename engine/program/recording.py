"""What a plan needs in a model's and a peer's place, and the plan of a program by itself, without a model."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from engine.program.evaluation import Evaluation
from engine.program.plan import Plan
from engine.program.weights import Cache, Weights
from engine.ring.fixed import Ring
from engine.ring.kernels.lookups import Table
from engine.rows.run import Rows
from engine.wire import Opening


class Shapes:
    """An evaluator's share of a model that has shapes and no numbers: enough for a plan, which computes nothing.

    `tables` are look-up tables of the model's shapes, with anything in them; the caches of keys and values have no tokens.
    """

    def __init__(
        self, tables: Mapping[str, Table] | None = None, *, layers: int = 0, kv_heads: int = 0, head_dim: int = 0
    ) -> None:
        self.tables: Mapping[str, Table] = tables or {}
        nothing = np.empty((kv_heads, 0, head_dim), np.int64)
        self.keys: Sequence[Cache] = [Cache(nothing, nothing)] * layers
        self.values: Sequence[Cache] = self.keys

    def multiply(self, weight: str, x: Ring, out: Ring) -> None:
        """Nothing, for no rows; RuntimeError for any."""
        del out
        _refuse(weight, x)

    def subtract(self, weight: str, x: Ring, out: Ring) -> None:
        """Nothing, for no rows; RuntimeError for any."""
        del out
        _refuse(weight, x)

    def masked(self, weight: str) -> Ring:
        """A matrix without elements, [0, 0]."""
        del weight
        return np.empty((0, 0), np.int64)


def _refuse(weight: str, x: Ring) -> None:
    if x.shape[0]:
        raise RuntimeError(f"there is no matrix {weight}: the program runs without a model")


def record(program: Callable[[Evaluation], object], weights: Weights, section: int = 0) -> Plan:
    """The plan of what `program(e)` asks for, as one section: the evaluator's side runs over zero rows.

    Openings that the program returns, one or a tuple of them, are read, so that their round counts. Of `weights`, only shapes
    are read.
    """
    plan = Plan()
    e = Evaluation(1, weights, Rows(0, 0, 0), no_exchange, plan)
    e.enter(section, None)
    outputs = program(e)
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        if isinstance(output, Opening):
            _ = output.c
    return plan


def no_exchange(message: bytes) -> bytes:
    """The link of an evaluator that only plans: RuntimeError."""
    raise RuntimeError(f"a plan exchanges nothing, not {len(message)} bytes")
