"""The wrap alarm over the whole program: planted at every truncation, in prefill and in decode, it is seen and redone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engine.parties.planted import Plant, Planted, Site
from tests.engine.trio import StepRun, Trio, prompt, small_model

PROMPT, NEXT = prompt(5), 11
PREFILL, DECODE = 1, 2 * len(PROMPT) + 1  # first rows: the prompt's, then its redo's, then the next token's
ERROR = 0.03  #: of a logit of the small model; their spread is 3


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Stands before every truncation of this test; has watched a session in which nothing was planted."""
    before, out = watched(), Planted()
    out.values = dict(before.values)
    out.install(monkeypatch)
    return out


@cache
def watched() -> Planted:
    """A session of the prompt, its redo, the next token and its redo, with nothing planted."""
    out = Planted()
    with pytest.MonkeyPatch.context() as patch:
        out.install(patch)
        steps = [step for step, _ in session()]
    assert not any(step.wrapped for step in steps)
    assert not out.crossed
    return out


def session() -> Iterator[tuple[StepRun, NDArray[np.float64]]]:
    """Every step is redone; (step, the plaintext's logits)."""
    trio, plain = Trio(small_model(1)), small_model(1).plain()
    for tokens in (PROMPT, [NEXT]):
        start, exact = trio.dealer.position, plain.run(tokens, answers=1)
        yield trio.step(tokens), exact
        trio.rewind(start)
        yield trio.step(tokens), exact


def run(planted: Planted, plants: list[Plant]) -> list[StepRun]:
    """The session with these plants: what is planted has really crossed the ring's edge, and every redo is right."""
    planted.add(plants)
    steps = []
    for i, (step, exact) in enumerate(session()):
        if i % 2 or not step.wrapped:
            assert not step.wrapped
            assert abs(step.logits - exact).max() < ERROR
        steps.append(step)
    for plant in plants:
        hit = [j for site, row, j in planted.crossed if (site, row) == (plant.site, plant.row)]
        assert len(hit) == plant.elements
    return steps


def sites() -> list[Site]:
    return watched().seen


def answered(site: Site) -> bool:
    """A truncation of the last section, which runs for the answered row only."""
    return site.section == small_model(1).spec.sections - 1


def test_every_truncation_of_the_program_is_a_site() -> None:
    names = [site.name for site in sites() if site.section == 1]
    norm = ["norm", "rsqrt", "norm"]
    softmax = ["exp", "p", "mixture", "reciprocal", "attention", "o"]
    attention_norm = [*norm[:2], "qk", "raw_v", "v"]
    assert sorted(names) == sorted([*attention_norm, *softmax, *norm, "lookup", "up", "silu", "ffn", "down"])
    assert [site.name for site in sites() if site.section == 2] == norm


def test_a_clean_session_raises_no_alarm(planted: Planted) -> None:
    assert [step.wrapped for step in run(planted, [])] == [False] * 4
    assert not planted.crossed


@pytest.mark.parametrize("index", range(22))
def test_a_wrap_at_any_truncation_is_seen_in_prefill_and_in_decode(planted: Planted, index: int) -> None:
    assert len(sites()) == 22
    site = sites()[index]
    row = PREFILL + (4 if answered(site) else 2)

    steps = run(planted, [Plant(site, row), Plant(site, DECODE)])

    assert [step.wrapped for step in steps] == [True, False, True, False]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", ["norm", "o", "lookup", "p", "ffn"])
def test_an_even_number_of_wraps_in_one_array_is_seen(planted: Planted, name: str, count: int) -> None:
    site = [s for s in sites() if s.name == name and s.section == 1][-1]  # of the look-ups SiLU's, of many values
    steps = run(planted, [Plant(site, PREFILL + 1, count), Plant(site, DECODE, count)])
    assert [step.wrapped for step in steps] == [True, False, True, False]


def test_two_wraps_in_two_rows_and_in_two_gates_are_seen(planted: Planted) -> None:
    up, down = (next(s for s in sites() if s.name == name) for name in ("up", "silu"))
    plants = [Plant(up, PREFILL + 2), Plant(up, PREFILL + 3), Plant(up, DECODE), Plant(down, DECODE)]
    assert [step.wrapped for step in run(planted, plants)] == [True, False, True, False]


def test_a_wrap_garbles_the_answer_or_the_cache_when_it_is_not_redone(planted: Planted) -> None:
    """Why there is an alarm: the logits of the step, or those that read its keys and values, are noise."""
    site = next(s for s in sites() if s.name == "down")
    planted.add([Plant(site, PREFILL + 4)])
    first, exact = next(session())
    assert first.wrapped
    assert abs(first.logits - exact).max() > 1


def test_an_alarm_in_the_first_pass_of_a_long_prompt_is_seen(planted: Planted) -> None:
    """The word is gathered over the whole step, also over passes that are not answered."""
    site, tokens = next(s for s in sites() if s.name == "v"), prompt(70)
    before = Planted()
    with pytest.MonkeyPatch.context() as patch:
        before.install(patch)
        assert not Trio(small_model(1)).step(tokens).wrapped
    planted.values = before.values
    planted.add([Plant(site, 3)])
    trio = Trio(small_model(1))
    assert trio.step(tokens).wrapped
    trio.rewind(len(trio.model.spec.prefix))
    redone = trio.step(tokens)
    assert not redone.wrapped
    assert abs(redone.logits - trio.model.plain().run(tokens, answers=1)).max() < ERROR
