"""A checkpoint's program tensors on demand, for the reader in the clear and for the sharing tool."""

from collections import OrderedDict

import numpy as np

from engine.checkpoint.checkpoint import Checkpoint
from engine.provision.fold import program_tensor, tensor_names
from engine.ring.fixed import Real

BUDGET = 4 << 30  #: bytes of tensors that are kept; a larger model is read again layer by layer


class WeightSource:
    """``weights(name)``: a program tensor, float64 [out, in]; the most recently used are kept within a budget."""

    def __init__(self, checkpoint: Checkpoint, budget: int = BUDGET) -> None:
        self._checkpoint, self._budget = checkpoint, budget
        self._kept: OrderedDict[str, Real] = OrderedDict()
        self._bytes = 0

    def __call__(self, name: str) -> Real:
        """The tensor `name` of ``ModelSpec.tensors``."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        made = program_tensor(self._checkpoint, name)
        self._bytes += made.nbytes
        self._kept[name] = made
        while self._bytes > self._budget and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.nbytes
        return made

    def deviations(self) -> dict[str, float]:
        """Root mean square of each matrix whose bits are its own: "LAYER.v", .o, .gate, .up, .down, "head"."""
        shape, out = self._checkpoint.shape, {}
        for name in tensor_names(shape):
            if name == "embed":
                continue
            values = self(name)
            if name.endswith(".qkv"):
                name, values = name.removesuffix("qkv") + "v", values[-shape.kv_rows :]
            out[name] = float(np.sqrt(np.mean(np.square(values))))
        return out
