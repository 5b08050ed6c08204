"""Figures of an answer, for `trine ask --stats` and `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.chat.chat import Chat
from app.chat.events import Done

if TYPE_CHECKING:
    from app.local_party import Phase

__all__ = ["as_lines", "as_object"]

LINKS = {"D-E1": "you and node 1", "D-E2": "you and node 2", "E1-E2": "between the nodes"}


def as_object(chat: Chat, done: Done, cold_start_seconds: float) -> dict[str, object]:
    """The answer and its figures, for JSON. Bytes are those of a token, both ways, dealt material included."""
    figures: dict[str, object] = {
        "answer": chat.messages[-1].text if chat.answered else "",
        "reason": done.reason.value,
        "prompt_tokens": done.speed.prompt_tokens,
        "answer_tokens": done.speed.answer_tokens,
        "tokens_per_second": done.speed.tokens_per_second,
        "first_token_seconds": done.speed.first_token_seconds,
        "seconds": done.speed.seconds,
        "cold_start_seconds": cold_start_seconds,
    }
    if chat.conversation is not None:
        made = chat.conversation.statistics
        figures |= {
            "prefill": _phase(made.prefill),
            "decode": _phase(made.decode),
            "bytes_per_token": made.bytes_per_token(),
            "redone_steps": made.redone,
            "dealt_tokens": made.dealt_rows,
            "drafted": made.drafted,
            "accepted": made.accepted,
        }
    return figures


def as_lines(chat: Chat, done: Done, cold_start_seconds: float) -> list[str]:
    """The same in words, a line a kind; one begins with `rounds`."""
    speed = done.speed
    lines = [
        f"tokens/s {speed.tokens_per_second:.2f} ({speed.answer_tokens} tokens in {speed.seconds:.1f} s, "
        f"the first after {speed.first_token_seconds:.1f} s)"
    ]
    if chat.conversation is not None:
        made = chat.conversation.statistics
        step = "step" if made.drafted else "token"
        lines.append(f"rounds {_rounds(made.decode)} a {step}, {_rounds(made.prefill)} a pass of the prompt")
        lines.append(f"bytes a token {_bytes(made.bytes_per_token())}")
        if made.drafted:
            lines.append(f"drafted {made.drafted} tokens, {made.accepted} of them accepted")
        if made.redone:
            lines.append(f"redone {made.redone} steps after a wrap")
    lines.append(f"cold start {cold_start_seconds:.1f} s")
    return lines


def _phase(phase: Phase) -> dict[str, float]:
    return {"steps": phase.steps, "tokens": phase.tokens, "rounds": phase.rounds, "seconds": phase.seconds}


def _rounds(phase: Phase) -> str:
    return f"{phase.rounds / phase.steps:.0f}" if phase.steps else "-"


def _bytes(links: Mapping[str, float]) -> str:
    return ", ".join(f"{LINKS[link]} {count:,.0f}" for link, count in links.items())
