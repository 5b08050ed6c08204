"""Drafting the next tokens from the text itself, and verifying them (prompt look-up; Leviathan et al., arXiv 2211.17192).

A draft is a guess that the model is asked about together with the token before it: one step gives the logits behind that
token and behind every draft. The chooser then walks along them. What it takes is the text, whether it was drafted or not,
so drafts change how fast a text comes and never which: a chooser is a function of (key, position, logits), greedy or not.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from engine.errors import InputError
from engine.generate.sampling import Chooser, Logits

__all__ = ["LONGEST", "MAX_DRAFTS", "SHORTEST", "accepted", "check_drafts", "choose_along", "look_up"]

LONGEST, SHORTEST = 6, 4
"""Tokens of the text's end that are looked up: a longer repetition goes on alike more often.

A rejected draft costs more than an accepted one saves, because the rows that are queued behind it are thrown away. Ends of two
tokens were right for 15 tokens of prose and wrong 70 times, ends of four for 4 and 4 (SmolLM2's tokens, four drafts a step).
"""

MAX_DRAFTS = 16
"""In one step: a quarter of a block of dealt rows, so that most steps find rows for all of them."""


def check_drafts(count: int) -> None:
    """InputError unless a step may verify so many."""
    if not 0 <= count <= MAX_DRAFTS:
        raise InputError(f"drafts is {count}; it must be 0 (none) to {MAX_DRAFTS}")


def look_up(tokens: Sequence[int], count: int) -> list[int]:
    """`count` guesses of what follows `tokens`: what followed the latest earlier occurrence of their end.

    The longest end of `LONGEST` down to `SHORTEST` tokens that occurred before counts; without one there is no guess. An
    occurrence may overlap the end, and the guess goes on in itself, as a copy of Lempel and Ziv's (1977) does: a text that
    goes round in a circle is drafted round it. Linear in the text's length.
    """
    held = list(tokens)
    for size in range(min(LONGEST, len(held) - 1), SHORTEST - 1, -1):
        end, last = held[-size:], held[-1]
        for after in range(len(held) - 1, size - 1, -1):
            if held[after - 1] == last and held[after - size : after] == end:
                for at in range(after, after + count):
                    held.append(held[at])
                return held[len(tokens) :]
    return []


def choose_along(
    logits: Logits, drafts: Sequence[int], tokens: Sequence[int], choose: Chooser, stop_tokens: Container[int] = ()
) -> list[int]:
    """The tokens behind `tokens`, one to 1 + d of them, exactly those of a step each.

    `logits`, float64 [1 + d, vocab], are those behind `tokens` and behind each of d `drafts`. The walk ends with the first
    token that was not drafted, with the last row, or with one of `stop_tokens`.
    """
    context = list(tokens)
    for row, behind in enumerate(logits):
        token = choose(behind, context)
        context.append(token)
        if token in stop_tokens or row == len(drafts) or token != drafts[row]:
            break
    return context[len(tokens) :]


def accepted(drafts: Sequence[int], chosen: Sequence[int]) -> int:
    """How many drafts the chosen tokens begin with."""
    pairs = zip(drafts, chosen, strict=False)
    return next((row for row, (draft, token) in enumerate(pairs) if draft != token), min(len(drafts), len(chosen)))
