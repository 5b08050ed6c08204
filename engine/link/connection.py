"""One link: a websocket over TLS, blocking for its callers, without a thread of its own.

What the bytes mean is `LinkProtocol`'s affair, which does no I/O; here a non-blocking TLS socket, a lock and the callers'
deadlines stand around it. A round of the computation (9 kB each way, hundreds of times a token) crosses no thread.

Rule 1. One thread at a time is in `receive` or `exchange`; any number may be in `send`; `close` and
        `abort` may come from anywhere, and wake them all with LinkError.
Rule 2. One lock guards the TLS object, the protocol and what waits to leave, because OpenSSL does not bear two
        threads; it is held for single calls that do not block, never while waiting.
Rule 3. Whoever waits, flushes: two peers that send 50 MB to each other at once both finish.
Rule 4. A connection that failed once stays failed, with the same error, timeouts included; what
        came in before is still received first, for it may say why.
Rule 5. Silence is measured, and this side's life shown, while a thread is in `receive` or `exchange`, or calls
        `watch` each second: whoever wants its link watched keeps one there.
Rule 6. Nothing that comes but a whole message postpones a caller's deadline, and what is done for a peer in one
        go is bounded: the lock is free again within milliseconds.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from threading import Lock
from types import TracebackType
from typing import Self

from engine.errors import LinkError, TrineError
from engine.link.frames import Data
from engine.link.protocol import LinkProtocol

_READ_BYTES = 64 << 10  # more than a TLS record, so that none stays behind unread in OpenSSL
_WRITE_BYTES = 64 << 10  # what one call encrypts while it holds the lock
_UNSENT_BYTES = 64 << 10  # what the kernel may hold back: what is urgent waits behind it, a second at 64 kB/s
_READS_AT_ONCE, _LAST_READS = 64, 512  # of a TLS record (16 kB) at most each; the last of a peer that has left
_WATCHED = 2  # messages that `watch` reads ahead of who computes: behind an honest peer's round come signs of life only
_MAX_QUEUED = 64  # messages and pongs: a peer that pings and never reads is let go


class Connection:
    """A link to the party whose certificate has the fingerprint `peer_fingerprint`.

    Made by `engine.link.connect` and `engine.link.accept`. While a thread receives, the peer is
    pinged and given up as the link's `LinkOptions` say.

    `bytes_sent`, `bytes_received`, `messages_sent` and `messages_received` count whole messages.
    """

    def __init__(self, sock: ssl.SSLSocket, protocol: LinkProtocol, *, path: str, peer_fingerprint: str, party: str) -> None:
        self.path = path
        self.peer_fingerprint = peer_fingerprint
        self.party = party
        self.bytes_sent = self.bytes_received = 0
        self.messages_sent = self.messages_received = 0
        self._sock, self._protocol = sock, protocol
        self._inbox = protocol.messages
        self._keepalive = protocol.keepalive
        self._view = memoryview(bytearray(_READ_BYTES))
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._polled = select.POLLIN
        self._lock = Lock()
        self._outbox: deque[memoryview] = deque()
        self._queued = self._flushed = 0  # bytes since the beginning
        self._error: TrineError | None = None
        self._blocked = False  # the kernel took no more the last time
        self._users, self._readers, self._over = 0, 0, False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._pass_on()  # what came together with the end of the handshake

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
                    self._flush(time.monotonic())
                    if self._flushed >= ticket:
                        return
                    if not moved and self._flushed == flushed:
                        self._fail(LinkError(f"the line took nothing for {timeout:g} s"))
        finally:
            self._leave()

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message; LinkError after `timeout` seconds or when the connection fails.

        ProtocolError oversized or malformed if what came is no message.
        """
        self._enter(None, reading=True)
        try:
            return self._wait(0, timeout)
        finally:
            self._leave(reading=True)

    def exchange(self, data: Data, timeout: float | None = 60.0) -> bytes:
        """Send a message and return the next one that comes; errors as `receive`."""
        ticket = self._enter(data, reading=True)
        try:
            return self._wait(ticket, timeout)
        finally:
            self._leave(reading=True)

    def keep_watch(self, ping_interval: float, ping_timeout: float) -> None:
        """Measure silence from now on, so: see `LinkOptions`."""
        with self._lock:
            self._keepalive.restart(ping_interval, ping_timeout, time.monotonic())

    def watch(self, late: float = 0.0) -> None:
        """Show that this side lives, and look whether the other one does (else LinkError), while others compute.

        To be called every `ping_interval` seconds, `late` saying how much later it is.
        """
        with self._lock:
            self._check()
            now = time.monotonic()
            if not self._readers:
                self._read(now, messages=_WATCHED)
            if self._error is None:
                self._look(now, late)
            if not self._inbox:
                self._check()

    def abort(self) -> None:
        """End the connection at once, from any thread; who waits gets LinkError. Idempotent."""
        with self._lock:
            self._over = True
            self._fail(LinkError("the connection was closed"))
            if not self._users:
                self._sock.close()

    def close(self, linger: float = 1.0) -> None:
        """End the connection so that the peer still reads all that was sent. Idempotent.

        Waits at most `linger` seconds for the peer to end its side, throwing away what comes.
        """
        if self._enter_last():
            try:
                self._linger(time.monotonic() + linger)
            finally:
                self._leave()
        self.abort()

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close() if kind is None else self.abort()

    def __repr__(self) -> str:
        return f"<Connection {self.path} with {self.party}>"

    # Coming and going: the descriptor is closed by the last thread that leaves

    def _enter(self, data: Data | None, *, reading: bool = False) -> int:
        """Come in, with a message or without; where its bytes end among all that leave. Whoever came in has to leave."""
        frame = b"" if data is None else self._protocol.send_message(data)
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
            self._protocol.send_close()
            self._queue(self._protocol.data_to_send())
            return True

    def _leave(self, *, reading: bool = False) -> None:
        with self._lock:
            self._users -= 1
            self._readers -= reading
            if self._over and not self._users:
                self._sock.close()

    # Waiting

    def _wait(self, ticket: int, timeout: float | None) -> bytes:
        """The next message, once the outgoing byte number `ticket` has left too."""
        now = time.monotonic()
        deadline = None if timeout is None else now + timeout
        while not self._inbox or (self._flushed < ticket and self._error is None):
            wanted = (0 if self._inbox else select.POLLIN) | (select.POLLOUT if self._outbox else 0)
            if wanted != self._polled:
                self._poll.modify(self._sock, wanted)
                self._polled = wanted
            look = self._next_look(deadline)
            patience = 0.0 if look is None else max(0.0, look - now)
            happened = self._poll.poll(None if look is None else int(patience * 1000) + 1)
            with self._lock:
                since, now = now, time.monotonic()
                if self._error is None and any(event & ~select.POLLOUT for _, event in happened):
                    self._read(now)
                if self._outbox and self._error is None:
                    self._flush(now)
                if self._error is None and look is not None and now >= look:
                    if deadline is not None and now >= deadline and not (self._inbox and self._flushed >= ticket):
                        self._fail(LinkError(f"no answer within {timeout:g} s"))
                    else:
                        self._look(now, late=now - since - patience)
                if not self._inbox:
                    self._check()
        data = self._inbox.popleft()
        self.messages_received += 1
        self.bytes_received += len(data)
        return data

    def _next_look(self, deadline: float | None) -> float | None:
        """The time of the deadline or of the next thought about silence, whichever comes first; None is for ever."""
        look = self._keepalive.next_look()
        if look is None or deadline is None:
            return deadline if look is None else look
        return min(look, deadline)

    def _linger(self, deadline: float) -> None:
        """Write what is left, end this side, and throw away what comes until the peer has ended its own, or the deadline."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLOUT)
        while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            with self._lock:
                try:
                    self._flush(time.monotonic())
                    if not self._outbox:
                        poll.modify(self._sock, select.POLLIN)
                        # The end of this side: a peer that is closing, too, need not wait for more.
                        socket.socket.shutdown(self._sock, socket.SHUT_WR)
                    if any(not self._sock.recv_into(self._view) for _ in range(_READS_AT_ONCE)):
                        return
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
                except OSError:
                    return

    # Bytes and time, to the protocol and from it; the lock is held, and a failure is kept, not raised

    def _post(self, frame: bytes, size: int) -> None:
        self._queue(frame)
        self._flush(time.monotonic())
        if self._error is None:
            self.messages_sent += 1
            self.bytes_sent += size

    def _queue(self, data: bytes) -> None:
        if len(self._outbox) >= _MAX_QUEUED:
            self._fail(LinkError("does not read what is sent"))
        self._outbox.append(memoryview(data))
        self._queued += len(data)

    def _flush(self, now: float) -> None:
        """Write what the kernel takes."""
        try:
            self._write(now)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._blocked = True
        except OSError as error:
            self._outbox.clear()
            self._read(now, everything=True)  # the peer may have said why before it left
            self._lost(error)

    def _write(self, now: float) -> None:
        while self._outbox:
            head = self._outbox[0]
            count = self._sock.send(head[:_WRITE_BYTES])  # OpenSSL wants a refused piece again
            self._flushed += count
            if count == len(head):
                self._outbox.popleft()
            else:
                self._outbox[0] = head[count:]
            self._keepalive.said(now)
            if self._blocked:  # the peer's kernel made room
                self._blocked = False
                self._keepalive.heard(now)

    def _read(self, now: float, *, everything: bool = False, messages: int = 1) -> None:
        """Read what the kernel has, until so many messages wait, nothing is left, or others want the lock, too."""
        protocol = self._protocol
        try:
            for _ in range(_LAST_READS if everything else _READS_AT_ONCE):
                if self._error is not None or (len(self._inbox) >= messages and not everything):
                    return
                if count := self._sock.recv_into(self._view, _READ_BYTES):  # told its length, it need not ask
                    protocol.receive_data(self._view[:count], now)
                else:
                    protocol.receive_eof()
                if protocol.has_data_to_send or protocol.error is not None:
                    self._pass_on()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            protocol.receive_nothing()
            self._pass_on()
        except OSError as error:
            self._lost(error)

    def _look(self, now: float, late: float) -> None:
        """What the time asks for; this thread woke `late` by so much."""
        self._protocol.look(now, late, all_sent=not self._outbox)
        self._pass_on()
        if self._outbox:
            self._flush(now)

    def _pass_on(self) -> None:
        """Queue what the protocol itself has to say (pings, pongs, closing), and fail as it has failed."""
        if self._protocol.has_data_to_send and (data := self._protocol.data_to_send()):
            self._queue(data)
        if self._protocol.error is not None:
            self._fail(self._protocol.error)

    # Failing

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)  # without the frames of an earlier raise

    def _lost(self, error: OSError) -> None:
        self._fail(LinkError(error.strerror or "the connection broke"))

    def _fail(self, error: TrineError) -> None:
        """Keep the first error, name the party in it, say a last word if there is one, and wake everybody."""
        if self._error is None:
            self._error = error.at(self.party) if isinstance(error, LinkError) else error
            with contextlib.suppress(OSError):
                self._write(time.monotonic())
        with contextlib.suppress(OSError):  # the peer may have been first
            # Not the TLS layer's: that one lets go of its object while others may use it.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
