"""Tokenizers as model families have them, trained on a few sentences, and checkpoint directories around them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.models import small_llama
from tests.models.texts import PLAIN

CORPUS = [
    "The harbour was empty when the first of the boats came back.",
    "Nobody on the quay asked what the boats had brought; they could smell it.",
    "In the evening the children counted the boats again, and there was one more.",
    "Über den Hafen zog Nebel; the boats rang their bells.",
    "and then, and then, and then the bells stopped",
    "def count(boats):\n    return sum(1 for boat in boats)\n",
]
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEADERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def byte_level(special: list[str], cuts: list[Any], *, ignore_merges: bool = False) -> Tokenizer:
    """Byte-level BPE of 380 tokens; text is cut by `cuts` before it is spelled in bytes."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=380, initial_alphabet=alphabet, special_tokens=special, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator([*CORPUS, *PLAIN], trainer)
    return tokenizer


def llama3() -> Tokenizer:
    """As Llama 3's: its own cuts, words looked up whole, plain text behind <|begin_of_text|>."""
    words = pre_tokenizers.Split(Regex(_LLAMA3), "isolated")
    tokenizer = byte_level(list(HEADERS), [words, pre_tokenizers.ByteLevel(False, use_regex=False)], ignore_merges=True)
    first = HEADERS[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A {first}:1 $B:1", special_tokens=[(first, tokenizer.token_to_id(first))]
    )
    return tokenizer


def gpt2(*, digits: bool = False) -> Tokenizer:
    """As GPT-2's, with ChatML's tokens, runs of spaces as ordinary additions and, if asked for, each digit by itself."""
    cuts: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(special, [*cuts, pre_tokenizers.ByteLevel(False, use_regex=True)])
    spaces = [AddedToken(" " * count, special=False, normalized=True) for count in (2, 4, 8)]
    flags = [AddedToken("<think>", normalized=False, lstrip=True, rstrip=True), AddedToken("well", single_word=True)]
    tokenizer.add_tokens([*spaces, *flags])
    return tokenizer


def pieces(**more: object) -> bytes:
    """A sentencepiece model as LLaMA's are, of 400 pieces."""
    model = io.BytesIO()
    options: dict[str, object] = {
        "vocab_size": 400,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "minloglevel": 2,
    }
    lines = [line for text in CORPUS for line in text.splitlines()]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **(options | more))
    return model.getvalue()


def directory(path: Path, rows: int, config: dict[str, Any], files: dict[str, bytes | dict[str, Any]]) -> Path:
    """A checkpoint of one layer with `rows` rows in its embedding, that tokenizer_config.json and those files."""
    model = replace(small_llama.UNTIED, vocab=rows, layers=1)
    path.mkdir()
    tensors = {name: small_llama.stored_as(values, "float32") for name, values in small_llama.tensors(model).items()}
    small_llama.write_safetensors(tensors, "float32", path / "model.safetensors")
    small_llama.write_json(path / "config.json", small_llama.config(model))
    small_llama.write_json(path / "tokenizer_config.json", config)
    for name, content in files.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def entry(text: str, *, special: bool = True, **flags: bool) -> dict[str, Any]:
    """An added token as tokenizer_config.json lists it."""
    return {
        "content": text,
        "special": special,
        "normalized": False,
        "lstrip": False,
        "rstrip": False,
        "single_word": False,
    } | flags
