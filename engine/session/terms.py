"""What one side of a link knows and wants before a session begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One link's terms; digests and fingerprints in lower-case hex.

    `context` is the number of tokens a node bears at most or a client asks for, `queue_bytes` likewise
    for the memory of prepared rows; a client may ask for less queue than the node has, and gets what both have.
    `made_bytes(count, position)` is that memory at this link's node, for a block of `count` rows from `position` on;
    `round_bytes(count, position)` the longest message that its rows make the nodes send each other.
    """

    program: str
    pack: str  # of the node at this link
    role: int  # of the node at this link
    vocab: int
    d_model: int
    sections: int
    prefix: int  # length of the whole public prefix
    context: int
    queue_bytes: int
    made_bytes: Callable[[int, int], int] = field(repr=False)
    round_bytes: Callable[[int, int], int] = field(repr=False)
    start_id: str  # 16 bytes, drawn when this process started
    peer_fingerprint: str  # of the certificate of the other node
