"""Where the two nodes are, and who everybody is."""

from __future__ import annotations

from dataclasses import dataclass

from engine.link import Identity
from engine.link.tls import fingerprint, validity
from engine.link.validity import today


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

    def notices(self) -> tuple[str, ...]:
        """Of each certificate that does not hold now, or will not in a month, whose it is and what to do."""
        parties = {
            "your": self.identity.certificate,
            "node 1's": self.nodes[0].certificate,
            "node 2's": self.nodes[1].certificate,
        }
        now = today()
        found = {whose: validity(certificate).notice(now) for whose, certificate in parties.items()}
        return tuple(f"{whose} certificate {notice}" for whose, notice in found.items() if notice)
