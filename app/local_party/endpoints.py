"""Where the two nodes are, and who everybody is."""

from __future__ import annotations

from dataclasses import dataclass

from engine.link import Identity
from engine.link.tls import fingerprint


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A node's address and its certificate (PEM)."""

    host: str
    port: int
    certificate: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hex."""
        return fingerprint(self.certificate)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The client's own identity and both nodes, the first evaluator first."""

    identity: Identity
    nodes: tuple[Endpoint, Endpoint]
