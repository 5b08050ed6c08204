"""What an evaluator holds of the model and of the context, as its side of a program asks for it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.ring.fixed import Ring
from engine.ring.kernels.lookups import Table
from engine.wire import Secret


class Cache(Secret):
    """An evaluator's wires of one layer's keys or values: `online` (m - λ1, or -λ2) and `masked` (m)."""

    __slots__ = ("masked", "online")

    def __init__(self, online: Ring, masked: Ring) -> None:
        self.online = online
        self.masked = masked


class Weights(Protocol):
    """An evaluator's masked matrices and its cache of masked keys and values."""

    def multiply(self, weight: str, x: Ring, out: Ring) -> None:
        """``out += x @ A_i.T``, A_i [out, in]: m_W - λ_W1 at the first evaluator, -λ_W2 at the second; C-contiguous."""

    def subtract(self, weight: str, x: Ring, out: Ring) -> None:
        """``out -= x @ m_W.T``, m_W [out, in] the same at both; both modulo 2^40 where no more is opened."""

    def masked(self, weight: str) -> Ring:
        """``m_W``."""

    @property
    def tables(self) -> Mapping[str, Table]:
        """Public look-up tables, ready to rotate."""

    @property
    def keys(self) -> Sequence[Cache]:
        """A layer's keys."""

    @property
    def values(self) -> Sequence[Cache]:
        """A layer's values."""
