"""Who is at the other end: TLS 1.3, mutual, one exact certificate for each role.

Rule 1. Both ends show a certificate, and only a pinned one is taken: it is its own authority, and
        its SHA-256 fingerprint is compared again once the handshake stands.
Rule 2. Every certificate is made out to the one name `NAME`, so that a client's check of the name
        stays switched on while addresses may change, and TLS never names the host that is called.
Rule 3. No session is resumed, and no key is written anywhere: SSLKEYLOGFILE is not read.
Rule 4. A private key on disk is readable by its owner alone, and is there only where an operator keeps it: what a library
        or another process has to read from a file gets one without a name.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.errors import LinkError
from engine.link.validity import Validity

NAME = "trine"
_CERTIFICATE_FILE = "certificate.pem"
_KEY_FILE = "key.pem"
_ALWAYS = (
    datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),  # "no well-defined expiration" (RFC 5280, 4.1.2.5)
)
_KEY_BEGINS = b"-----BEGIN PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Identity:
    """A party's certificate and key, both PEM, and the certificate's SHA-256 in hex."""

    certificate: bytes
    key: bytes = field(repr=False)
    fingerprint: str

    @property
    def pem(self) -> bytes:
        """Certificate and key, as one file holds them."""
        return self.certificate + self.key

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write `certificate.pem` and `key.pem`, mode 0600, into a directory (mode 0700 if it is new).

        OSError, with what was written taken away again, if they cannot be, or one of them is there already.
        """
        root = Path(directory)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as undo:
            for name, content in ((_KEY_FILE, self.key), (_CERTIFICATE_FILE, self.certificate)):
                with open(os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    undo.callback(os.unlink, root / name)
                    file.write(content)
            undo.pop_all()


def load_identity(place: Path) -> Identity:
    """The identity in a directory that `Identity.save` wrote, or in a file that holds the certificate and then the key.

    LinkError, naming the place, if it cannot be read.
    """
    try:
        if place.is_dir():
            certificate, key = (place / _CERTIFICATE_FILE).read_bytes(), (place / _KEY_FILE).read_bytes()
        else:
            certificate, begins, rest = place.read_bytes().partition(_KEY_BEGINS)
            key = begins + rest
    except OSError as error:
        what = f"the identity cannot be read: {error.strerror} (`trine-model identity` makes one)"
        raise LinkError(f"{place}: {what}") from error
    try:
        return Identity(certificate, key, fingerprint(certificate))
    except LinkError as error:
        raise LinkError(f"{place}: the identity cannot be used: its certificate is no PEM") from error


@contextmanager
def unnamed_file(content: bytes) -> Iterator[int]:
    """The descriptor of a file that nobody can find and that nothing stays of, in memory where the system offers that.

    This process, or one that inherits it, reads it once at `/dev/fd/` and the descriptor.
    """
    with open(os.memfd_create("trine"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def make_identity(name: str, *, days: int | None = 3650) -> Identity:
    """A fresh self-signed certificate (ECDSA, P-256) for `name`, valid for `days` from now.

    None: at any time, for what is made anew with each start and never leaves a machine, whose clock may be wrong, or jump.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Unlike subjects, so that no store of pinned certificates confuses two of them.
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} {secrets.token_hex(8)}")])
    if days is None:
        since, until = _ALWAYS
    else:
        now = datetime.datetime.now(datetime.UTC)
        since = now - datetime.timedelta(days=1)  # the other clock may be behind
        until = now + datetime.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Identity(pem, secret, fingerprint(pem))


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the DER form of a PEM certificate, in hex; LinkError if it is none."""
    return fingerprint_of_der(_read(certificate).public_bytes(serialization.Encoding.DER))


def validity(certificate: bytes) -> Validity:
    """How long a PEM certificate holds; LinkError if it is none."""
    return Validity.of(_read(certificate))


def _read(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise LinkError("a pinned certificate cannot be read") from error


def fingerprint_of_der(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, in hex."""
    return hashlib.sha256(certificate).hexdigest()


@dataclass(frozen=True, slots=True)
class Tls:
    """How one side of a link is protected: the context, and the fingerprints that it accepts.

    `own` and `known` say how long its own certificate holds, and the pinned ones, for the words about one that does not.
    """

    context: ssl.SSLContext
    pinned: frozenset[str]
    own: Validity | None = None
    known: tuple[Validity, ...] = ()

    def peer(self, sock: ssl.SSLSocket) -> str:
        """The fingerprint at the other end; LinkError if it is not a pinned one."""
        found = fingerprint_of_der(sock.getpeercert(binary_form=True) or b"")
        if found not in self.pinned:
            raise LinkError("the certificate of the other side is not the pinned one")
        return found


def client_tls(identity: Identity, server: bytes) -> Tls:
    """For dialling the one server whose PEM certificate is `server`."""
    return _tls(ssl.PROTOCOL_TLS_CLIENT, identity, [server])


def server_tls(identity: Identity, clients: Iterable[bytes]) -> Tls:
    """For accepting those who show one of the PEM certificates `clients`."""
    tls = _tls(ssl.PROTOCOL_TLS_SERVER, identity, clients)
    tls.context.num_tickets = 0
    return tls


def _tls(protocol: int, identity: Identity, pinned: Iterable[bytes]) -> Tls:
    # Not create_default_context: that one reads SSLKEYLOGFILE and the system's authorities.
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    certificates = [_read(certificate) for certificate in pinned]
    for certificate in certificates:
        context.load_verify_locations(cadata=certificate.public_bytes(serialization.Encoding.DER))
    # ssl reads files only
    with unnamed_file(identity.certificate) as certificate_file, unnamed_file(identity.key) as key_file:
        try:
            context.load_cert_chain(f"/dev/fd/{certificate_file}", f"/dev/fd/{key_file}")
        except ssl.SSLError as error:
            raise LinkError("this party's own certificate and key do not fit") from error
    known = tuple(map(Validity.of, certificates))
    return Tls(context, frozenset(found.fingerprint for found in known), validity(identity.certificate), known)
