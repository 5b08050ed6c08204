"""A run of rows of the context, and how long arrays with one run of elements a row are.

Such an array is either [rows, …] (a fixed number of elements a row) or flat [row][head][key] (``Extent.key``).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from engine.ring.fixed import Ring


class Extent(NamedTuple):
    """Elements of a row: ``row + key * (number of keys the row sees)``."""

    row: int = 0
    key: int = 0

    def scaled(self, factor: int) -> "Extent":
        """As many rows and keys, with `factor` words in place of each element."""
        return Extent(self.row * factor, self.key * factor)


@dataclass(frozen=True)
class Rows:
    """A run of rows: serial numbers first … first + count - 1 at context positions position, position + 1, …"""

    first: int
    position: int
    count: int

    @cached_property
    def serials(self) -> Ring:
        """Serial number of each row."""
        return np.arange(self.first, self.first + self.count, dtype=np.int64)

    @cached_property
    def keys(self) -> Ring:
        """How many keys each row sees: those before it and its own."""
        return np.arange(self.position + 1, self.position + 1 + self.count, dtype=np.int64)

    @cached_property
    def starts(self) -> Ring:
        """Keys of the rows before each row, [count + 1]."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.keys)])

    @cached_property
    def _known_offsets(self) -> dict[Extent, Ring]:
        return {}  # a pass asks for a handful of extents hundreds of times

    def offsets(self, extent: Extent) -> Ring:
        """Bounds of the rows' runs in a flat array of that extent, [count + 1]; not to be written to."""
        bounds = self._known_offsets.get(extent)
        if bounds is None:
            bounds = np.arange(self.count + 1, dtype=np.int64) * extent.row
            if extent.key:
                bounds += self.starts * extent.key
            bounds.flags.writeable = False
            self._known_offsets[extent] = bounds
        return bounds

    def part(self, start: int, stop: int) -> "Rows":
        """The rows start … stop - 1 of this run."""
        return Rows(self.first + start, self.position + start, stop - start)
