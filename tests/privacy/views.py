"""What one node sees, counted: every received word by type, alone and against what the node holds itself.

Types are "GATE.n" (the n-th opening of a gate, as the peer sent it) and "GATE.NAME dealt" (most at the second node). For each:
the words themselves, their differences and XORs with the node's own stream words of that gate, with its own message, with
the same words of the pass before (same prompt, same place), and of two truncations' shares in one section.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import erfc, exp, log, sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.program.codec import Codec
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.program.plan import Kind, Slot
from engine.rows.run import Extent
from engine.wire import Opening

Words = NDArray[np.int64]
XOR = (Codec.XOR10, Codec.XOR16)


def octets(words: Words, bits: int) -> NDArray[np.uint8]:
    """The bytes that are sent, [n, bytes a word]; words of 10 bits by fours."""
    flat = np.ascontiguousarray(words).reshape(-1)
    if bits == 10:
        shifts = np.arange(0, 40, 10, dtype=np.int64)
        flat, bits = ((flat.reshape(-1, 4) & 1023) << shifts).sum(axis=1), 40
    return flat.view(np.uint8).reshape(-1, 8)[:, : bits // 8]


@dataclass
class Histogram:
    """How often each value of each byte was seen."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 256), np.int64))
    elements: int = 0
    near_zero: int = 0  #: words whose upper 12 bits are all alike: what an unmasked number looks like

    def add(self, words: Words, bits: int) -> None:
        seen = octets(words, bits)
        places = seen.shape[1]
        if not self.counts.size:
            self.counts = np.zeros((places, 256), np.int64)
        at = seen.astype(np.int64) + 256 * np.arange(places)
        self.counts += np.bincount(at.reshape(-1), minlength=256 * places).reshape(places, 256)
        self.elements += words.size
        if bits in (40, 64):
            top = (words.reshape(-1) << np.int64(64 - bits)) >> np.int64(52)
            self.near_zero += int(((top == 0) | (top == -1)).sum())

    def p_values(self) -> Iterator[float]:
        """Upper bounds: one a byte (chi²), one a bit, one for words near zero."""
        yield from (erfc(deviation / sqrt(2)) for deviation in self._deviations())
        expected, seen = self.elements / 2048, self.near_zero
        yield exp(seen - expected - seen * log(seen / expected)) if seen > expected else 1.0  # Chernoff's bound

    def _deviations(self) -> Iterator[float]:
        """A standard normal deviate a byte (chi² with 255 degrees, Wilson–Hilferty) and a bit; larger is worse."""
        for counts in self.counts:
            total = counts.sum()
            chi = float(((counts - total / 256) ** 2).sum() * 256 / total) / 255
            yield (chi ** (1 / 3) - (1 - 2 / (9 * 255))) / sqrt(2 / (9 * 255))
            for bit in range(8):
                ones = counts[(np.arange(256) >> bit & 1).astype(bool)].sum()
                yield abs(2.0 * ones - total) / sqrt(total)


@dataclass
class View:
    """One node's view over many passes."""

    role: int
    histograms: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    words: list[Words] = field(default_factory=list)  #: full words of the passes so far, for duplicates
    keep: int = 0  #: how many words to keep for that
    _before: dict[tuple[str, int, int], Words] = field(default_factory=dict)
    _now: dict[tuple[str, int, int], Words] = field(default_factory=dict)
    _kept: int = 0

    def begin(self) -> None:
        """A pass of the same prompt begins."""
        self._before, self._now = self._now, {}

    def see(self, kind: str, place: tuple[int, int], words: Words, bits: int, xor: bool, own: list[tuple[str, Words]]) -> None:
        flat = words.reshape(-1)
        self.histograms[kind].add(flat, bits)
        for name, mine in own:
            if mine.size == flat.size:
                self._joint(f"{kind} ~ own {name}", flat, mine.reshape(-1), bits, xor)
        key = (kind, *place)
        before = self._before.get(key)
        if before is not None and before.size == flat.size:
            self._joint(f"{kind} ~ before", flat, before, bits, xor)
        self._now[key] = flat
        self.keep_words(flat, bits)

    def keep_words(self, words: Words, bits: int) -> None:
        if bits == 64 and self._kept < self.keep:
            self.words.append(words.reshape(-1).copy())
            self._kept += words.size

    def _joint(self, kind: str, one: Words, two: Words, bits: int, xor: bool) -> None:
        self.histograms[f"{kind} xor"].add(one ^ two, bits)
        if not xor:
            self.histograms[f"{kind} minus"].add(one - two, bits)

    def worst(self, count: int = 3) -> list[tuple[float, str]]:
        """The smallest p-values, after Bonferroni over every byte and bit of every histogram."""
        found = [(min(h.p_values()), kind) for kind, h in self.histograms.items()]
        tests = sum(9 * len(h.counts) + 1 for h in self.histograms.values())
        return [(p * tests, kind) for p, kind in sorted(found)[:count]]


@contextmanager
def watched(views: dict[int, View]) -> Iterator[None]:
    """Let the views see what their evaluators see."""
    call, draw, opening, flush = Gate.__call__, Evaluation._prepared, Evaluation.open, Evaluation.flush

    def gate(self: Gate, p: Any, *args: Any, **kwargs: Any) -> Any:
        outer = getattr(p, "seen", None)
        p.seen = (self.__name__, [], [0])
        try:
            return call(self, p, *args, **kwargs)
        finally:
            p.seen = outer

    def prepared(self: Any, name: str) -> Words:
        words = draw(self, name)
        if self.role in views:
            view, (active, own, _) = views[self.role], self.seen
            wanted: Slot = self._material.plan.slots[self.gate, name]
            if wanted.kind is Kind.BOTH or (wanted.kind is Kind.SHARE and self.role == 2):
                bits = 8 * wanted.width
                view.see(f"{active}.{name} dealt", (self.section, self.gate), words, bits, wanted.bit, own)
                if name == "lam" and bits == 64:
                    _truncations(self, view, active, words)
            else:
                own.append((name, words))
                view.keep_words(words, 64)
        return words

    def opened(self: Any, masked: Words, extent: Extent, codec: Codec = Codec.WORDS) -> Opening:
        asked = opening(self, masked, extent, codec)
        if self._recording is None and self.role in views:
            active, own, count = self.seen
            kind, place = f"{active}.{count[0]}:{codec.value}", (self.section, self.gate)
            self.__dict__.setdefault("waiting", []).append((kind, place, asked, masked, codec, list(own)))
            count[0] += 1
        return asked

    def flushed(self: Any) -> None:
        flush(self)
        for kind, place, asked, masked, codec, own in self.__dict__.pop("waiting", []):
            xor = codec in XOR
            received = asked.c ^ masked if xor else asked.c - masked
            views[self.role].see(kind, place, received, codec.value, xor, [*own, ("message", masked)])
            views[self.role].histograms[f"{kind} ~ opened"].add(asked.c, codec.value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gate, "__call__", gate)
        patch.setattr(Evaluation, "_prepared", prepared)
        patch.setattr(Evaluation, "open", opened)
        patch.setattr(Evaluation, "flush", flushed)
        yield


def _truncations(e: Any, view: View, active: str, words: Words) -> None:
    """Shares of two wires' masks in one section must not have a first share in common."""
    earlier = e.__dict__.setdefault("lams", {}).setdefault((e.section, e.rows.first), [])
    for gate, other in earlier:
        if other.size == words.size:
            view._joint(f"{active}.lam dealt ~ {gate}.lam dealt", words.reshape(-1), other.reshape(-1), 64, xor=False)
    earlier.append((active, words))


def near_pairs(words: Words) -> tuple[int, int, int]:
    """(equal words, pairs whose sum or difference is below 2^19, pairs of pairs with one difference)."""
    flat = words.view(np.uint64)
    equal = _repeated(flat)
    i, j = np.triu_indices(flat.size, 1)
    differences = flat[i] - flat[j]
    bound = np.uint64(1 << 19)
    small = sum(int(((x + bound) < 2 * bound).sum()) for x in (differences, flat[i] + flat[j]))
    return equal, small, _repeated(differences)


def _repeated(words: NDArray[np.uint64]) -> int:
    ordered = np.sort(words)
    return int((ordered[1:] == ordered[:-1]).sum())
