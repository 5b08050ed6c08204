"""What the window says of an answer, in words."""

from __future__ import annotations

from collections.abc import Mapping

from app.chat.conversation import StepProgress
from app.chat.events import Done, Reason

__all__ = ["note", "progress", "states"]

_BETWEEN = "  ·  "
_ESTIMATE_AFTER = 2.0
"""Seconds before the time that is left can be told."""
_ENDS = {
    Reason.STOPPED: "stopped",
    Reason.LENGTH: "cut at the most tokens that were asked for",
    Reason.CONTEXT: "cut: the model's context is full, start a new chat",
}


def progress(step: StepProgress, elapsed: float) -> tuple[str, str]:
    """How far a prompt is after so many seconds, at length and for a narrow window."""
    if step.preparing:
        return "Waiting for one-time material from this computer…", "Waiting for one-time material…"
    layers = max(step.sections - 2, 1)
    words = [f"layer {min(max(step.section, 1), layers)} of {layers}"]
    if step.rows_done:
        words.append(f"{step.rows_done} of {step.rows} tokens")
    if elapsed > _ESTIMATE_AFTER and 0 < step.fraction < 1:
        words.append(f"about {max(round(elapsed * (1 - step.fraction) / step.fraction), 1)} s left")
    return _BETWEEN.join(["Computing your message among three parties", *words]), _BETWEEN.join(words)


def note(done: Done) -> tuple[str, str]:
    """The figures of an answer, and why it ended if not by itself; shorter, what of that matters most."""
    speed = done.speed
    if not speed.answer_tokens and done.reason is Reason.END:
        return ("The model answered nothing.",) * 2
    words = [f"{speed.answer_tokens:,} tokens" if speed.answer_tokens != 1 else "1 token"]
    if speed.tokens_per_second:
        words.append(f"{speed.tokens_per_second:.1f} tokens/s")
    words.extend(filter(None, [_ENDS.get(done.reason)]))
    return _BETWEEN.join(words), words[-1]


def states(links: Mapping[str, str], *, asking: bool) -> dict[str, str]:
    """The nodes' states as they are: a link that "may be called again" is called by the next question, and not before."""
    return {node: "not connected" if state == "connecting" and not asking else state for node, state in links.items()}
