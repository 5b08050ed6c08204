"""Compute the golden files of tests/models/golden with transformers and torch, which Trine does not use.

Run by hand, in an environment of its own (never .venv):

    python -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0 transformers==5.23.0 gguf==0.19.0 sentencepiece
    /tmp/golden/bin/python scripts/golden/make_golden.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Nothing of Trine is imported but the maker of the small model's files, so that what is compared with
`Plain` owes nothing to it. Without the GGUF file only the small models are computed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.models import small_llama  # noqa: E402  (found through the line above)

GOLDEN = ROOT / "tests" / "models" / "golden"
SMALL_PROMPTS = (
    "A",
    "The first mate and the cook watched the harbour.",
    "In 1871 the town had 3,402 people, two mills and a bridge; ten years later the river took the "
    "bridge, and nobody rebuilt it.\nWhy? \u2014 \u00abtoo dear\u00bb, said the mayor.",
)
SMALL_TOKENS = 32
STRINGS = (
    "What is the capital of France?",
    "Hello world! 123",
    "In 1999, 3.14159 x 2 = 6.28318 (about 6 1/4).",
    "  two  spaces\tand a tab\n\n\nthree lines   ",
    "we're, they'll, I'd; DON'T SHOUT, it's 5 o'clock",
    "def f(x):\n    return {'a': x[0], \"b\": x != None}\n",
    "Caf\u00e9 d\u00e9j\u00e0 vu, na\u00efve \u00bd \u2460 \u0663\u0664",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u2014 \u0433\u043e\u0440\u043e\u0434; "
    "\u0391\u03b8\u03ae\u03bd\u03b1; \u5317\u4eac\u5e02; "
    "\u0627\u0644\u0642\u0627\u0647\u0631\u0629; \u0926\u093f\u0932\u094d\u0932\u0940",
    "\U0001f600\U0001f469\u200d\U0001f680 ok!!! ???...",
    "<|im_start|>user\nhi<|im_end|>\n",
    "",
)
QUESTION = "What is the capital of France?"


def main() -> None:
    """Write the golden files."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, model in (("untied", small_llama.UNTIED), ("tied", small_llama.TIED)):
        small(name, model)
    if len(sys.argv) > 1:
        real(Path(sys.argv[1]))


def small(name: str, model: small_llama.SmallLlama) -> None:
    """Token ids, logits and greedy tokens of a small model, in float64."""
    with tempfile.TemporaryDirectory() as folder:
        path = small_llama.write_huggingface(model, Path(folder))
        network = LlamaForCausalLM.from_pretrained(path, dtype=torch.float64)
        tokenizer = AutoTokenizer.from_pretrained(path)
        cases = [small_case(network, tokenizer, prompt) for prompt in SMALL_PROMPTS]
        chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=True, return_dict=False)
    arrays = {f"logits_{i}": case.pop("logits") for i, case in enumerate(cases)}
    write(
        f"small_{name}.json",
        {"versions": versions(), "weights": small_llama.digest(model), "cases": cases, "chat_tokens": chat},
    )
    np.savez_compressed(GOLDEN / f"small_{name}.npz", **arrays)


def small_case(network: LlamaForCausalLM, tokenizer: Any, prompt: str) -> dict[str, Any]:
    """One prompt: its ids, every second-last row's logits, and the greedy continuation."""
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0].numpy()
    rows = sorted({0, len(ids) // 2, len(ids) - 1})
    return {
        "prompt": prompt,
        "tokens": ids,
        "rows": rows,
        "greedy": greedy(network, ids, SMALL_TOKENS),
        "logits": logits[rows].astype(np.float32),
    }


def greedy(network: LlamaForCausalLM, ids: list[int], count: int, stop: int | None = None) -> list[int]:
    """Greedy tokens, every step computed from the whole context."""
    context = list(ids)
    while len(context) < len(ids) + count:
        with torch.no_grad():
            context.append(int(network(torch.tensor([context])).logits[0, -1].argmax()))
        if context[-1] == stop:
            break
    return context[len(ids) :]


def real(path: Path) -> None:
    """The demo model: token ids of some strings, and its answer to one question in float32."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # transformers takes GPT-2's words for every GGUF file; the model's own tokenizer (in the file: pre = smollm) cuts
    # every digit off first. It differs in " \u00bd" only.
    words = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
    network = LlamaForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        logits = network(torch.tensor([chat])).logits[0, -1].double()
    top = torch.topk(logits, 20)
    answer = greedy(network, chat, 24, stop=network.config.eos_token_id)
    strings = [[text, tokenizer.encode(text, add_special_tokens=False)] for text in STRINGS]
    value = {
        "versions": versions(),
        "file": path.name,
        "strings": strings,
        "question": QUESTION,
        "chat_text": tokenizer.decode(chat),
        "chat_tokens": chat,
        "greedy": answer,
        "answer": tokenizer.decode(answer),
        "top_tokens": top.indices.tolist(),
        "top_logits": [round(float(value), 5) for value in top.values],
        "logits_mean": float(logits.mean()),
        "logits_spread": float(logits.std()),
    }
    write("smollm2_135m.json", value)


def versions() -> dict[str, str]:
    """What computed the file."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def write(name: str, value: dict[str, Any]) -> None:
    """Write JSON with one key a line, and the strings readable."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(part, ensure_ascii=False)}" for key, part in value.items())
    (GOLDEN / name).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
