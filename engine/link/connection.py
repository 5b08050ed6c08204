"""One link: a websocket over TLS, blocking for its callers, without a thread of its own.

The websocket protocol is that of `websockets` without I/O; around it stands a non-blocking TLS
socket. A round of the computation (9 kB each way, hundreds of times a token) crosses no thread.

Rule 1. One thread at a time is in `receive` or `exchange`; any number may be in `send`; `close` and
        `abort` may come from anywhere, and wake them all with LinkError.
Rule 2. One lock guards the TLS object, the protocol and the queue, because OpenSSL does not bear two
        threads; it is held for single calls that do not block, never while waiting.
Rule 3. Whoever waits, flushes: two peers that send 50 MB to each other at once both finish.
Rule 4. A connection that failed once stays failed, with the same error, timeouts included; what
        came in before is still received first, for it may say why.
Rule 5. Silence is measured, and this side's life shown, while a thread is in `receive` or `exchange`, or calls
        `watch` each second: whoever wants its link watched keeps one there.
Rule 6. A message is one binary frame. Text and fragments have no place here.
Rule 7. Nothing that comes but a whole message postpones a caller's deadline, and what is done for a peer in one
        go is bounded: the lock is free again within milliseconds.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import time
from collections import deque
from threading import Lock
from types import TracebackType
from typing import Self, cast

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, Side
from websockets.server import ServerProtocol

from engine.errors import LinkError, ProtocolError, TrineError
from engine.link.frames import Data
from engine.link.keepalive import FLOOR_BYTES, PATIENCE_SECONDS, PING_SECONDS, Keepalive
from engine.link.parting import part
from engine.link.whole import FrameSplitter, binary_frame

SILENT = logging.Logger("engine.link", logging.CRITICAL + 1)
"""For `websockets`, whose debug log shows what frames hold."""

_READ_BYTES = 64 << 10  # more than a TLS record, so that none stays behind unread in OpenSSL
_WRITE_BYTES = 64 << 10  # what one call encrypts while it holds the lock
_UNSENT_BYTES = 64 << 10  # what the kernel may hold back: what is urgent waits behind it, a second at 64 kB/s
_READS_AT_ONCE, _LAST_READS = 64, 512  # of a TLS record (16 kB) at most each; the last of a peer that has left
_EMPTY_RECORDS = 1000  # in a row: one record comes in fewer packets, and nobody needs as many without data
_WATCHED = 2  # messages that `watch` reads ahead of who computes: behind an honest peer's round come signs of life only
_MAX_QUEUED = 64  # messages and pongs: a peer that pings and never reads is let go


class Connection:
    """A link to the party whose certificate has the fingerprint `peer_fingerprint`.

    Made by `engine.link.connect` and `engine.link.accept`. While a thread receives, the peer is
    pinged after `ping_interval` seconds of silence and given up after `ping_timeout` more; with
    `ping_interval` None only the callers' timeouts end a wait.

    `bytes_sent`, `bytes_received`, `messages_sent` and `messages_received` count whole messages.
    """

    def __init__(
        self,
        sock: ssl.SSLSocket,
        protocol: ClientProtocol | ServerProtocol,
        early: list[Event],
        *,
        clean: bool,
        max_size: int,
        first_size: int | None = None,
        path: str,
        peer_fingerprint: str,
        party: str,
        ping_interval: float | None = PING_SECONDS,
        ping_timeout: float = PATIENCE_SECONDS,
    ) -> None:
        self.path = path
        self.peer_fingerprint = peer_fingerprint
        self.party = party
        self.bytes_sent = self.bytes_received = 0
        self.messages_sent = self.messages_received = 0
        self._sock, self._protocol = sock, protocol
        self._masks = protocol.side is Side.CLIENT
        self._splitter = FrameSplitter(protocol, max_size, clean=clean, first_size=first_size)
        self._view = memoryview(bytearray(_READ_BYTES))
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._polled = select.POLLIN
        self._lock = Lock()
        self._inbox: deque[bytes | bytearray] = deque()
        self._outbox: deque[memoryview] = deque()
        self._queued = self._flushed = 0  # bytes since the beginning
        self._keepalive = Keepalive(ping_interval, ping_timeout)
        self._error: TrineError | None = None
        self._blocked = False  # the kernel took no more the last time
        self._empty = 0  # records without data, or parts of one, in a row
        self._users, self._readers, self._over = 0, 0, False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._take([*early], 0)  # what came together with the end of the handshake

    # What callers do

    def send(self, data: Data, timeout: float | None = 60.0) -> None:
        """Send a message; returns when the kernel has it.

        LinkError if the connection fails or nothing moves for `timeout` seconds.
        """
        ticket = self._enter(data)
        try:
            if self._flushed >= ticket:
                return
            poll = select.poll()
            poll.register(self._sock, select.POLLOUT)
            while True:
                flushed = self._flushed
                moved = poll.poll(None if timeout is None else timeout * 1000)
                with self._lock:
                    self._check()
                    self._flush()
                    if self._flushed >= ticket:
                        return
                    if not moved and self._flushed == flushed:
                        self._fail(LinkError(f"the line took nothing for {timeout:g} s", self.party))
        finally:
            self._leave()

    def receive(self, timeout: float | None = None) -> bytes | bytearray:
        """The next message; LinkError after `timeout` seconds or when the connection fails.

        ProtocolError oversized or malformed if what came is no message.
        """
        self._enter(None, reading=True)
        try:
            return self._wait(0, timeout)
        finally:
            self._leave(reading=True)

    def exchange(self, data: Data, timeout: float | None = 60.0) -> bytes | bytearray:
        """Send a message and return the next one that comes; errors as `receive`."""
        ticket = self._enter(data, reading=True)
        try:
            return self._wait(ticket, timeout)
        finally:
            self._leave(reading=True)

    def keep_watch(self, ping_interval: float, ping_timeout: float) -> None:
        """Measure silence from now on, so: see the class."""
        with self._lock:
            self._keepalive = Keepalive(ping_interval, ping_timeout)

    def watch(self, late: float = 0.0) -> None:
        """Show that this side lives, and look whether the other one does (else LinkError), while others compute.

        To be called every `ping_interval` seconds, `late` saying how much later it is.
        """
        with self._lock:
            self._check()
            if not self._readers:
                self._read(messages=_WATCHED)
            if self._error is None:
                self._mind(None, None, late)
            if not self._inbox:
                self._check()

    def abort(self) -> None:
        """End the connection at once, from any thread; who waits gets LinkError. Idempotent."""
        with self._lock:
            self._over = True
            self._fail(LinkError("the connection was closed", self.party))
            if not self._users:
                self._sock.close()

    def close(self, linger: float = 1.0) -> None:
        """End the connection so that the peer still reads all that was sent. Idempotent.

        Waits at most `linger` seconds for the peer to end its side, throwing away what comes.
        """
        if self._enter_last():
            try:
                part(self._sock, self._lock, self._all_left, time.monotonic() + linger)
            finally:
                self._leave()
        self.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close() if kind is None else self.abort()

    def __repr__(self) -> str:
        return f"<Connection {self.path} with {self.party}>"

    # Coming and going: the descriptor is closed by the last thread that leaves

    def _enter(self, data: Data | None, *, reading: bool = False) -> int:
        """Come in, with a message or without; where its bytes end among all that leave. Whoever came in has to leave."""
        frame = b"" if data is None else binary_frame(data, masked=self._masks)
        with self._lock:
            if self._error is None and data is not None:
                self._post(frame, len(data))
            ticket = self._queued
            if self._error is not None:
                if self._over or not (reading and self._inbox):
                    self._check()
                ticket = 0  # nothing leaves any more; what came in before is received
            self._users += 1
            self._readers += reading
            return ticket

    def _enter_last(self) -> bool:
        with self._lock:
            if self._error is not None:
                return False
            self._users += 1
            self._error = LinkError("the connection was closed", self.party)
            self._protocol.send_close(1000)
            self._pass_on()
            return True

    def _leave(self, *, reading: bool = False) -> None:
        with self._lock:
            self._users -= 1
            self._readers -= reading
            if self._over and not self._users:
                self._sock.close()

    def _all_left(self) -> bool:
        self._flush()
        return not self._outbox

    # The wait

    def _wait(self, ticket: int, timeout: float | None) -> bytes | bytearray:
        """The next message, once the outgoing byte number `ticket` has left too."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._inbox or (self._flushed < ticket and self._error is None):
            wanted = (0 if self._inbox else select.POLLIN) | (select.POLLOUT if self._outbox else 0)
            if wanted != self._polled:
                self._poll.modify(self._sock, wanted)
                self._polled = wanted
            began = time.monotonic()
            patience = self._patience(deadline, began)
            happened = self._poll.poll(patience)
            with self._lock:
                if self._error is None and any(event & ~select.POLLOUT for _, event in happened):
                    self._read()
                if self._outbox and self._error is None:
                    self._flush()
                if self._error is None and not (self._inbox and self._flushed >= ticket):
                    self._mind(deadline, timeout, late=time.monotonic() - began - (patience or 0) / 1000)
                elif self._error is None:
                    self._beat(time.monotonic())
                if not self._inbox:
                    self._check()
        data = self._inbox.popleft()
        self.messages_received += 1
        self.bytes_received += len(data)
        return data

    def _patience(self, deadline: float | None, now: float) -> int | None:
        """Milliseconds until the deadline or the next thought about silence; None is for ever."""
        looks = [look for look in (deadline, self._keepalive.next_look()) if look is not None]
        return max(0, int((min(looks) - now) * 1000) + 1) if looks else None

    def _mind(self, deadline: float | None, timeout: float | None, late: float = 0.0) -> None:
        """No message is whole: is it too late, is the peer gone, is it time for a ping? This thread woke `late` by so much."""
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            self._fail(LinkError(f"no answer within {timeout:g} s", self.party))
        elif (verdict := self._keepalive.verdict(now, late)) is not None:
            self._fail(LinkError(verdict, self.party))
        else:
            self._beat(now, asks=self._keepalive.wants_ping(now))

    def _beat(self, now: float, *, asks: bool = False) -> None:
        """Say that this side lives if it is time, unasked (RFC 6455, section 5.5.3), or ask whether the peer does."""
        if (self._keepalive.wants_beat(now) or asks) and not self._outbox:  # else the next piece that leaves is the sign
            self._protocol.send_ping(b"") if asks else self._protocol.send_pong(b"")
            self._pass_on()
        self._flush()

    # Bytes out and in; the lock is held, and a failure is kept, not raised

    def _post(self, frame: bytes, size: int) -> None:
        self._queue(frame)
        self._flush()
        if self._error is None:
            self.messages_sent += 1
            self.bytes_sent += size

    def _queue(self, data: bytes) -> None:
        if len(self._outbox) >= _MAX_QUEUED:
            self._fail(LinkError("does not read what is sent", self.party))
        self._outbox.append(memoryview(data))
        self._queued += len(data)

    def _flush(self) -> None:
        """Write what the kernel takes."""
        try:
            self._write()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._blocked = True
        except OSError as error:
            self._outbox.clear()
            self._read(everything=True)  # the peer may have said why before it left
            self._lost(error)

    def _write(self) -> None:
        while self._outbox:
            head = self._outbox[0]
            count = self._sock.send(head[:_WRITE_BYTES])  # OpenSSL wants a refused piece again
            self._flushed += count
            self._keepalive.said = time.monotonic()
            if count == len(head):
                self._outbox.popleft()
            else:
                self._outbox[0] = head[count:]
            if self._blocked:  # the peer's kernel made room
                self._blocked = False
                self._keepalive.lives()

    def _read(self, *, everything: bool = False, messages: int = 1) -> None:
        """Read what the kernel has, until so many messages wait, nothing is left, or others want the lock, too."""
        try:
            for _ in range(_LAST_READS if everything else _READS_AT_ONCE):
                if self._error is not None or (len(self._inbox) >= messages and not everything):
                    return
                count = self._sock.recv_into(self._view, _READ_BYTES)  # told its length, it need not ask
                if not count:
                    self._fail(LinkError("the other side hung up", self.party))
                    return
                self._empty = 0
                self._take(self._splitter.take(self._view[:count]), count)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._empty += 1
            if self._empty > _EMPTY_RECORDS:
                self._fail(ProtocolError("malformed", "records without data"))
        except OSError as error:
            self._lost(error)

    def _take(self, heard: list[bytes | Event], count: int) -> None:
        """Sort messages and what the protocol made of other bytes, `count` in all."""
        self._keepalive.lives(None if heard else count / FLOOR_BYTES)
        if self._splitter.alone and not self._splitter.flooded:
            self._inbox.extend(cast("list[bytes]", heard))
            return
        self._pass_on()  # pongs, the answer to a close, the complaint about an error
        for event in heard:
            if self._error is None:
                self._sort(event)
        if self._splitter.flooded:
            self._fail(ProtocolError("malformed", "pings and pongs without end"))
        if (broken := self._protocol.parser_exc) is not None:
            code = "oversized" if isinstance(broken, PayloadTooBig) else "malformed"
            self._fail(ProtocolError(code, f"websocket: {broken}"))

    def _sort(self, event: bytes | Event) -> None:
        if isinstance(event, bytes):
            self._inbox.append(event)
        elif not isinstance(event, Frame) or event.opcode in (Opcode.PING, Opcode.PONG):
            return
        elif event.opcode is Opcode.CLOSE:
            self._fail(LinkError("the other side closed the connection", self.party))
        elif event.opcode is not Opcode.BINARY or not event.fin:
            self._fail(ProtocolError("malformed", f"a {event.opcode.name} frame"))
        else:
            self._splitter.lift()
            self._inbox.append(cast("bytes | bytearray", event.data))

    def _pass_on(self) -> None:
        """Queue what the protocol itself has to say: pings, pongs, closing."""
        if pieces := b"".join(self._protocol.data_to_send()):
            self._queue(pieces)

    # Failing

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)  # without the frames of an earlier raise

    def _lost(self, error: OSError) -> None:
        self._fail(LinkError(error.strerror or "the connection broke", self.party))

    def _fail(self, error: TrineError) -> None:
        """Keep the first error, say a last word if there is one, and wake everybody."""
        if self._error is None:
            self._error = error
            with contextlib.suppress(OSError):
                self._write()
        with contextlib.suppress(OSError):  # the peer may have been first
            # Not the TLS layer's: that one lets go of its object while others may use it.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
