"""What the tests of the node share: two nodes in threads of this process, and a client whose every byte is ours."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from websockets.client import ClientProtocol
from websockets.uri import WebSocketURI

from app.local_party import Endpoint, Endpoints, NodeConversation
from engine.link import (
    Connection,
    Frame,
    FrameType,
    Identity,
    LinkOptions,
    client_tls,
    connect,
    decode,
    encode,
    make_identity,
    server_tls,
)
from engine.models.planning import plans
from engine.program.plan import Plan, made_bytes, round_bytes
from engine.provision.pack import load_node_pack
from engine.rows.run import Rows
from engine.session import ClientSession, PeerError, Ready, Terms, Welcome
from engine.session.keys import fresh
from party_node.limits import Limits
from party_node.log import make_log
from party_node.node import Node, Peer
from party_node.quota import Quota
from party_node.server import Server
from tests.models.shared_small import SharedSmall

SOON = 5.0
QUICK = Limits(
    sessions=2,
    client_sessions=2,
    connections=8,
    handshakes=8,
    handshake_seconds=1.0,
    pairing_seconds=2.0,
    round_seconds=5.0,
)


@dataclass(frozen=True)
class Identities:
    client: Identity
    nodes: tuple[Identity, Identity]


def identities() -> Identities:
    """Fresh ones; node 1 has the smaller fingerprint, so that it calls node 2."""
    one, two = sorted((make_identity("node"), make_identity("node")), key=lambda identity: identity.fingerprint)
    return Identities(make_identity("client"), (one, two))


class Log(io.StringIO):
    """What a node logs; a test can wait for an entry."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = Condition()

    def write(self, text: str, /) -> int:
        with self._changed:
            self._changed.notify_all()
            return super().write(text)

    @property
    def entries(self) -> list[dict[str, Any]]:
        with self._changed:
            return [json.loads(line) for line in self.getvalue().splitlines() if line.endswith("}")]

    def wait(self, **wanted: object) -> dict[str, Any]:
        """The newest entry with these fields, once there is one."""
        return self.wait_for(lambda entry: wanted.items() <= entry.items(), str(wanted))

    def wait_for(self, fits: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The newest entry that fits, once there is one."""
        with self._changed:
            if not self._changed.wait_for(lambda: any(map(fits, self.entries)), SOON):
                raise TimeoutError(f"the node does not log {what}")
            return next(filter(fits, reversed(self.entries)))


class RunningNode:
    """One node in a thread of this process."""

    def __init__(
        self,
        small: SharedSmall,
        who: Identities,
        role: int,
        listener: socket.socket,
        peer_port: int,
        limits: Limits,
        **server: Any,
    ) -> None:
        own, other = who.nodes[role - 1], who.nodes[2 - role]
        peer = Peer("127.0.0.1", peer_port, client_tls(own, other.certificate), other.fingerprint, own.fingerprint)
        self.log = Log()
        pack = load_node_pack(small.directory / f"node{role}")
        self.node = Node(pack, peer, limits, quota=Quota(limits.daily_rows))
        tls = server_tls(own, [who.client.certificate, other.certificate])
        doors = frozenset({who.client.fingerprint})
        self.server = Server(self.node, listener, tls, doors, make_log(role, self.log), **server)
        self._thread = Thread(target=self.server.run)
        self._thread.start()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(10)
        if self._thread.is_alive():
            raise RuntimeError("the node does not stop")


class Pair:
    """Both nodes; a context manager."""

    def __init__(
        self,
        small: SharedSmall,
        who: Identities,
        limits: Limits = QUICK,
        line: Callable[[int], int] = lambda port: port,
        listening: Callable[[socket.socket], Any] = lambda listener: listener,
        **server: Any,
    ) -> None:
        """`line(port)` is the port where the nodes call each other, in place of the one where the other listens.

        Both accept at what `listening` makes of a listening socket; `server` are further arguments of both servers.
        """
        self.small, self.who = small, who
        sockets = [listening(socket.create_server(("127.0.0.1", 0))) for _ in (1, 2)]
        self.ports = [sock.getsockname()[1] for sock in sockets]
        self._stack = ExitStack()
        self.nodes = []
        for role in (1, 2):
            node = RunningNode(small, who, role, sockets[role - 1], line(self.ports[2 - role]), limits, **server)
            self._stack.callback(node.stop)
            self.nodes.append(node)

    @property
    def endpoints(self) -> Endpoints:
        return endpoints(self.who, self.ports)

    def open(self, **options: Any) -> NodeConversation:
        return NodeConversation.open(self.endpoints, self.small.client, **options)

    def call(self, role: int, path: str = "/session", identity: Identity | None = None) -> Connection:
        """Dial a node."""
        node = self.who.nodes[role - 1]
        tls = client_tls(identity or self.who.client, node.certificate)
        return connect("127.0.0.1", self.ports[role - 1], path, tls, options=LinkOptions(ping_interval=None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()


def endpoints(who: Identities, ports: list[int]) -> Endpoints:
    one, two = (Endpoint("127.0.0.1", port, node.certificate) for port, node in zip(ports, who.nodes, strict=True))
    return Endpoints(who.client, (one, two))


def call_raw(port: int, client: Identity, node: Identity) -> ssl.SSLSocket:
    """Dial a node's `/session` and upgrade to websocket: a blocking socket that sends whatever it is given."""
    plain = socket.create_connection(("127.0.0.1", port), 20)
    sock = client_tls(client, node.certificate).context.wrap_socket(plain, server_hostname="trine")
    protocol = ClientProtocol(WebSocketURI(True, "trine", port, "/session", ""))
    protocol.send_request(protocol.connect())
    sock.sendall(b"".join(protocol.data_to_send()))
    protocol.receive_data(sock.recv(4096))
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    return sock


def drain(sock: ssl.SSLSocket) -> None:
    """Wait until the other side has closed; TimeoutError if it does not."""
    sock.settimeout(SOON)
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while sock.recv(4096):
            pass


def terms(small: SharedSmall, who: Identities, role: int, **changes: Any) -> Terms:
    """An honest client's."""
    spec, client = small.client.spec, small.client
    honest = {
        "program": spec.digest(),
        "pack": client.pack_digests[role],
        "role": role,
        "vocab": spec.vocab,
        "d_model": spec.d_model,
        "sections": spec.sections,
        "prefix": len(spec.prefix),
        "context": spec.context,
        "queue_bytes": 1 << 30,
        "made_bytes": partial(_made_bytes, plans(spec), role),
        "round_bytes": partial(_round_bytes, plans(spec)),
        "start_id": "5" * 32,
        "peer_fingerprint": who.nodes[2 - role].fingerprint,
    }
    return Terms(**(honest | changes))


def _made_bytes(program: list[Plan], role: int, count: int, position: int) -> int:
    return made_bytes(program, Rows(0, position, count), role)


def _round_bytes(program: list[Plan], count: int, position: int) -> int:
    return round_bytes(program, Rows(0, position, count))


class RawClient:
    """A client of both nodes, in the middle of whose session anything can be said."""

    def __init__(self, pair: Pair, **changes: Any) -> None:
        self.id = fresh(16)
        self.links = [pair.call(role) for role in (1, 2)]
        self.sessions = [ClientSession(terms(pair.small, pair.who, role, **changes), self.id) for role in (1, 2)]

    def greet(self) -> Self:
        """Up to READY at both nodes."""
        for link, session in zip(self.links, self.sessions, strict=True):
            link.send(session.send_hello())
        for kind in (Welcome, Ready):
            for link, session in zip(self.links, self.sessions, strict=True):
                event = session.receive(link.receive(SOON))
                if not isinstance(event, kind):
                    raise TypeError(f"{event} in place of {kind.__name__}")
        return self

    def say(self, role: int, make: Callable[[ClientSession], bytes]) -> None:
        self.links[role - 1].send(make(self.sessions[role - 1]))

    def frame(self, kind: FrameType, payload: bytes = b"", *, sequence: int = 1, session: bytes | None = None) -> bytes:
        """What follows HELLO."""
        return encode(Frame(kind, session or self.id, sequence, payload))

    def code(self, role: int) -> str:
        """The code of the ERROR with which the node ends the session."""
        return error_code(self.links[role - 1])

    def abort(self) -> None:
        for link in self.links:
            link.abort()


def error_code(link: Connection) -> str:
    """The code of the next ERROR on a link."""
    while True:
        frame = decode(link.receive(SOON))
        if frame.type is FrameType.ERROR:
            return PeerError.parse(frame.payload).code
