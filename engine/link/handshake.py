"""From an address or an accepted socket to a `Connection`, within a deadline.

Rule 1. TCP, TLS and the websocket handshake share one deadline, and the HTTP head has a limit in
        bytes. A handshake is a generator of the poll events that it waits for: many of them need one
        thread (`answering`), and a caller who has said nothing costs a descriptor.
Rule 2. No proxy, no redirect, no compression, no origin: only what is dialled answers.
Rule 3. A path is open to the exact certificates that the caller of `accept` lists for it.
Rule 4. Under TLS 1.3 a client learns only from the server's first answer that its certificate was
        refused, so `connect` returns after the websocket handshake and no earlier.
"""

from __future__ import annotations

import contextlib
import http
import select
import socket
import ssl
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from websockets.client import ClientProtocol
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from engine.errors import LinkError
from engine.link.connection import Connection
from engine.link.protocol import MUTE, LinkOptions, LinkProtocol, WebSocket
from engine.link.tls import NAME, Tls
from engine.link.validity import why_not_taken, why_refused

DEFAULTS = LinkOptions()
HANDSHAKE_SECONDS = 5.0
HEAD_LIMIT = 16 << 10
TOO_SLOW = "the handshake took too long"
_HEAD_END = b"\r\n\r\n"

Made = TypeVar("Made")
Steps = Generator[int, None, Made]
"""A handshake, or a part of one: it yields each poll event that it waits for, and returns what it made."""


def connect(
    host: str,
    port: int,
    path: str,
    tls: Tls,
    *,
    party: str | None = None,
    handshake_timeout: float = HANDSHAKE_SECONDS,
    options: LinkOptions = DEFAULTS,
) -> Connection:
    """Dial a party; LinkError, naming `party` (default host:port), if no link stands after `handshake_timeout` seconds."""
    party = party or f"{host}:{port}"
    deadline = time.monotonic() + handshake_timeout
    websocket = ClientProtocol(WebSocketURI(True, NAME, port, path, ""), max_size=options.first_limit, logger=MUTE)

    def ask(sock: ssl.SSLSocket, fingerprint: str) -> Steps[_Begun]:
        websocket.send_request(websocket.connect())
        _response, early = yield from _converse(sock, websocket)
        return _Begun(path, early, options)

    try:
        plain = socket.create_connection((host, port), handshake_timeout)
    except OSError as error:
        raise LinkError(f"cannot be reached: {error.strerror or error}", party) from error
    return within(deadline, plain.fileno(), _handshake(plain, tls, party, websocket, ask))


def accept(
    plain: socket.socket,
    tls: Tls,
    admit: Mapping[str, Collection[str]],
    *,
    handshake_timeout: float = HANDSHAKE_SECONDS,
    unwatched: Collection[str] = (),
    options: LinkOptions = DEFAULTS,
) -> Connection:
    """Answer one caller and wait for it, `handshake_timeout` seconds at most; else as `answering`."""
    steps = answering(plain, tls, admit, unwatched=unwatched, options=options)
    return within(time.monotonic() + handshake_timeout, plain.fileno(), steps)


def answering(
    plain: socket.socket,
    tls: Tls,
    admit: Mapping[str, Collection[str]],
    *,
    unwatched: Collection[str] = (),
    options: LinkOptions = DEFAULTS,
) -> Steps[Connection]:
    """The steps of answering a caller; takes over `plain` once it is begun, and closes it if nothing comes of it.

    `admit` lists for each path the fingerprints of the certificates that may use it; callers of an
    `unwatched` path are not pinged, for they may be computing and not reading. LinkError, naming
    the caller's address, if the caller is none of them or speaks something else.
    Who drives the steps keeps a deadline, as `within` does: it throws a LinkError (`TOO_SLOW`) into them.
    """
    websocket = ServerProtocol(origins=[None], max_size=options.first_limit, logger=MUTE)

    def reply(sock: ssl.SSLSocket, fingerprint: str) -> Steps[_Begun]:
        request, early = yield from _converse(sock, websocket)
        path = _answer(websocket, cast(Request, request), fingerprint, admit)
        yield from _send(sock, websocket)
        _refuse_if_failed(websocket)
        return _Begun(path, early, replace(options, ping_interval=None) if path in unwatched else options)

    return _handshake(plain, tls, _address(plain), websocket, reply)


@dataclass(frozen=True)
class _Begun:
    """What the websocket handshake has settled."""

    path: str
    early: bytes = field(repr=False)  # what came behind the peer's HTTP head
    options: LinkOptions


def _handshake(
    plain: socket.socket, tls: Tls, party: str, websocket: WebSocket, upgrade: Callable[[ssl.SSLSocket, str], Steps[_Begun]]
) -> Steps[Connection]:
    """TLS, then the websocket handshake: `upgrade(sock, the peer's fingerprint)`."""
    with _opening(plain, tls, party) as sock:
        fingerprint = yield from _secure(sock, tls)
        begun = yield from upgrade(sock, fingerprint)
        now = time.monotonic()
        protocol = LinkProtocol(websocket, begun.options, now)
        if begun.early:
            protocol.receive_data(memoryview(begun.early), now)
        return Connection(sock, protocol, path=begun.path, peer_fingerprint=fingerprint, party=party)


def within(deadline: float, descriptor: int, steps: Steps[Made]) -> Made:
    """Go through the steps of a handshake on a socket, waiting where they want to; LinkError after the deadline."""
    poll = select.poll()
    try:
        event = next(steps)
        while True:
            poll.register(descriptor, event)
            left = deadline - time.monotonic()
            in_time = left > 0 and poll.poll(left * 1000)
            event = next(steps) if in_time else steps.throw(LinkError(TOO_SLOW))
    except StopIteration as made:
        return cast(Made, made.value)


@contextlib.contextmanager
def _opening(plain: socket.socket, tls: Tls, party: str) -> Iterator[ssl.SSLSocket]:
    """The TLS socket around a plain one; closed on any error, which then names the party."""
    server = tls.context.protocol == ssl.PROTOCOL_TLS_SERVER
    try:
        plain.setblocking(False)
        sock = tls.context.wrap_socket(
            plain,
            server_side=server,
            do_handshake_on_connect=False,
            server_hostname=None if server else NAME,
        )
    except OSError as error:  # it was reset since
        plain.close()
        raise LinkError("the connection broke", party) from error
    try:
        yield sock
    except BaseException as error:
        sock.close()
        if isinstance(error, LinkError):
            raise error.at(party) from error.__cause__
        if isinstance(error, ssl.SSLError) and (text := why_refused(error.reason or "", tls.own)):
            raise LinkError(text, party) from error
        if isinstance(error, OSError):
            raise LinkError(f"the handshake failed: {error.strerror or error}", party) from error
        raise


def _address(plain: socket.socket) -> str:
    try:
        host, port = plain.getpeername()[:2]
    except (OSError, ValueError):  # gone already, or no TCP
        return "a caller"
    return f"{host}:{port}"


def _secure(sock: ssl.SSLSocket, tls: Tls) -> Steps[str]:
    """The TLS handshake; returns the peer's fingerprint, which is a pinned one."""
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            yield select.POLLIN
        except ssl.SSLWantWriteError:
            yield select.POLLOUT
        except ssl.SSLCertVerificationError as error:
            raise LinkError(why_not_taken(error.verify_code, error.verify_message, tls.known)) from error
        else:
            return tls.peer(sock)


def _converse(sock: ssl.SSLSocket, websocket: WebSocket) -> Steps[tuple[Event, bytes]]:
    """Send what is to be sent; returns what the peer's HTTP head says, and the bytes that came behind it."""
    try:
        yield from _send(sock, websocket)
    except OSError as broken:
        raise _why_broken(sock, broken) from broken
    came = b""
    while True:
        try:
            data = sock.recv(HEAD_LIMIT)
        except ssl.SSLWantReadError:
            yield select.POLLIN
            continue
        came += data
        if not data:
            raise LinkError("hung up during the handshake")
        if len(came) > HEAD_LIMIT:
            raise LinkError(f"sent more than {HEAD_LIMIT} bytes before the handshake was over")
        cut = max(0, len(data) - len(came.partition(_HEAD_END)[2]))
        # Behind the head of a refusal there may be a body, which is the library's, too.
        for piece, behind in ((data[:cut], data[cut:]), (data[cut:], b"")):
            websocket.receive_data(piece)
            _refuse_if_failed(websocket)
            if events := websocket.events_received():
                return events[0], behind


def _why_broken(sock: ssl.SSLSocket, broken: OSError) -> OSError:
    """What the peer said before it hung up, where nothing can be sent any more: an alert may wait to be read."""
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return broken
    except OSError as said:
        return said
    return broken


def _answer(websocket: ServerProtocol, request: Request, fingerprint: str, admit: Mapping[str, Collection[str]]) -> str:
    """Let the library answer the request; returns the path that was asked for."""
    response = websocket.accept(request)
    if fingerprint not in admit.get(request.path, ()):
        # The same for a path that is not there: what exists is nobody's business.
        websocket.handshake_exc = LinkError(f"its certificate has no access to {request.path[:40]!r}")
        response = websocket.reject(http.HTTPStatus.FORBIDDEN, "")
    websocket.send_response(response)
    return request.path


def _send(sock: ssl.SSLSocket, websocket: WebSocket) -> Steps[None]:
    for piece in filter(None, websocket.data_to_send()):
        sent = False
        while not sent:
            try:
                sock.send(piece)  # OpenSSL takes a piece whole, or wants it again
                sent = True
            except ssl.SSLWantWriteError:
                yield select.POLLOUT


def _refuse_if_failed(websocket: WebSocket) -> None:
    if websocket.handshake_exc is not None:
        raise LinkError(f"the handshake failed: {websocket.handshake_exc}")
