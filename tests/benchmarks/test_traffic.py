"""The bytes by gate are the bytes: those of the dealt material, and those that the nodes exchange."""

from __future__ import annotations

import pytest

from benchmarks.traffic import by_gate, framed, measure_traffic, tokens_per_second
from tests.engine.trio import Trio, prompt, small_model


@pytest.mark.parametrize("length", [3, 40])
def test_every_byte_of_a_token_is_some_gates(length: int) -> None:
    trio = Trio(small_model())
    trio.step(prompt(length))
    before = set(trio.material)
    step = trio.step([5])
    gates = by_gate(trio.model.spec, trio.dealer.position)
    dealt = [len(part) for key in trio.material.keys() - before for part in trio.material[key]]
    assert sum(gate.dealt for gate in gates) == sum(dealt)
    assert sum(gate.opened for gate in gates) == sum(len(message) for message in step.sent[0])
    assert {gate.gate for gate in gates if gate.gate.startswith(("lookup silu", "matmul up"))} == {"lookup silu", "matmul up"}


def test_planning_leaves_the_engine_as_it_was() -> None:
    trio = Trio(small_model(1))
    by_gate(trio.model.spec, 9)
    assert trio.step(prompt(2)).rounds == 2 + 20 + 4


def test_frames_and_uplinks() -> None:
    assert framed(16384 - 40, 1) == 16384 + 22
    assert framed(16384, 1) == 16384 + 40 + 2 * 22
    assert tokens_per_second(2.5e6, 20) == 1.0
    spec = small_model().spec
    traffic = measure_traffic(spec, 64, 32)
    assert traffic["dealt"] < traffic["upward"] < 1.05 * traffic["dealt"] + 16 * spec.d_model + 400
