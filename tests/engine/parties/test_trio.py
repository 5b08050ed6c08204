"""The whole program at three parties computes what it computes in the clear, in as many rounds as the protocol says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.parties.plain import Plain
from engine.ring.kernels import amx
from tests.engine.trio import StepRun, Trio, prompt, small_model, wide_model

Real = NDArray[np.float64]
LARGEST, RMS = 0.03, 0.006  #: errors of a logit; the logits' spread is 3
LAYERS = 3


def close(step: StepRun, exact: Real) -> None:
    assert not step.wrapped
    off = step.logits - exact
    assert abs(off).max() < LARGEST
    assert np.sqrt(np.square(off).mean()) < RMS


def decode(trio: Trio, plain: Plain, tokens: list[int]) -> None:
    for token in tokens:
        close(trio.step([token]), plain.run([token], answers=1))


@pytest.mark.parametrize("length", [1, 17, 100])
def test_a_prompt_and_the_tokens_after_it(length: int) -> None:
    trio, plain = Trio(small_model()), small_model().plain()
    close(trio.step(prompt(length)), plain.run(prompt(length), answers=1))
    decode(trio, plain, [0, 306, 11, 11])


@pytest.mark.parametrize("tiles", [True, False], ids=["as here", "words"])
def test_a_wide_model_whose_products_of_many_rows_are_those_of_tiles(*, tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of at least 64 words a row, modulo 2^40 where no more is read; in tiles where the processor has them."""
    if not tiles:
        monkeypatch.setattr(amx, "granted", lambda: False)
    trio, plain = Trio(wide_model()), wide_model().plain()
    for length in (17, 70, 12, 3):
        close(trio.step(prompt(length)), plain.run(prompt(length), answers=1))


def test_every_row_of_a_prompt_may_be_answered() -> None:
    step = Trio(small_model()).step(prompt(17), answers=17)
    close(step, small_model().plain().run(prompt(17)))
    assert len(step.answer.data) == 17 * 3 * 307


def test_answers_that_reach_into_an_earlier_pass() -> None:
    trio = Trio(small_model(1))
    step = trio.step(prompt(70), answers=10)  # passes of 64 and 6 rows: the first answers 4
    close(step, small_model(1).plain().run(prompt(70), answers=10))
    assert step.rounds == 2 * (2 + 20 + 4)


def test_one_token_of_the_prefix_in_place_of_all() -> None:
    trio, plain = Trio(small_model(), prefix=1), small_model().plain(prefix=1)
    assert trio.dealer.position == 1
    close(trio.step(prompt(9)), plain.run(prompt(9), answers=1))
    decode(trio, plain, [3, 4])
    other = small_model().plain().run(prompt(9), answers=1)
    assert abs(other - plain.run(prompt(9), position=1, answers=1)).max() > 10 * LARGEST  # the prefix matters


def test_a_rewind_in_the_middle_and_another_text_after_it() -> None:
    trio, plain = Trio(small_model()), small_model().plain()
    trio.step(prompt(17))
    decoded = trio.step([5])
    trio.rewind(10)
    other = prompt(12, seed=9)
    plain.run(prompt(17), answers=1)
    close(trio.step(other), plain.run(other, position=10, answers=1))
    decode(trio, plain, [5, 6])
    assert abs(decoded.logits - trio.step([5]).logits).max() > LARGEST


def test_a_rewind_to_the_prefix_and_over_no_token() -> None:
    trio, plain = Trio(small_model()), small_model().plain()
    close(trio.step(prompt(3)), plain.run(prompt(3), answers=1))
    trio.rewind(trio.dealer.position)
    decode(trio, plain, [8])
    trio.rewind(4)
    close(trio.step(prompt(3)), plain.run(prompt(3), position=4, answers=1))


def test_blocks_and_steps_need_not_meet() -> None:
    """Rows dealt in blocks of 3, 1 and 7 serve steps of 2, 6 and 3: a pass ends where a block ends."""
    trio, plain = Trio(small_model()), small_model().plain()
    for count in (3, 1, 7):
        trio.deal(count)
    rounds = []
    for count in (2, 6, 3):
        tokens = prompt(count, seed=count)
        step = trio.step(tokens)
        close(step, plain.run(tokens, answers=1))
        rounds.append(step.rounds)
    assert trio.dealer.queued_rows == 0
    layers = 2 + 20 * LAYERS
    assert rounds == [layers + 4, 3 * layers + 4, layers + 4]


def test_the_context_may_be_filled_to_its_last_token() -> None:
    trio, plain = Trio(small_model(1), context=20), small_model(1).plain()
    close(trio.step(prompt(15)), plain.run(prompt(15), answers=1))
    decode(trio, plain, [1])
    with pytest.raises(ValueError, match="leave the context"):
        trio.deal(1)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("context", [8, 200])
def test_rounds_are_2_and_23_a_layer_and_5_whatever_the_context(layers: int, context: int) -> None:
    trio = Trio(small_model(layers))
    first = trio.step(prompt(context - 4)[:64])
    for start in range(64, context - 4, 64):
        first = trio.step(prompt(context - 4)[start : start + 64])
    assert trio.dealer.position == context
    step = trio.step([3])
    expected = 2 + 20 * layers + 4
    assert first.rounds == step.rounds == expected
    assert first.answer.rounds == step.answer.rounds == expected
    assert [len(m) for m in step.sent[0]] == [len(m) for m in step.sent[1]]


def test_a_pass_that_is_not_answered_has_no_rounds_for_it() -> None:
    assert Trio(small_model()).step(prompt(100)).rounds == (2 + 20 * LAYERS) + (2 + 20 * LAYERS + 4)


@pytest.mark.parametrize("tiny", [(), ("embed", "0.o"), ("embed", "0.o", "0.down")], ids=["no norm", "one norm", "two norms"])
def test_norms_that_lift_a_small_residual_to_more_bits(tiny: tuple[str, ...]) -> None:
    model = small_model(tiny=tiny)
    norms = [norm for layer in model.spec.layer for norm in (layer.attention_norm, layer.mlp_norm)]
    lifting = [norm.exponent <= model.spec.scales.norm - model.spec.scales.residual for norm in norms]
    assert lifting[: len(tiny)] == [True] * len(tiny)
    trio, plain = Trio(model), model.plain()
    for tokens in (prompt(9), [3], [306]):  # a residual of 1/64 has 12 of its 18 bits: a wrong share would be off by 2^60
        assert abs(trio.step(tokens).logits - plain.run(tokens, answers=1)).max() < 10 * LARGEST


def test_messages_have_the_same_lengths_for_any_prompt_of_that_length() -> None:
    one, two = (Trio(small_model(1), seed=seed).step(prompt(9, seed)) for seed in (1, 2))
    assert [len(m) for m in one.sent[0] + one.sent[1]] == [len(m) for m in two.sent[0] + two.sent[1]]


def test_what_is_exchanged_is_never_the_same_twice() -> None:
    trio = Trio(small_model(1))
    steps = [trio.step([7]) for _ in range(2)]
    trio.rewind(4)
    steps += [trio.step([7]) for _ in range(2)]
    messages = [m for step in steps for side in step.sent for m in side]
    assert len(set(messages)) == len(messages)


def test_two_sessions_of_one_seed_are_byte_for_byte_alike_and_of_two_are_not() -> None:
    one, two, other = (Trio(small_model(1), seed=seed).step(prompt(3)) for seed in (1, 1, 2))
    assert one.sent == two.sent
    assert not set(one.sent[0]) & set(other.sent[0])
