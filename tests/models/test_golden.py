"""The golden files belong to the small models that are made today."""

from __future__ import annotations

from pathlib import Path

import jinja2.sandbox
import pytest

from engine.checkpoint.open import open_checkpoint
from tests.models import golden, small_llama

NAMES = sorted(golden.SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_golden_files(name: str) -> None:
    assert small_llama.digest(golden.SMALL[name]) == golden.small_digest(name), "run scripts/golden/make_golden.py again"


@pytest.mark.parametrize("name", NAMES)
def test_the_prompts_have_these_tokens(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_huggingface(golden.SMALL[name], tmp_path))
    for case in golden.small_cases(name):
        assert checkpoint.tokenizer.encode(case.prompt).ids == case.tokens
        assert case.logits.shape == (len(case.rows), checkpoint.shape.vocab)
        assert case.logits[-1].argmax() == case.greedy[0]
        assert checkpoint.tokenizer.decode(case.tokens) == case.prompt


@pytest.mark.parametrize("name", NAMES)
def test_the_chat_template_has_these_tokens(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_huggingface(golden.SMALL[name], tmp_path))
    template = jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(checkpoint.chat_template or "")
    text = template.render(messages=[{"role": "user", "content": "hi"}], add_generation_prompt=True)
    assert checkpoint.tokenizer.encode(text).ids == golden.small_chat_tokens(name)
