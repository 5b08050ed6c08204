"""No slot, no address, no byte that is dealt or sent has changed since the golden file was written (`golden_plans`)."""

from __future__ import annotations

import json

from tests.engine.models import golden_plans


def test_nothing_has_changed_since_the_golden_file_was_written() -> None:
    before = dict(golden_plans.flat(json.loads(golden_plans.GOLDEN.read_text("utf-8"))))
    now = dict(golden_plans.flat(golden_plans.compute()))
    changed = [f"{name}: {before.get(name)} before, {now.get(name)} now" for name in before | now]
    changed = [line for line, name in zip(changed, before | now, strict=True) if before.get(name) != now.get(name)]
    assert not changed, f"{len(changed)} things have changed:\n" + "\n".join(changed)


def test_both_evaluators_of_the_golden_session_agree() -> None:
    session = json.loads(golden_plans.GOLDEN.read_text("utf-8"))["session"]
    for name in ("prefill", "decode", "behind the rewind"):
        step = session[name]
        assert step["answer of evaluator 1"] == step["answer of evaluator 2"]
        assert not step["wrapped"]
        lengths = [[message.split()[0] for message in step[f"messages of evaluator {role}"]] for role in (1, 2)]
        assert lengths[0] == lengths[1]
