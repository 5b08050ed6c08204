"""What each gate costs, from its plan alone: ``make gates`` (``python -m benchmarks.gates``) writes docs/gates.md.

`calls` holds a typical call of every gate. Each is planned by itself: the evaluator's side runs over zero rows, so rounds,
dealt and opened bits cannot disagree with the code. The error is the gate's own (`engine.program.bound`), which the gate's
test uses. `tests/benchmarks/test_gates.py` holds that the document is up to date and that no gate is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engine.functions.tables import WideWindow, Window
from engine.gates.answer import answer
from engine.gates.attention import mixture, remember, scores, sum_over_keys
from engine.gates.embedding import embedding
from engine.gates.exponential import exponential
from engine.gates.lookup import lookup
from engine.gates.matmul import matmul
from engine.gates.maximum import below, maximum
from engine.gates.product import multiply, sum_of_squares
from engine.gates.rotary import Rotary, rotate
from engine.gates.truncation import rescale, truncate
from engine.gates.wide import lookup_wide
from engine.models.planning import POWERS
from engine.program.bound import EXACT, ErrorBound
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.program.plan import Kind, Plan, Slot
from engine.program.recording import Shapes, record
from engine.rows.run import Extent
from engine.wire import Opening, Wire

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "gates.md"
N = 64  #: elements of a row: a multiple of 64, so that dealt bits fill their words
HEADS, DIM = 8, 8
BINS = Window(lo=26, n=6, lowest=-48)
CELLS = Window(lo=27, n=6, lowest=-32)
OCTAVES = WideWindow(lo=12, top=6, stages=9, low=0.1)
LEVELS = 16
BAR = r"\|"  #: in a cell of a table, which a bar by itself would end

HEAD = """\
# What each gate costs

Written by `make gates` from a typical call of each gate (`calls` in `benchmarks/gates.py`), which is planned by itself as a
model's sections are: the evaluator's side runs over zero rows. So rounds and bits are those of the code. A test compares.

*Dealt* is what D sends to an evaluator ahead of time, *opened* what each evaluator sends the other one in the gate's rounds;
all in bits, for each of what stands under *for each*. "+ n a key" comes on top for every key that the row sees. What the
evaluators draw from their own streams costs no traffic and is not counted, nor is what D sends with a step (for the embedding)
and receives of its answer. Openings that are pending together share a round (`engine/models/llama.py`), so a layer takes fewer
rounds than its gates one by one.

The *error* is how far a gate's value may be from the exact one: the `ErrorBound` that stands beside the gate and that its test
uses. A *unit* is the last place of the gate's output; of a look-up, which opens at `out + power` bits, it is 2^-out. "exact" is
exact in the ring, modulo 2^64 or what the gate opens.

| gate | computes | rounds | for each | dealt to E1 | dealt to E2 | opened each way | error | file | test |
|---|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Operand:
    """A wire or an opening that a call is given, by its elements a row."""

    kind: type[Wire] | type[Opening]
    extent: Extent

    def planned(self, e: Evaluation) -> Wire | Opening:
        """An evaluator's part of no rows."""
        none = np.empty(0 if self.extent.key else (0, self.extent.row), np.int64)
        return e.ready(none, self.extent) if self.kind is Opening else Wire(none, none, self.extent, source=(0, "input"))


def wire(row: int = 0, *, key: int = 0) -> Operand:
    """A wire of `row` elements a row, or of `key` elements for each key that a row sees."""
    return Operand(Wire, Extent(row, key))


def opening(row: int = 0, *, key: int = 0) -> Operand:
    """An opening, likewise."""
    return Operand(Opening, Extent(row, key))


@dataclass(frozen=True)
class Call:
    """A gate's typical call: `what` it computes, for the table's reader, and the call's arguments.

    Costs are given for `each` of the output's elements, or of `elements` a row where that is given.
    `tables` are the shapes of the look-up tables that the gate reads, as `Weights.tables` holds them. `test` is the gate's
    test in tests/engine/gates, by default test_FILE.py for engine/gates/FILE.py.
    """

    gate: Gate
    what: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    each: str = "element"
    elements: int = 0
    tables: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    test: str = ""
    error: ErrorBound | None = None  #: of this call, where it is closer than the gate's


def calls() -> list[Call]:
    """A typical call of every gate, in the order in which a decoder uses them."""
    no_tokens = np.empty(0, np.int64), np.empty((0, N), np.int64)
    angle, narrow = Rotary(0, 0, DIM, 10000.0, 14), 34
    leaves = (OCTAVES.degree + 1) * OCTAVES.tree.starts[-1]
    exponents = {"exp": (1, 2 * CELLS.cells), "pow.coarse": (POWERS,), "pow.fine": (POWERS,)}
    return [
        Call(embedding, "a secret token's row of a table [4,096, 64]", (no_tokens, 4096, N), each="token", elements=1),
        Call(rescale, "a wire with fewer fraction bits", (wire(N), 18, 13, "norm")),
        Call(rescale, "a wire with more fraction bits", (wire(N), 13, 18, "norm"), error=EXACT),
        Call(truncate, "a wire of an opening", (opening(N), 29, 12, "up")),
        Call(truncate, "the same, where nothing needs a share of λ", (opening(N), 29, 18, "o"), {"share": False}),
        Call(matmul, "x·W", (wire(N), "w", N), test="test_products.py"),
        Call(matmul, "x·W modulo 2^40", (wire(N), "w", N), {"low40": True}, test="test_products.py"),
        Call(multiply, "x·y", (wire(N), wire(N)), test="test_products.py"),
        Call(sum_of_squares, "Σ x² over a row", (wire(N),), each="row", test="test_products.py"),
        Call(lookup_wide, "1/x or 1/√x over 24 octaves", (opening(N), "f", OCTAVES, 17, 10), tables={"f": (leaves,)}),
        Call(lookup, "f(x) in 64 cells, degree 3", (opening(N), "f", CELLS, 3, 12, 10), tables={"f": (4, 2 * CELLS.cells)}),
        Call(rotate, "q or k at its position", (opening(N), angle, narrow), test="test_attention.py"),
        Call(remember, "keys and values kept", (0, wire(N), wire(N)), elements=N, test="test_attention.py"),
        Call(scores, "q·Kᵀ", (0, wire(HEADS * DIM), HEADS), each="head and key", test="test_attention.py"),
        Call(
            maximum,
            "M, a head's maximum or more (log2), 16 levels",
            (opening(key=HEADS), HEADS, BINS, -4, LEVELS),
            each="head",
        ),
        Call(below, "s − M", (opening(key=HEADS), opening(HEADS), HEADS), each="head and key", test="test_maximum.py"),
        Call(exponential, "2^x in 64 cells of 4", (opening(key=HEADS), CELLS, 20), each="head and key", tables=exponents),
        Call(sum_over_keys, "Σ over a row's keys", (wire(key=HEADS), HEADS), each="head", test="test_attention.py"),
        Call(mixture, "p·V", (0, wire(key=HEADS), HEADS), test="test_attention.py"),
        Call(answer, "64 logits and the alarm, forwarded to D", (wire(N), N), each="logit", elements=N),
    ]


@dataclass(frozen=True)
class Bits:
    """Bits of a row: so many, and so many more for each key that it sees."""

    row: Fraction = Fraction(0)
    key: Fraction = Fraction(0)

    def __add__(self, other: Bits) -> Bits:
        return Bits(self.row + other.row, self.key + other.key)

    def __str__(self) -> str:
        row, key = (f"{float(bits):,g}" for bits in (self.row, self.key))
        return row if not self.key else f"{row} + {key} a key" if self.row else f"{key} a key"


@dataclass(frozen=True)
class Cost:
    """What a call costs for each element."""

    rounds: int
    dealt: tuple[Bits, Bits]  #: to E1, to E2
    opened: Bits  #: each way


def cost(call: Call) -> Cost:
    """The cost of a call, from its plan."""
    outputs: list[Any] = []

    def program(e: Evaluation) -> Any:
        arguments = (a.planned(e) if isinstance(a, Operand) else a for a in call.arguments)
        outputs.append(call.gate(e, *arguments, **call.options))
        return outputs[0]

    tables = {name: np.empty(shape, np.int64) for name, shape in call.tables.items()}
    plan = record(program, Shapes(tables, layers=1, kv_heads=HEADS, head_dim=DIM))
    extent = Extent(call.elements) if call.elements else outputs[0].extent
    dealt = tuple(_each(_dealt(plan, role), extent) for role in (1, 2))
    opened = (_bits(extent, width) for opened in plan.rounds for extent, width in opened)
    return Cost(len(plan.rounds), (dealt[0], dealt[1]), _each(opened, extent))


def _dealt(plan: Plan, role: int) -> Iterator[Bits]:
    for slot in plan.slots.values():
        if slot.kind is Kind.BOTH or (slot.kind is Kind.SHARE and role == 2):
            yield _bits(slot.extent, _width(slot))


def _width(slot: Slot) -> int:
    """Bits of an element on its way: `factor` words, or `factor` single bits."""
    return slot.factor * (1 if slot.bit else 8 * slot.width)


def _bits(extent: Extent, width: int) -> Bits:
    return Bits(Fraction(extent.row * width), Fraction(extent.key * width))


def _each(bits: Iterable[Bits], elements: Extent) -> Bits:
    """A row's bits for each of its elements; those that grow with the keys as the elements do are a constant for each."""
    total = sum(bits, Bits())
    if elements.key and not total.row:
        return Bits(total.key / elements.key)
    return Bits(total.row / elements.row, total.key / elements.row)


def file_of(gate: Gate) -> str:
    """The gate's file, from the repository's root."""
    return str(gate.sides[1].__module__).replace(".", "/") + ".py"


def its_test(call: Call) -> str:
    """The test of the call's gate, from the repository's root."""
    return f"tests/engine/gates/{call.test or 'test_' + Path(file_of(call.gate)).name}"


def document() -> str:
    """docs/gates.md."""
    return HEAD + "".join(_line(call) for call in calls())


def _line(call: Call) -> str:
    made, gate = cost(call), call.gate
    costs = (str(made.rounds), call.each, *map(str, made.dealt), str(made.opened))
    cells = (
        f"`{gate.__name__}`",
        call.what,
        *costs,
        str(call.error or gate.error),
        f"`{file_of(gate)}`",
        f"`{its_test(call)}`",
    )
    return "".join(f"| {cell.replace('|', BAR)} " for cell in cells) + "|\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), "utf-8")
