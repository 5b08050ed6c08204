"""Two identities and real links over loopback sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Protocol

import pytest
from websockets.client import ClientProtocol
from websockets.uri import WebSocketURI

from engine.link import Connection, Identity, LinkOptions, Tls, accept, client_tls, connect, make_identity, server_tls
from engine.link.handshake import HANDSHAKE_SECONDS


class Called(Protocol):
    """A server that waits for one caller."""

    port: int
    result: Future[Connection]


@pytest.fixture(scope="session")
def client_identity() -> Identity:
    return make_identity("client")


@pytest.fixture(scope="session")
def server_identity() -> Identity:
    return make_identity("server")


@pytest.fixture(scope="session")
def stranger() -> Identity:
    return make_identity("stranger")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(
    threads: ThreadPoolExecutor,
    stack: ExitStack,
    client_identity: Identity,
    server_identity: Identity,
) -> Callable[..., tuple[int, Future[Connection]]]:
    """Start a server for one caller: (port, what its `accept` gives)."""
    tls = server_tls(server_identity, [client_identity.certificate])

    def start(
        admit: dict[str, set[str]] | None = None,
        handshake_timeout: float = HANDSHAKE_SECONDS,
        unwatched: Collection[str] = (),
        **options: Any,
    ) -> tuple[int, Future[Connection]]:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(20)
        doors = {"/session": {client_identity.fingerprint}} if admit is None else admit

        def answer() -> Connection:
            plain = listener.accept()[0]
            limits = LinkOptions(**options)
            connection = accept(plain, tls, doors, handshake_timeout=handshake_timeout, unwatched=unwatched, options=limits)
            stack.callback(connection.abort)
            return connection

        return listener.getsockname()[1], threads.submit(answer)

    return start


@pytest.fixture
def call(stack: ExitStack, client_identity: Identity, server_identity: Identity) -> Callable[..., Connection]:
    """Dial a server that `serve` started."""
    usual = client_tls(client_identity, server_identity.certificate)

    def dial(
        port: int,
        path: str = "/session",
        tls: Tls = usual,
        party: str | None = None,
        handshake_timeout: float = HANDSHAKE_SECONDS,
        **options: Any,
    ) -> Connection:
        limits = LinkOptions(**options)
        connection = connect("127.0.0.1", port, path, tls, party=party, handshake_timeout=handshake_timeout, options=limits)
        stack.callback(connection.abort)
        return connection

    return dial


@pytest.fixture
def ends(
    serve: Callable[..., tuple[int, Future[Connection]]], call: Callable[..., Connection]
) -> Callable[..., tuple[Connection, Connection]]:
    """Make a link: (the client's end, the server's end)."""

    def make(client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> tuple[Connection, Connection]:
        port, answer = serve(**(server or {}))
        return call(port, **(client or {})), answer.result(20)

    return make


@pytest.fixture
def raw(stack: ExitStack, client_identity: Identity, server_identity: Identity) -> Callable[..., ssl.SSLSocket]:
    """A blocking TLS socket to a server, without the websocket handshake or with it, and with bytes sent along with it."""
    tls = client_tls(client_identity, server_identity.certificate)

    def dial(port: int, *, upgraded: bool = True, path: str = "/session", early: bytes = b"") -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port), 20)
        sock = tls.context.wrap_socket(plain, server_hostname="trine")
        stack.callback(close_quietly, sock)
        if upgraded:
            protocol = ClientProtocol(WebSocketURI(True, "trine", port, path, ""))
            protocol.send_request(protocol.connect())
            sock.sendall(b"".join(protocol.data_to_send()) + early)
            protocol.receive_data(sock.recv(4096))
            assert protocol.handshake_exc is None
        return sock

    return dial


def close_quietly(sock: ssl.SSLSocket) -> None:
    with suppress(OSError):
        sock.close()
