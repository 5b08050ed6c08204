"""Who gets in, who does not, and how long it may take."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from engine.errors import LinkError, ProtocolError
from engine.link import Connection, Identity, accept, client_tls, connect, make_identity, server_tls

Serve = Callable[..., tuple[int, Future[Connection]]]
Call = Callable[..., Connection]
Raw = Callable[..., ssl.SSLSocket]


def refused(answer: Future[Connection], text: str) -> None:
    with pytest.raises(LinkError, match=text):
        answer.result(20)


def test_both_ends_know_path_and_certificate(
    ends: Callable[..., tuple[Connection, Connection]], client_identity: Identity, server_identity: Identity
) -> None:
    client, server = ends()
    assert (client.path, server.path) == ("/session", "/session")
    assert client.peer_fingerprint == server_identity.fingerprint
    assert server.peer_fingerprint == client_identity.fingerprint
    assert server.party.startswith("127.0.0.1:")


@pytest.mark.parametrize("path", ["/session", "/peer"])
def test_callers_of_an_unwatched_path_are_not_pinged(serve: Serve, raw: Raw, client_identity: Identity, path: str) -> None:
    doors = {"/session": {client_identity.fingerprint}, "/peer": {client_identity.fingerprint}}
    port, answer = serve(doors, unwatched={"/peer"}, ping_interval=0.05, ping_timeout=0.1)
    raw(port, path=path)  # which answers no ping
    with pytest.raises(LinkError, match="no answer within" if path == "/peer" else "no sign of life"):
        answer.result(20).receive(1.0)


def test_the_server_refuses_a_strange_certificate(
    serve: Serve, call: Call, stranger: Identity, server_identity: Identity
) -> None:
    # Under TLS 1.3 the client's own handshake is over before the server has looked: ask the server.
    port, answer = serve()
    with pytest.raises(LinkError):
        call(port, tls=client_tls(stranger, server_identity.certificate))
    refused(answer, "certificate is not the pinned one")


def test_the_client_refuses_a_strange_certificate(
    serve: Serve, call: Call, stranger: Identity, client_identity: Identity
) -> None:
    port, answer = serve()
    with pytest.raises(LinkError, match="node 2: its certificate is not the pinned one"):
        call(port, tls=client_tls(client_identity, stranger.certificate), party="node 2")
    refused(answer, "handshake failed")


def test_a_client_without_a_certificate_is_refused(serve: Serve, server_identity: Identity) -> None:
    port, answer = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=server_identity.certificate.decode())
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname="trine"):
        refused(answer, "handshake failed")


def test_an_expired_certificate_is_refused(stack: ExitStack, threads: ThreadPoolExecutor, server_identity: Identity) -> None:
    old = make_identity("old", days=0)
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    tls = server_tls(server_identity, [old.certificate])
    answer = threads.submit(lambda: accept(listener.accept()[0], tls, {"/session": {old.fingerprint}}))
    with pytest.raises(LinkError):
        connect("127.0.0.1", listener.getsockname()[1], "/session", client_tls(old, server_identity.certificate))
    refused(answer, "expired")


def test_the_certificate_is_compared_again_after_the_handshake(
    serve: Serve, call: Call, client_identity: Identity, server_identity: Identity, stranger: Identity
) -> None:
    # A context that trusts more than what is pinned, as a changed system store might.
    port, answer = serve()
    tls = client_tls(client_identity, stranger.certificate)
    tls.context.load_verify_locations(cadata=server_identity.certificate.decode())
    with pytest.raises(LinkError, match="not the pinned one"):
        call(port, tls=tls)
    refused(answer, "handshake")


def test_tls_below_1_3_is_refused(serve: Serve, call: Call, client_identity: Identity, server_identity: Identity) -> None:
    port, answer = serve()
    tls = client_tls(client_identity, server_identity.certificate)
    tls.context.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(LinkError):
        call(port, tls=tls)
    refused(answer, "handshake failed")


@pytest.mark.parametrize("path", ["/peer", "/nothing"])
def test_a_path_is_for_its_certificate_alone(serve: Serve, call: Call, client_identity: Identity, path: str) -> None:
    port, answer = serve({"/session": {client_identity.fingerprint}, "/peer": {"f" * 64}})
    with pytest.raises(LinkError, match="403"):
        call(port, path)
    refused(answer, "no access to")


def test_a_silent_caller_is_let_go(serve: Serve) -> None:
    port, answer = serve(handshake_timeout=0.05)
    with socket.create_connection(("127.0.0.1", port)):
        refused(answer, "took too long")


def test_a_caller_who_is_silent_after_tls_is_let_go(serve: Serve, raw: Raw) -> None:
    port, answer = serve(handshake_timeout=0.5)
    raw(port, upgraded=False).sendall(b"GET /session HTTP/1.1\r\n")
    refused(answer, "took too long")


def test_a_slow_caller_is_let_go(serve: Serve, raw: Raw, threads: ThreadPoolExecutor) -> None:
    port, answer = serve(handshake_timeout=0.5)
    sock = raw(port, upgraded=False)

    def trickle() -> None:
        while not answer.done():
            try:
                sock.sendall(b"x")
            except OSError:
                return

    threads.submit(trickle)
    refused(answer, "took too long|more than")


def test_a_silent_server_is_given_up(call: Call, stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    with pytest.raises(LinkError, match="took too long"):
        call(listener.getsockname()[1], handshake_timeout=0.05)


@pytest.mark.parametrize("head", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_caller_who_speaks_no_tls_is_refused(serve: Serve, head: bytes) -> None:
    port, answer = serve()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(head)
        sock.shutdown(socket.SHUT_WR)
        refused(answer, "handshake failed")


def test_a_caller_who_hangs_up_within_the_head_is_refused(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    sock = raw(port, upgraded=False)
    sock.sendall(b"GET /session HT")
    sock.close()
    refused(answer, "hung up")


@pytest.mark.parametrize(
    "part",
    [
        b"GET /session HTTP/1.1\r\n" + b"a: b\r\n" * 3000,
        b"GET / HTTP/1.1\r\n" + (b"a: " + b"b" * 6000 + b"\r\n") * 3,
        b"GET /" + b"a" * 9000,
    ],
)
def test_a_long_head_is_refused(serve: Serve, raw: Raw, part: bytes) -> None:
    port, answer = serve()
    raw(port, upgraded=False).sendall(part + b" \r\n")
    refused(answer, "more than|handshake failed")


@pytest.mark.parametrize(
    "head", [b"\0\n\n", b"GET /session HTTP/1.1\r\n\r\n", b"POST /session HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"]
)
def test_a_caller_who_speaks_no_websocket_is_refused(serve: Serve, raw: Raw, head: bytes) -> None:
    port, answer = serve()
    raw(port, upgraded=False).sendall(head)
    refused(answer, "handshake failed")


def test_a_browser_is_refused(serve: Serve, raw: Raw) -> None:
    port, answer = serve()
    raw(port, upgraded=False).sendall(
        b"GET /session HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: here\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    refused(answer, "handshake failed")


def test_nobody_there_is_one_clear_line(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkError, match="^node 1: cannot be reached: Connection refused$"):
        call(port, party="node 1")


def test_no_proxy_is_used(
    ends: Callable[..., tuple[Connection, Connection]], monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    proxy = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    proxy.setblocking(False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "wss_proxy", "socks_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
    client, server = ends()
    client.send(b"straight")
    assert server.receive(20) == b"straight"
    with pytest.raises(BlockingIOError):
        proxy.accept()


def test_no_key_is_logged(
    ends: Callable[..., tuple[Connection, Connection]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    client, server = ends()
    client.send(b"x")
    assert server.receive(20) == b"x"
    assert not (tmp_path / "keys").exists()


@pytest.fixture
def answered(
    call: Call, stack: ExitStack, threads: ThreadPoolExecutor, client_identity: Identity, server_identity: Identity
) -> Callable[[Callable[[bytes], bytes], list[int]], Connection]:
    """Dial a server that answers with what the function makes of a right HTTP head, cut at these places into TLS records."""
    tls = server_tls(server_identity, [client_identity.certificate])

    def dial(answer: Callable[[bytes], bytes], cuts: list[int]) -> Connection:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with tls.context.wrap_socket(listener.accept()[0], server_side=True) as sock:
                protocol = ServerProtocol()
                protocol.receive_data(sock.recv(4096))
                (request,) = protocol.events_received()
                assert isinstance(request, Request)
                protocol.send_response(protocol.accept(request))
                data = answer(b"".join(protocol.data_to_send()))
                places = [cut % len(data) for cut in cuts]
                for start, stop in zip([0, *places], [*places, len(data)], strict=True):
                    sock.sendall(data[start:stop])
                sock.recv(1)

        stack.callback(threads.submit(serve).exception, 20)
        return call(listener.getsockname()[1])

    return dial


@pytest.mark.parametrize("cuts", [[], [20], [-15, -10], [-6], [-1]])
def test_a_message_that_comes_with_the_answer_is_received(answered: Callable[..., Connection], cuts: list[int]) -> None:
    early = Frame(Opcode.PONG, b"").serialize(mask=False) + Frame(Opcode.BINARY, b"early").serialize(mask=False)
    client = answered(lambda head: head + early, cuts)
    assert client.receive(20) == b"early"
    client.abort()


def test_a_failure_that_comes_with_the_answer_is_one_at_once(answered: Callable[..., Connection]) -> None:
    client = answered(lambda head: head + Frame(Opcode.TEXT, b"text").serialize(mask=False), [])
    with pytest.raises(ProtocolError, match="a TEXT frame"):
        client.send(b"x")


@pytest.mark.parametrize("cuts", [[], [-5], [-2]])
def test_a_server_that_refuses_with_a_page_is_one_clear_line(answered: Callable[..., Connection], cuts: list[int]) -> None:
    with pytest.raises(LinkError, match="the handshake failed: .*301"):
        answered(lambda _: b"HTTP/1.1 301 Moved\r\nContent-Length: 5\r\n\r\nhello", cuts)


def test_an_error_of_our_own_closes_the_socket(serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    port, answer = serve()
    monkeypatch.setattr("engine.link.handshake.Connection", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        call(port)
    with pytest.raises((RuntimeError, LinkError)):
        answer.result(20)


def test_a_caller_who_was_gone_already_is_refused(client_identity: Identity, server_identity: Identity) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    tls = server_tls(server_identity, [client_identity.certificate])
    with pytest.raises(LinkError, match="^a caller: "):
        accept(ours, tls, {})
    assert ours.fileno() == -1
    with pytest.raises(LinkError, match="^a caller: the connection broke"):
        accept(ours, tls, {})


class Reluctant(ssl.SSLSocket):
    """A TLS socket whose kernel buffer is full the first time that it is asked to write."""

    refused: frozenset[str] = frozenset()

    def do_handshake(self, block: bool = False) -> None:
        self._refuse_once("do_handshake")
        super().do_handshake(block)

    def send(self, data: Any, flags: int = 0) -> int:
        self._refuse_once("send")
        return super().send(data, flags)

    def _refuse_once(self, what: str) -> None:
        if what not in self.refused:
            self.refused |= {what}
            raise ssl.SSLWantWriteError


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_full_kernel_buffer_delays_the_handshake_only(
    stack: ExitStack, threads: ThreadPoolExecutor, client_identity: Identity, server_identity: Identity, end: str
) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    here = client_tls(client_identity, server_identity.certificate)
    there = server_tls(server_identity, [client_identity.certificate])
    (here if end == "client" else there).context.sslsocket_class = Reluctant
    doors = {"/session": {client_identity.fingerprint}}
    answer = threads.submit(lambda: accept(listener.accept()[0], there, doors))
    with connect("127.0.0.1", listener.getsockname()[1], "/session", here) as client, answer.result(20) as server:
        client.send(b"x")
        assert server.receive(20) == b"x"
        server.abort()


class Broken(ssl.SSLSocket):
    """A TLS socket whose peer has gone by the time that something is sent."""

    def send(self, data: Any, flags: int = 0) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


class BrokenAndShut(Broken):
    """The peer has said that it would."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return b""


@pytest.mark.parametrize("kind", [Broken, BrokenAndShut])
def test_a_server_that_is_gone_after_tls_is_one_clear_line(
    serve: Serve, call: Call, client_identity: Identity, server_identity: Identity, kind: type[ssl.SSLSocket]
) -> None:
    port, answer = serve()
    tls = client_tls(client_identity, server_identity.certificate)
    tls.context.sslsocket_class = kind
    with pytest.raises(LinkError, match="^node 2: the handshake failed: Broken pipe$"):
        call(port, tls=tls, party="node 2")
    refused(answer, "hung up|handshake failed")
