"""The reader in the clear: a program over floats, which tells an observer what it sees (calibration, the wrap budget)."""

from collections.abc import Callable, Mapping
from typing import Protocol

from engine.ring.fixed import Real
from engine.rows.run import Rows


class Observer(Protocol):
    """Told of the values that a program computes in the clear (calibration, check)."""

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """`values` are about to be shifted from a word at `bits` fraction bits: their wrap probability is |z| / 2^64."""

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """`values` are the arguments of a look-up or the contents of a window."""


class Silent:
    """Observes nothing."""

    def truncated(self, section: int, name: str, values: Real, bits: int) -> None:
        """Nothing."""

    def looked_up(self, section: int, name: str, values: Real) -> None:
        """Nothing."""


class Clear:
    """The program in float64, in the clear: openings and wires are the plain values."""

    reader = 2

    def __init__(
        self,
        weights: Callable[[str], Real],
        rows: Rows,
        keys: list[Real],
        values: list[Real],
        functions: Mapping[str, Callable[[Real], Real]],
        observer: Observer | None = None,
    ) -> None:
        self.weights, self.functions, self.rows = weights, functions, rows
        self.keys, self.values = keys, values
        self.observer: Observer = observer or Silent()
        self.section = self.gate = 0
        self.growth: dict[str, Real] = {}  #: of a name, how much larger the parties' numbers are on average than those here

    def truncated(self, name: str, values: Real, bits: int) -> None:
        """Tell the observer of a truncation, of numbers as large as the parties' are on average.

        A factor for `name` is that of all of a row's, or a head's, numbers, which lie side by side.
        """
        factor = self.growth.get(name)
        if factor is not None:
            values = values.reshape(*factor.shape, -1) * factor[..., None]
        self.observer.truncated(self.section, name, values, bits)

    def enter(self, section: int, rows: Rows) -> None:
        """Begin a section."""
        self.section, self.gate, self.rows = section, 0, rows
