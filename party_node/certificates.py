"""Certificates that are over or soon will be, in the node's log: at its start, and once a day."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event, Thread

from engine.link.validity import Validity, today
from party_node.log import Log

_DAY_SECONDS = 86_400.0


def watch(certificates: Mapping[str, Validity], log: Log) -> None:
    """Warn now, and each day as long as this process runs; the keys say whose certificates they are."""
    warn(certificates, log)
    Thread(target=_each_day, args=(certificates, log), name="trine-certificates", daemon=True).start()


def warn(certificates: Mapping[str, Validity], log: Log) -> None:
    """A line for each that does not hold, or will not in a month."""
    now = today()
    for whose, validity in certificates.items():
        if what := validity.notice(now):
            log.warning("certificate", whose=whose, what=what, sha256=validity.fingerprint[:16])


def _each_day(certificates: Mapping[str, Validity], log: Log) -> None:
    never = Event()
    while not never.wait(_DAY_SECONDS):
        warn(certificates, log)
