"""What a checkpoint makes of text: whatever a template or a tokenizer does, it is one line, in bounded time and memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.sharing.reading import ReadLimits, read_calibration, read_checking
from engine.checkpoint.open import open_checkpoint
from engine.errors import ModelError
from tests.models import small_llama

SMALL = small_llama.SmallLlama(layers=1)
TIGHT = ReadLimits(seconds=3, memory=1 << 30)
BEYOND = "its tokenizer or its chat template takes more than 3 s or 1024 MB for a few texts"


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_calibration(path, TIGHT)
    said = str(caught.value)
    assert said.startswith(f"{path}")
    assert said.isprintable()
    return said.removeprefix(f"{path}")


def test_texts_are_those_of_the_tokenizer_and_the_template(tmp_path: Path) -> None:
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf")
    text, tokenizer = read_calibration(path, TIGHT), open_checkpoint(path).tokenizer
    assert tokenizer.decode(text.prefix, skip_special_tokens=False).startswith("<|im_start|>")
    assert text.eos == [0, 2]
    assert 2000 < sum(map(len, text.texts)) <= 2400
    assert text.model.tokenizer.to_str() == tokenizer.to_str()
    assert text.model.chat_template == small_llama.CHAT_TEMPLATE
    assert text.model.chat_template.tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert sum(map(len, read_checking(path, 100).texts)) == 100


def test_what_a_library_prints_is_no_part_of_the_answer(tmp_path: Path) -> None:
    path = small_llama.write_huggingface(SMALL, tmp_path / "model")
    words = json.loads((path / "tokenizer_config.json").read_text())
    words["bos_token"] = {"content": "<|im_start|>", "unheard_of": 1}
    (path / "tokenizer_config.json").write_text(json.dumps(words))
    assert read_calibration(path, TIGHT).prefix[0] == 1


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{%for a in range(99999)%}" * 3 + "{%endfor%}" * 3, BEYOND),
        ("{{ ('a'*10**5).replace('a', 'b'*10**5) }}", "the chat template fails (MemoryError: )"),
        ("{{ 10**5000 }}", "its tokenizer or its chat template fails (Exceeds the limit"),
        ("{{ raise_exception('\x1b[2J\n') }}", "the model does not take this conversation: \ufffd[2J\ufffd"),
        (None, "the model has no chat template"),
    ],
)
def test_templates(template: str | None, what: str, tmp_path: Path) -> None:
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes={"tokenizer.chat_template": template})
    assert refused(path).startswith(f": {what}")


def longer(value: dict[str, Any]) -> None:
    """Each e becomes 30, five times."""
    replace = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 30}
    value["normalizer"] = {"type": "Sequence", "normalizers": [replace] * 5}


def panicking(value: dict[str, Any]) -> None:
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    }


def without_an_unknown_token(value: dict[str, Any]) -> None:
    value["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"}


def with_few_tokens(value: dict[str, Any]) -> None:
    value["model"] |= {"vocab": {}, "merges": []}


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (longer, f": {BEYOND}"),
        (panicking, ": not a tokenizer that can be built (no entry found for key)"),
        (without_an_unknown_token, ": not a tokenizer that can be built (WordLevel error"),
        (with_few_tokens, ": the tokenizer makes only "),
    ],
)
def test_tokenizers(spoil: Callable[[dict[str, Any]], None], what: str, tmp_path: Path) -> None:
    path = small_llama.write_huggingface(SMALL, tmp_path)
    value = json.loads((path / "tokenizer.json").read_text())
    spoil(value)
    (path / "tokenizer.json").write_text(json.dumps(value))
    assert refused(path).startswith(what)
