"""What all sessions of a node share: its share of the model, its certificate, and how to reach the other node."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import BoundedSemaphore

from engine.errors import LinkError, ProtocolError
from engine.link import LinkOptions, Tls, connect
from engine.link.frames import HEADER_BYTES, HELLO_LIMIT
from engine.link.link import Link
from engine.models.planning import plans
from engine.parties.pack import NodePack
from engine.program.plan import Plan, made_bytes, round_bytes
from engine.rows.run import Rows
from engine.session import Terms
from engine.session.keys import fresh
from party_node.limits import Limits
from party_node.meeting import Meeting
from party_node.places import Places
from party_node.quota import Quota

PEER_PATH = "/peer"
SESSION_PATH = "/session"
START_BYTES = 16
FIRST_BYTES = HEADER_BYTES + HELLO_LIMIT
"""The longest first message of any link."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other node: where it listens, how it is dialled, whose certificate is whose."""

    host: str
    port: int
    tls: Tls
    fingerprint: str
    own_fingerprint: str

    @property
    def is_dialled(self) -> bool:
        """Whether this node calls the other one, not the other way round: the smaller fingerprint calls."""
        return self.own_fingerprint < self.fingerprint


@dataclass(slots=True)
class Node:
    """One per process; thread-safe."""

    pack: NodePack
    peer: Peer
    limits: Limits = field(default_factory=Limits)
    start_id: str = field(default_factory=lambda: fresh(START_BYTES).hex())
    quota: Quota | None = None
    meeting: Meeting = field(init=False)
    places: Places = field(init=False)
    _plans: list[Plan] = field(init=False)
    _dialling: BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self.meeting = Meeting(self.limits.pairing_seconds, early=2 * self.limits.sessions)
        self.places = Places(self.limits)
        self._dialling = BoundedSemaphore(2 * self.limits.sessions)
        self._plans = plans(self.pack.spec)

    def terms(self) -> Terms:
        """What this node says and wants when a session begins."""
        spec = self.pack.spec
        return Terms(
            program=spec.digest(),
            pack=self.pack.digest,
            role=self.pack.role,
            vocab=spec.vocab,
            d_model=spec.d_model,
            sections=spec.sections,
            prefix=len(spec.prefix),
            context=spec.context,
            queue_bytes=self.limits.queue_bytes,
            made_bytes=self._made_bytes,
            round_bytes=self._round_bytes,
            start_id=self.start_id,
            peer_fingerprint=self.peer.fingerprint,
        )

    def spend(self, client: str, rows: int) -> None:
        """Count rows that are about to be answered, or none to look only; ProtocolError row-limit."""
        if self.quota is not None:
            self.quota.spend(client, rows)

    def _made_bytes(self, count: int, position: int) -> int:
        return made_bytes(self._plans, Rows(0, position, count), self.pack.role)

    def _round_bytes(self, count: int, position: int) -> int:
        return round_bytes(self._plans, Rows(0, position, count))

    def dial(self) -> Link:
        """A fresh link to the other node; ProtocolError no-peer."""
        if not self._dialling.acquire(blocking=False):
            raise ProtocolError("no-peer", "it does not answer the calls that are under way")
        try:
            return connect(
                self.peer.host,
                self.peer.port,
                PEER_PATH,
                self.peer.tls,
                party="the other node",
                handshake_timeout=self.limits.handshake_seconds,
                options=LinkOptions(first_size=FIRST_BYTES, ping_interval=None),  # it may be computing and not reading
            )
        except LinkError as error:
            raise ProtocolError("no-peer", str(error)) from error
        finally:
            self._dialling.release()
