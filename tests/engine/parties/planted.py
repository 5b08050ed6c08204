"""Wraps planted into the truncations of a real program, as if the mask stream had come out at the ring's edge.

The elements of an opening are shifted by the same public amount at the dealer (ρ) and at both evaluators (c), which is
what another κ1 would have done: z is what it was, and z + ρ now crosses ±2^63. A first run of the same session, with
nothing planted, tells which elements are largest and their signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.gates import truncation
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.rows.run import Extent
from engine.wire import Opening, Rho

Ring = NDArray[np.int64]
TOP, BOTTOM = np.iinfo(np.int64).max, np.iinfo(np.int64).min


class Site(NamedTuple):
    """A truncation of the program."""

    section: int
    gate: int
    name: str


class Plant(NamedTuple):
    """The `elements` largest elements of one row (by its serial number) of one truncation."""

    site: Site
    row: int
    elements: int = 1


@dataclass
class Planted:
    """Watches every truncation; plants what is asked. Use as the target of `install`."""

    plants: dict[tuple[Site, int], int] = field(default_factory=dict)
    values: dict[tuple[Site, int], Ring] = field(default_factory=dict)  #: z of each row, as a run without plants saw it
    seen: list[Site] = field(default_factory=list)  #: the sites, in the program's order
    crossed: set[tuple[Site, int, int]] = field(default_factory=set)  #: (site, row, element) where z + ρ left the ring
    _rho: dict[tuple[Site, int], Ring] = field(default_factory=dict)
    _shift: dict[tuple[Site, int], Ring] = field(default_factory=dict)
    _shifted_kappa: dict[tuple[int, int, int], Ring] = field(default_factory=dict)

    def add(self, plants: Iterable[Plant]) -> None:
        """Plant these from now on."""
        self.plants |= {(p.site, p.row): p.elements for p in plants}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand before every truncation of the dealer and the evaluators until `patch` is undone."""
        deal, evaluate, clear = truncation.truncate.sides
        kappa, drawn = Dealing.kappa, Evaluation.kappa

        def dealt(d: Dealing, z: Rho, bits: int, to: int, name: str, **kwargs: Any) -> Any:
            site, rho = Site(d.section, d.gate, name), np.array(z.rho)
            inside = _opened_by_its_own_gate(name)
            for r, part in _rows(rho, d, z.extent):
                if not inside:
                    part += self._shift_of(site, r, part)
                self._rho[site, r] = part.copy()
            return deal(d, Rho(rho, z.extent, z.bits), bits, to, name, **kwargs)

        def evaluated(e: Evaluation, z: Opening, bits: int, to: int, name: str, **kwargs: Any) -> Any:
            site = Site(e.section, e.gate, name)
            if e.planning:
                return evaluate(e, z, bits, to, name, **kwargs)
            c = np.array(z.c)
            for r, part in _rows(c, e, z.extent):
                if not _opened_by_its_own_gate(name):
                    part += self._shift.get((site, r), np.zeros_like(part))
                if e.role == 1:
                    self._look(site, r, part)
            return evaluate(e, e.ready(c, z.extent), bits, to, name, **kwargs)

        def dealers_kappa(d: Dealing, name: str, extent: Extent) -> tuple[Ring, Ring]:
            one, two = kappa(d, name, extent)
            for r, part in _rows(one, d, extent) if name == "w" else ():
                site = self._site_of(d.section, d.gate + 1, r)
                if site is not None:
                    shift = self._shift_of(site, r, part + dict(_rows(two, d, extent))[r])
                    self._shifted_kappa[d.section, d.gate, r] = shift
                    part += shift
            return one, two

        def evaluators_kappa(e: Evaluation, name: str, extent: Extent) -> Ring:
            mine = np.array(drawn(e, name, extent))
            if name == "w" and e.role == 1:
                for r, part in _rows(mine, e, extent):
                    part += self._shifted_kappa.get((e.section, e.gate, r), np.zeros_like(part))
            return mine

        patch.setattr(truncation.truncate, "sides", (dealt, evaluated, clear))
        patch.setattr(truncation, "deal", dealt)  # a local truncation calls them by name
        patch.setattr(truncation, "evaluate", evaluated)
        patch.setattr(Dealing, "kappa", dealers_kappa)
        patch.setattr(Evaluation, "kappa", evaluators_kappa)

    def _site_of(self, section: int, gate: int, row: int) -> Site | None:
        return next((s for s, r in self.plants if (s.section, s.gate, r) == (section, gate, row)), None)

    def _shift_of(self, site: Site, row: int, rho: Ring) -> Ring:
        """What takes the largest elements' ρ to the edge on the side of z's sign, flat."""
        shift = np.zeros_like(rho)
        count = self.plants.get((site, row), 0)
        if count:
            z = self.values[site, row]
            at = np.argsort(-abs(z))[:count]
            if not z[at].all():
                raise RuntimeError("a plant needs elements that are not zero")
            shift[at] = np.where(z[at] > 0, TOP, BOTTOM) - rho[at]
        self._shift[site, row] = shift
        return shift

    def _look(self, site: Site, row: int, c: Ring) -> None:
        rho = self._rho[site, row]
        z = c - rho
        if site not in self.seen:
            self.seen.append(site)
        self.values.setdefault((site, row), z)
        # z + ρ left the ring where c is on the other side of it
        for j in np.flatnonzero(((z > 0) & (c < rho)) | ((z < 0) & (c > rho))):
            self.crossed.add((site, row, int(j)))


def _opened_by_its_own_gate(name: str) -> bool:
    """The w of a look-up: its opening's κ has the name "w" in the gate before the truncation's."""
    return name in ("lookup", "exp")


def _rows(flat: Ring, side: Dealing | Evaluation, extent: Extent) -> list[tuple[int, Ring]]:
    """(serial number, its run as a view) of each row."""
    words, bounds = flat.reshape(-1), side.rows.offsets(extent)
    return [(int(s), words[bounds[i] : bounds[i + 1]]) for i, s in enumerate(side.rows.serials)]
