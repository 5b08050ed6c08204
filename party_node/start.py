"""From the command line's options to a server that is loaded, verified and warm."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from engine.errors import LinkError, ModelError
from engine.host.memory import Halves
from engine.link import Identity, Tls, client_tls, load_identity, server_tls
from engine.link.tls import fingerprint, validity
from engine.parties.pack import NodePack
from engine.provision.pack import load_node_pack
from party_node.certificates import warn
from party_node.limits import Limits
from party_node.log import Log, make_log
from party_node.node import Node, Peer
from party_node.quota import Quota, state_directory
from party_node.server import Server
from party_node.warm import warm_up


@dataclass(frozen=True, slots=True)
class Options:
    """What `trine-node` is told."""

    model: Path
    role: int
    peer: tuple[str, int]
    identity: Path
    peer_cert: Path
    client_certs: tuple[Path, ...]
    sessions: int
    client_sessions: int | None = None
    daily_rows: int = Limits().daily_rows
    state: Path | None = None
    weights: Halves = Halves.AUTO


def make_server(options: Options, listener: socket.socket, log: Log | None = None) -> Server:
    """Load everything and compile every kernel; ModelError or LinkError if something cannot be used."""
    own = load_identity(options.identity)
    other, clients = _certificate(options.peer_cert), [_certificate(path) for path in options.client_certs]
    prints = {fingerprint(certificate) for certificate in clients}
    if len({own.fingerprint, fingerprint(other)} | prints) != 2 + len(prints):
        raise LinkError("this node, the other node and the clients need a certificate each: two of these are the same")
    log = log or make_log(options.role)
    dialling, accepting = _protected(options, own, other, clients)
    enrolled = {f"client {number}": validity(certificate) for number, certificate in enumerate(clients, 1)}
    certificates = {"this node": validity(own.certificate), "the other node": validity(other)} | enrolled
    warn(certificates, log)
    pack = _pack(options)
    log.info("loaded", weights=str(Halves.STORED if pack.stored else Halves.DRAWN))
    warm_up(pack)
    peer = Peer(*options.peer, dialling, fingerprint(other), own.fingerprint)
    limits = limits_of(options)
    directory = options.state or state_directory()
    node = Node(pack, peer, limits, quota=Quota(limits.daily_rows, directory / f"rows-{own.fingerprint[:16]}.json", log))
    return Server(node, listener, accepting, frozenset(prints), log, daily=lambda: warn(certificates, log))


def limits_of(options: Options) -> Limits:
    """Unless it is said otherwise, one client cannot hold all places."""
    usual = min(Limits().client_sessions, max(1, options.sessions - 1))
    each = options.client_sessions or usual
    return Limits(sessions=options.sessions, client_sessions=each, daily_rows=options.daily_rows)


def _pack(options: Options) -> NodePack:
    pack = load_node_pack(options.model, halves=options.weights)
    if pack.role != options.role:
        raise ModelError(f"this is the pack of node {pack.role}, not of node {options.role}", options.model)
    return pack


def _certificate(path: Path) -> bytes:
    try:
        certificate = path.read_bytes()
    except OSError as error:
        raise LinkError(f"{path}: the certificate cannot be read: {error.strerror}") from error
    try:
        fingerprint(certificate)
    except LinkError as error:
        raise LinkError(f"{path}: this is no certificate in PEM form") from error
    return certificate


def _protected(options: Options, own: Identity, other: bytes, clients: list[bytes]) -> tuple[Tls, Tls]:
    """For dialling the other node, and for accepting it and the clients."""
    try:
        return client_tls(own, other), server_tls(own, [other, *clients])
    except LinkError as error:
        raise LinkError(f"{options.identity}: {error}") from error
