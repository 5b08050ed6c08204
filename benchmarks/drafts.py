"""``python -m benchmarks drafts``: whole answers of the demo, plain and with drafts, dealing included.

Each answer has a fresh session of the same two node processes on this machine, so it begins with an empty queue and deals
every row that it uses or throws away. The second answer to a prompt takes the tokens of the first one, so that a close call
of the likeliest token does not compare two texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.demo.demo import Demo, demo
from engine.generate.sampling import Chooser, Logits, make_chooser
from engine.host.process import DESKTOP_BYTES, tune_process

DRAFTS = 4
MAX_TOKENS = 64
FRUITS = "apple, banana, cherry, damson, elderberry, fig, grape, hazelnut"
PROMPTS = {
    "repetitive": f"Repeat this list twice, word for word: {FRUITS}, {FRUITS}.",
    "ordinary": "Why is the sky blue?",
}


def measure(model: Path | None = None, prompts: Sequence[str] = tuple(PROMPTS)) -> list[dict[str, Any]]:
    """Two rows for each prompt, plain and with drafts; `model` as for `trine demo`."""
    tune_process(DESKTOP_BYTES)  # as the program does
    rows = []
    with demo(model) as parties:
        tokenizer = parties.tokenizer()
        for name in prompts:
            prompt = tokenizer.encode_chat([{"role": "user", "content": PROMPTS[name]}])
            choose: Chooser = make_chooser()
            for drafts in (0, DRAFTS):
                answer, figures = _answer(parties, prompt, choose, tokenizer.stop_ids, drafts)
                rows.append({"prompt": name, "drafts": drafts, "text": tokenizer.decode(answer)} | figures)
                choose = _following(len(prompt), answer)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    return (
        f"{row['prompt']}, drafts {row['drafts']}: {row['tokens_per_second']:.2f} tokens/s, {row['tokens']} tokens in "
        f"{row['steps']} steps, {row['accepted']} of {row['drafted']} drafts accepted, "
        f"{row['dealt_bytes'] / 1e6:.1f} MB dealt a token"
    )


def _following(start: int, answer: Sequence[int]) -> Chooser:
    """Takes these tokens, whatever the logits."""

    def choose(logits: Logits, context: Sequence[int]) -> int:
        del logits
        return answer[len(context) - start]

    return choose


def _answer(
    parties: Demo, prompt: list[int], choose: Chooser, stop_tokens: frozenset[int], drafts: int
) -> tuple[list[int], dict[str, Any]]:
    with parties.open_conversation() as conversation:
        answer, times = [], []
        for token in conversation.generate(
            prompt, max_tokens=MAX_TOKENS, choose=choose, stop_tokens=stop_tokens, drafts=drafts
        ):
            answer.append(token)
            times.append(time.monotonic())
        made = conversation.statistics
    return answer, {
        "tokens_per_second": (len(answer) - 1) / (times[-1] - times[0]),
        "tokens": len(answer),
        "steps": made.decode.steps + 1,
        "drafted": made.drafted,
        "accepted": made.accepted,
        "dealt_bytes": sum(made.bytes_per_token()[link] for link in ("D-E1", "D-E2")),
    }
