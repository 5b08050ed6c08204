"""What a node bears at most, each limit by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """A node's limits; seconds are wall clock."""

    sessions: int = 4
    client_sessions: int = 2
    """Sessions at a time of one certificate."""
    idle_seconds: float = 45.0
    """Without a computation, after which a session gives its place to whoever waits for one."""
    unmet_seconds: float = 2.0
    """The same for a session of which the other node knows nothing: its client called one node only, or is about to leave."""
    handshakes: int = 256
    """Callers at a time whose handshake is not over; at most half of the descriptors that the process may open."""
    connections: int = 64
    """Links at a time, those with a session included; the handshake of each is over."""
    handshake_seconds: float = 5.0
    """For TLS and the websocket handshake together, and again for the first message."""
    silence_seconds: float = 8.0
    """For a client to answer a ping. Longer than a client waits: nobody sits before a node, and a desktop may be very busy."""
    pairing_seconds: float = 10.0
    """Until the other node's half of a session must be there."""
    peer_silence_seconds: float = 3.0
    """For the other node to show that it lives, after a second in which it did not."""
    round_seconds: float = 600.0
    """For one round with the other node, which may be waiting for the client's material on a slow line."""
    stop_seconds: float = 60.0
    """For the client's STOP at this node, once it has been heard at the other one."""
    leave_seconds: float = 4.0
    """For the threads of links and sessions, once the node is told to stop."""
    small_messages: int = 2000
    """Messages of less than 4 kB that a session is heard a second, and so many at once; further ones wait. An honest client
    sends some hundreds."""
    daily_rows: int = 50_000
    """Answered rows of one certificate a day, which brakes the copying of a model from its answers; 0: as many as it wants."""
    queue_bytes: int = 5 << 28
    """Memory of one session's rows that wait to be used, once they are prepared."""
