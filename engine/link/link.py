"""What every link offers, over a socket or in memory."""

from __future__ import annotations

from typing import Protocol

from engine.link.frames import Data


class Link(Protocol):
    """Whole messages in order, both ways; see `engine.link.Connection` for what each call does."""

    path: str
    peer_fingerprint: str
    party: str
    bytes_sent: int
    bytes_received: int
    messages_sent: int
    messages_received: int

    def send(self, data: Data, timeout: float | None = 60.0) -> None:
        """Send a message; LinkError if it cannot be."""

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message; LinkError after `timeout` seconds or when the link is gone."""
        ...

    def exchange(self, data: Data, timeout: float | None = 60.0) -> bytes:
        """Send a message and return the next one that comes."""
        ...

    def keep_watch(self, ping_interval: float, ping_timeout: float) -> None:
        """Measure silence from now on."""

    def watch(self, late: float = 0.0) -> None:
        """Show that this side lives, and LinkError if the other one does not; to be called every `ping_interval` seconds."""

    def close(self, linger: float = 1.0) -> None:
        """End the link; what was sent before still arrives. Idempotent."""

    def abort(self) -> None:
        """End the link at once, from any thread; who waits gets LinkError. Idempotent."""
