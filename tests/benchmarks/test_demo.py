"""The demo is measured with real nodes, on the small model."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.demo import measure_demo
from benchmarks.promises import lines, promises
from benchmarks.traffic import by_gate
from tests.models.shared_small import share_small


@pytest.mark.timeout(300)
def test_the_demos_table(tmp_path: Path) -> None:
    small = share_small(tmp_path)
    demo = measure_demo(small.directory, quick=True)
    assert demo["empty_queue"]["tokens"] == demo["full_queue"]["tokens"] == 100
    assert demo["full_queue"]["prepared_rows"] >= 100
    assert [run["tokens"] > 0 for run in demo["short_questions"]["runs"]] == [True, True]
    for moment in demo["moments"]:
        for node in moment["nodes"]:
            assert 0 < node["private"] <= node["peak_resident"]
            assert node["mapped"] > 0
    steady = demo["steady"]["context"]
    opened = sum(gate.opened for gate in by_gate(small.client.spec, round(steady) + 1))
    assert opened < demo["steady"]["links"]["E1-E2 each way"] < 1.2 * opened  # and the rounds' headers
    table = lines(demo)
    assert len(table) == 2 + len(promises(demo))
    kept = {promise.what: promise.kept for promise in promises(demo)}
    assert kept["dealt for each further key"] == "yes"
    assert kept["`trine ask` from a cold start, first byte of the answer"] == ""
