"""docs/gates.md says what every gate costs: its figures are those of the plans, and two gates' those of a real run."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

import engine.gates
from benchmarks.gates import DOCUMENT, ROOT, Bits, Call, calls, cost, document, file_of, its_test
from engine.gates.product import multiply
from engine.gates.truncation import as_wire, rescale
from engine.parties.gate_trio import Input, run_gates
from engine.program.bound import EXACT, ErrorBound
from engine.program.gate import Gate


def every_gate() -> set[Gate]:
    """The gates of all modules in engine/gates."""
    modules = (import_module(f"engine.gates.{module.name}") for module in iter_modules(engine.gates.__path__))
    return {thing for module in modules for thing in vars(module).values() if isinstance(thing, Gate)}


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text("utf-8") == document(), "docs/gates.md is not what the gates cost: run make gates"


def test_no_gate_is_missing() -> None:
    missing = every_gate() - {call.gate for call in calls()}
    assert not missing, f"{[gate.__name__ for gate in missing]}: add a call to benchmarks/gates.py, then run make gates"


def named(call: Call) -> str:
    return call.gate.__name__


def text_of_test(call: Call) -> str:
    """The gate's test, or nothing where there is none."""
    path = ROOT / its_test(call)
    return path.read_text("utf-8") if path.is_file() else ""


@pytest.mark.parametrize("call", calls(), ids=named)
def test_the_file_and_the_test_that_are_named_are_the_gates(call: Call) -> None:
    name = call.gate.__name__
    assert f'Gate("{name}"' in (ROOT / file_of(call.gate)).read_text("utf-8")
    assert f"{name}(p, " in text_of_test(call), f"{its_test(call)} does not test {name}: write it, or give the call's test"


@pytest.mark.parametrize("call", [call for call in calls() if call.gate.error != EXACT], ids=named)
def test_an_error_that_is_printed_is_one_that_the_gates_test_uses(call: Call) -> None:
    used = f"{call.gate.__name__}.error"
    assert used in text_of_test(call), f"{its_test(call)} does not compare with {used}, which docs/gates.md prints"


def test_what_is_printed_of_a_product_is_what_a_run_deals_and_sends() -> None:
    x = np.arange(192, dtype=np.int64).reshape(3, 64)
    wires = run_gates(lambda p, a, b: (as_wire(p, a), as_wire(p, b)), Input(x), Input(x))

    ran = run_gates(lambda p, a, b: multiply(p, as_wire(p, a), as_wire(p, b)), Input(x), Input(x))

    printed = cost(next(call for call in calls() if call.gate is multiply))
    assert printed.rounds == ran.rounds == 1
    assert printed.opened == Bits(8 * ran.sent[0][0] / x.size)
    for role in (0, 1):
        assert printed.dealt[role] == Bits(8 * (len(ran.material[role]) - len(wires.material[role])) / x.size)


def test_what_is_printed_of_a_local_truncation_is_what_a_run_deals() -> None:
    x = np.arange(192, dtype=np.int64).reshape(3, 64)
    wire = run_gates(as_wire, Input(x))

    ran = run_gates(lambda p, a: rescale(p, as_wire(p, a), 18, 13, "norm"), Input(x))

    printed = cost(next(call for call in calls() if call.gate is rescale))
    assert printed.rounds == ran.rounds == 0
    assert printed.dealt[1] == Bits(8 * (len(ran.material[1]) - len(wire.material[1])) / x.size)


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (EXACT, "exact"),
        (ErrorBound(units=1), "1 unit"),
        (ErrorBound(units=2, relative=2e-4, besides="a wrap"), "0.0002 of the value + 2 units + a wrap"),
        (ErrorBound(absolute=8), "8"),
    ],
)
def test_a_bound_reads_as_a_sum(bound: ErrorBound, text: str) -> None:
    assert str(bound) == text


def test_a_bound_is_the_sum_of_its_terms() -> None:
    allowed = ErrorBound(units=2, relative=0.5, absolute=8).allowed(np.array([-4.0, 0.0]), 0.25)
    np.testing.assert_array_equal(allowed, [10.5, 8.5])


def test_no_gate_becomes_less_exact_without_a_word_here() -> None:
    """The gates' tests take their limits from `Gate.error`, so these are written down a second time."""
    bounds = {call.gate.__name__: str(call.gate.error) for call in calls() if call.gate.error != EXACT}
    assert bounds == {
        "answer": "1 unit",
        "exponential": "0.00031 of the value + 2 units",
        "lookup": "5 units + its table's fit, economised",
        "lookup_wide": "0.0002 of the value + 2 units",
        "maximum": "8 + a level missed, once in 2^10",
        "rescale": "1 unit + a wrap, with probability |z| / 2^64",
        "rotate": "1 unit + angles rounded to 14 bits",
        "truncate": "1 unit + a wrap, with probability |z| / 2^64",
    }
