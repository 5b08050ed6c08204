"""How long certificates hold, in words: whose is over, since when, and what to do.

Clocks are wrong more often than certificates: whatever is said of a date says what this machine takes for today.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

WARN_DAYS = 30
"""Before a certificate expires this is said at both ends of each link."""

_ANEW = "make a new one with `trine-model identity` and give it to the other parties"
_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, _NOT_YET_VALID of <openssl/x509_vfy.h>


def today() -> datetime.datetime:
    """What this machine's clock says, in UTC."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class Validity:
    """Of the certificate with this SHA-256 (hex): its first and its last moment."""

    fingerprint: str
    since: datetime.datetime
    until: datetime.datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Validity:
        """A certificate's own dates."""
        until = certificate.not_valid_after_utc
        return cls(certificate.fingerprint(hashes.SHA256()).hex(), certificate.not_valid_before_utc, until)

    def trouble(self, now: datetime.datetime) -> str:
        """What is wrong with it now, to stand behind "its certificate"; "" if nothing is."""
        if now > self.until:
            return f"expired on {self.until:%Y-%m-%d} (this machine's clock says {now:%Y-%m-%d})"
        if now < self.since:
            clock = f"this machine's clock, which may be wrong, says {now:%Y-%m-%d %H:%M} UTC"
            return f"is valid from {self.since:%Y-%m-%d %H:%M} UTC on, and {clock}"
        return ""

    def notice(self, now: datetime.datetime) -> str:
        """`trouble`, or that it expires within `WARN_DAYS`, with what to do; "" if there is time."""
        days = (self.until - now).days
        if now < self.since or days >= WARN_DAYS:
            return self.trouble(now)
        soon = f"expires on {self.until:%Y-%m-%d}, in {days} {'day' if days == 1 else 'days'}"
        return f"{self.trouble(now) or soon}: {_ANEW}"


def why_not_taken(code: int, message: str, pinned: Iterable[Validity]) -> str:
    """What is said about the other side's certificate, which failed OpenSSL's check with `code`; its owner has to act."""
    now = today()
    if code == _NOT_YET:
        found = [validity for validity in pinned if now < validity.since]
    else:
        found = [validity for validity in pinned if code == _EXPIRED and now > validity.until]
    if not found:
        return f"its certificate is not the pinned one ({message})"
    whose = f"its certificate {found[0].trouble(now)}"
    if len(found) > 1:
        prints = ", ".join(validity.fingerprint[:8] for validity in found[:4])
        return f"its certificate is one of several that {'expired' if code == _EXPIRED else 'are not valid yet'} ({prints}…)"
    todo = f": its owner has to {_ANEW}" if code == _EXPIRED else ""
    return f"{whose}{todo}"


def why_refused(reason: str, own: Validity | None) -> str:
    """What is said where the other side's alert is about our certificate; "" if it is about something else."""
    now = today()
    if own is None or not reason.endswith(("_CERTIFICATE_EXPIRED", "_BAD_CERTIFICATE", "_UNKNOWN_CA", "_CERTIFICATE_UNKNOWN")):
        return ""
    if trouble := own.trouble(now):
        return f"it does not take this party's certificate, which {own.notice(now) if now > own.until else trouble}"
    life = f"valid from {own.since:%Y-%m-%d %H:%M} UTC to {own.until:%Y-%m-%d}"
    if reason.endswith("_CERTIFICATE_EXPIRED"):
        return f"by its clock this party's certificate has expired, which is {life}: one of the two clocks is wrong"
    known = f"SHA-256 {own.fingerprint[:16]}…"
    what = f"it does not take this party's certificate ({known}, {life})"
    return f"the handshake failed: {what}, which is not enrolled there, or that clock is wrong"
