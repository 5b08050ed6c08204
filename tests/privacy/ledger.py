"""What every party drew from every key, and every payload that went between parties.

A party's draws are known by the key, not by the session: a key that comes back after a restart is found out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from engine.prf.streams import Record


class LeakError(AssertionError):
    """Something that a receiver could learn from."""


class Draw(NamedTuple):
    """A run of bytes of one address of a key's stream."""

    label: int
    row: int
    section: int
    slot: int
    start: int
    stop: int

    @property
    def address(self) -> tuple[int, int, int, int]:
        return self[:4]


class Payload(NamedTuple):
    """What one party sent another; `session` and `step` count from 0, `round` is -1 outside the rounds."""

    session: int
    step: int
    round: int
    sender: str
    receiver: str
    kind: str
    length: int
    digest: bytes

    @property
    def place(self) -> tuple[int, int, int, str, str, str]:
        return self[:6]

    @property
    def content(self) -> tuple[int, bytes]:
        """What no other payload may equal. A step to E1 is row numbers, which are its session's own, and index differences
        below the vocabulary: two sessions say the same by chance (once in 131 steps of one token), one session never may.
        """
        return (self.session if (self.kind, self.receiver) == ("step", "E1") else -1), self.digest

    @property
    def shape(self) -> tuple[str, str, str, int]:
        return self.sender, self.receiver, self.kind.partition(" ")[0], self.length


@dataclass
class Ledger:
    """Thread-safe; outlives sessions."""

    draws: dict[tuple[str, bytes], list[Draw]] = field(default_factory=lambda: defaultdict(list))
    payloads: list[Payload] = field(default_factory=list)
    sessions: int = 0
    _lock: Lock = field(default_factory=Lock)

    def record(self, party: str, key: bytes) -> Record:
        """The callback for that party's stream."""
        owner = (party, hashlib.blake2b(key, digest_size=16).digest())

        def seen(label: int, row: int, section: int, slot: int, start: int, stop: int) -> None:
            with self._lock:
                self.draws[owner].append(Draw(label, row, section, slot, start, stop))

        return seen

    def sent(self, place: tuple[int, int, int], link: tuple[str, str], kind: str, data: bytes | memoryview) -> None:
        """A payload left."""
        digest = hashlib.blake2b(data, digest_size=16).digest()
        with self._lock:
            self.payloads.append(Payload(*place, *link, kind, len(data), digest))

    def keys_of(self, party: str) -> set[bytes]:
        """The names of the keys that a party drew from."""
        return {key for owner, key in self.draws if owner == party}

    def check_nothing_twice(self) -> None:
        """No byte of a key's stream was drawn twice by one party, and every place saw one payload."""
        for (party, _), draws in self.draws.items():
            for one, two in _overlaps(draws):
                raise LeakError(f"{party} drew the same range twice: {one} and {two}")
        places: dict[tuple[int, int, int, str, str, str], bytes] = {}
        for payload in self.payloads:
            if places.setdefault(payload.place, payload.digest) != payload.digest:
                raise LeakError(f"two payloads in one place: {payload.place}")
        random_ones = [p.content for p in self.payloads if p.length >= 16 and p.kind != "digest"]
        if len(set(random_ones)) != len(random_ones):
            raise LeakError("one payload was sent twice")

    def check_agreement(self, node: str) -> set[Draw]:
        """A node draws the ranges that the dealer drew from its key, in one piece or, the end ahead of time, in two; of a row
        that no step computes, the end at most. Nobody else drew from that key. Returns the ranges that it drew whole.
        """
        whole: set[Draw] = set()
        for key in self.keys_of(node):
            dealt = {draw.address: draw for draw in self.draws["D", key]}
            found: dict[tuple[int, int, int, int], Draw] = {}
            for draw in sorted(self.draws[node, key], reverse=True):  # of an address, the end first
                behind = found.get(draw.address)
                if draw.address not in dealt or draw.stop != (behind.start if behind else dealt[draw.address].stop):
                    raise LeakError(f"D and {node} drew different ranges")
                found[draw.address] = Draw(*draw.address, draw.start, dealt[draw.address].stop)
            if any(draw.start < dealt[address].start for address, draw in found.items()):
                raise LeakError(f"{node} drew what D did not")
            whole |= {draw for address, draw in found.items() if draw == dealt[address]}
            if {party for party, other in self.draws if other == key} != {"D", node}:
                raise LeakError(f"a third party drew from the key of D and {node}")
        return whole

    def shape(self) -> list[tuple[str, str, str, int]]:
        """(sender, receiver, type, length) of all payloads, in the order of each link and direction."""
        return sorted((p.shape for p in self.payloads), key=lambda shape: shape[:2])  # a stable sort


def _overlaps(draws: list[Draw]) -> Iterator[tuple[Draw, Draw]]:
    ordered = sorted(draws)
    for one, two in zip(ordered, ordered[1:], strict=False):
        if one.address == two.address and two.start < one.stop:
            yield one, two
