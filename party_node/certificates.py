"""Certificates that are over or soon will be, in the node's log: at its start, and once a day (party_node/server.py)."""

from __future__ import annotations

from collections.abc import Mapping

from engine.link.validity import Validity, today
from party_node.log import Log


def warn(certificates: Mapping[str, Validity], log: Log) -> None:
    """A line for each that does not hold, or will not in a month."""
    now = today()
    for whose, validity in certificates.items():
        if what := validity.notice(now):
            log.warning("certificate", whose=whose, what=what, sha256=validity.fingerprint[:16])
