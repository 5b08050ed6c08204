"""The program in the clear computes what transformers computes."""

from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.open import open_checkpoint
from engine.parties.plain import Plain
from engine.provision.calibrate import provisional
from engine.provision.weights import WeightSource
from tests.models import golden, small_llama
from tests.models.demo_model import demo_gguf


def plain(checkpoint: Checkpoint, context: int) -> Plain:
    """A reader in the clear; windows do not matter to it."""
    s = checkpoint.shape
    base = {name: getattr(s, name) for name in ("vocab", "d_model", "heads", "kv_heads", "head_dim", "d_ffn", "rope_theta")}
    spec = provisional(base | {"name": "m", "rms_eps": s.rms_eps, "context": context, "prefix": (0,)}, s.layers)
    return Plain(spec, WeightSource(checkpoint), context=context)


@pytest.mark.parametrize("name", sorted(golden.SMALL))
def test_small_models_give_the_golden_logits_and_greedy_tokens(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_huggingface(golden.SMALL[name], tmp_path))
    for case in golden.small_cases(name):
        model = plain(checkpoint, len(case.tokens) + len(case.greedy))
        logits = model.run(case.tokens)
        np.testing.assert_allclose(logits[case.rows], case.logits, rtol=0, atol=2e-4)
        greedy = [int(logits[-1].argmax())]
        while len(greedy) < len(case.greedy):
            greedy.append(int(model.run([greedy[-1]])[-1].argmax()))
        assert greedy == case.greedy


def test_prefill_in_two_parts_and_a_rewind_change_nothing(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_huggingface(small_llama.UNTIED, tmp_path))
    case = max(golden.small_cases("untied"), key=lambda c: len(c.tokens))
    half = len(case.tokens) // 2
    model = plain(checkpoint, len(case.tokens))
    whole = model.run(case.tokens)
    parts = np.concatenate([model.run(case.tokens[:half], position=0), model.run(case.tokens[half:])])
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-9)


def test_the_demo_model_gives_the_golden_answer() -> None:
    case = golden.real_case()
    model = plain(open_checkpoint(demo_gguf()), len(case.chat_tokens) + len(case.greedy))
    logits = model.run(case.chat_tokens, answers=1)[-1]
    order = np.argsort(-logits)[: len(case.top_tokens)]
    assert order.tolist() == case.top_tokens
    np.testing.assert_allclose(logits[case.top_tokens], case.top_logits, rtol=0, atol=1e-2)
    assert abs(logits.mean() - case.logits_mean) < 1e-2
    assert abs(logits.std() - case.logits_spread) < 1e-2
    greedy = [int(logits.argmax())]
    while len(greedy) < len(case.greedy):
        greedy.append(int(model.run([greedy[-1]])[-1].argmax()))
    assert greedy == case.greedy
