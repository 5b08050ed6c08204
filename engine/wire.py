"""Wires and openings, as each party holds them (protocol, section 2).

A wire ⟦x⟧: both evaluators hold m = x + λ, evaluator i holds λi (λ1 + λ2 = λ), the dealer holds λ.
An opening of z: both evaluators hold c = z + ρ, the dealer alone holds ρ.

Arrays have one run of elements a row: either [rows, …] (a fixed number a row) or flat [row][head][key] (``Extent.key``).
A narrow wire is exact modulo 2^bits only; asking it for a full word raises.
"""

from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import numpy as np

from engine.ring.fixed import Ring
from engine.rows.run import Extent

SlotKey = tuple[int, str]


class Secret:
    """Base of what must never be shown or stored: no contents in its repr, no pickling."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is secret and is never pickled")


def _full(bits: int) -> None:
    if bits != 64:
        raise ValueError(f"a full word is needed from a wire that is exact modulo 2^{bits} only")


@dataclass(slots=True, repr=False, eq=False)
class Wire(Secret):
    """An evaluator's part of a wire: m (the same at both) and its own share of λ (None where nothing needs it).

    Never changed; not frozen, for some 700 are made a token and it takes twice as long.
    """

    m: Ring
    lam: Ring | None
    extent: Extent
    bits: int = 64
    source: SlotKey | None = None  #: the dealt slot that `lam` is, for work ahead of time

    def full(self) -> "Wire":
        """This wire, if it is exact modulo 2^64."""
        _full(self.bits)
        return self

    def share(self) -> Ring:
        """The evaluator's share of λ."""
        if self.lam is None:
            raise ValueError("no share of this wire's mask was dealt")
        return self.lam

    def tail(self, rows: int) -> "Wire":
        """The last `rows` rows."""
        lam = None if self.lam is None else np.ascontiguousarray(self.lam[-rows:])
        return Wire(np.ascontiguousarray(self.m[-rows:]), lam, self.extent, self.bits)

    def __add__(self, other: "Wire") -> "Wire":
        self.full()
        other.full()
        lam = None if self.lam is None or other.lam is None else self.lam + other.lam
        return Wire(self.m + other.m, lam, self.extent)


@dataclass(frozen=True, slots=True, repr=False)
class Mask(Secret):
    """The dealer's part of a wire: λ."""

    lam: Ring
    extent: Extent
    bits: int = 64

    def full(self) -> "Mask":
        """This wire, if it is exact modulo 2^64."""
        _full(self.bits)
        return self

    def __add__(self, other: "Mask") -> "Mask":
        self.full()
        other.full()
        return Mask(self.lam + other.lam, self.extent)


@dataclass(frozen=True, slots=True, repr=False)
class Rho(Secret):
    """The dealer's part of an opening: ρ, known to it alone. Exact modulo 2^bits."""

    rho: Ring
    extent: Extent
    bits: int = 64


class Round(Protocol):
    """What an opening waits for."""

    def flush(self) -> None:
        """Run the round in which all pending openings are exchanged."""


@dataclass(slots=True, repr=False, eq=False)
class Opening(Secret):
    """An evaluator's part of an opening: c, which asking for it fetches in a round with all that are pending."""

    extent: Extent
    bits: int
    _round: Round
    _c: Ring | None = field(default=None)

    @property
    def c(self) -> Ring:
        """z + ρ, the same at both evaluators."""
        if self._c is None:
            self._round.flush()
        if self._c is None:
            raise RuntimeError("an opening was not answered by its round")
        return self._c

    def settle(self, c: Ring) -> None:
        """Called by the round, once."""
        if self._c is not None:
            raise RuntimeError("an opening was answered twice")
        self._c = c

    def columns(self, start: int, stop: int) -> "Opening":
        """Columns start … stop - 1 of an opening [rows, n] (asks for its value)."""
        return Opening(
            Extent(stop - start),
            self.bits,
            self._round,
            np.ascontiguousarray(self.c[:, start:stop]),
        )
