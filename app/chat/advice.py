"""What a person can do about an error, in words."""

from __future__ import annotations

from engine.errors import LinkError, TrineError

__all__ = ["advised"]

_ASK_AGAIN = "Ask again: Trine then connects anew, and starts a node that has ended."


def advised(error: TrineError) -> str:
    """The error's own sentence, and the next act where that names none: a lost connection says only who was lost, and how."""
    text = str(error)
    lost = isinstance(error, LinkError) and error.party is not None
    if not lost or "certificate" in text or "\n" in text or ";" in text:
        return text
    return f"{text.rstrip('.')}. {_ASK_AGAIN}"
