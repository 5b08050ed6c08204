"""The listening socket: one accept loop that also sees to all handshakes, and a thread for each link that stands.

Rule 1. `/session` is for the clients' certificates and `/peer` for the other node's; TLS and the path are settled within
        the handshake's deadline, before anything else is read and before there is a thread.
Rule 2. Nothing that a caller does, and nothing that the system refuses, ends the loop or makes it spin. `stop` ends it,
        from a signal handler or another thread.
Rule 3. Handshakes and links have places of their own. Who has no session yet gives way: the oldest handshake of the address
        that holds most of them, the oldest link of the certificate that holds most.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock, Thread, current_thread

from engine.errors import LinkError, ProtocolError
from engine.link import Connection, LinkOptions, Tls
from engine.link.handshake import Steps, answering
from engine.session import session_of
from party_node.handshakes import Handshakes
from party_node.log import Log, place
from party_node.node import FIRST_BYTES, PEER_PATH, SESSION_PATH, Node
from party_node.session import ServedSession

Doors = Mapping[str, frozenset[str]]
"""Fingerprints that may use a path."""

_BACKLOG = 512
DAY_SECONDS = 86_400.0
_AT_ONCE = 32  # callers that are accepted before those who came earlier are seen to
_PAUSE_SECONDS = 0.02  # in accepting, once there was no room: who churns gets 1,600 places a second at most
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
_GONE_AGAIN = {errno.ECONNABORTED, errno.EPROTO, errno.EINTR}


class Server:
    """Serves until it is stopped; `run` is called once."""

    def __init__(
        self,
        node: Node,
        listener: socket.socket,
        tls: Tls,
        clients: frozenset[str],
        log: Log,
        *,
        daily: Callable[[], None] = lambda: None,
        day_seconds: float = DAY_SECONDS,
    ) -> None:
        """`daily` is called every `day_seconds`, by the thread that runs the server."""
        self._node, self._listener, self._tls, self._log = node, listener, tls, log
        self._doors: Doors = {SESSION_PATH: clients, PEER_PATH: frozenset({node.peer.fingerprint})}
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        places = min(node.limits.handshakes, _free_descriptors(self._spare) // 2)
        self._handshakes = Handshakes(self._poll, self._answer, places, node.limits.handshake_seconds)
        self._daily, self._day_seconds = daily, day_seconds
        self._tomorrow = time.monotonic() + day_seconds
        self._resume: float | None = None  # when callers are accepted again, after there was no room
        self._lock = Lock()
        self._threads: set[Thread] = set()
        self._links: dict[Connection, ServedSession | None] = {}  # those that have a place, the oldest first
        self._collects = False  # whether what is left of a link is looked for at once

    def stop(self) -> None:
        """End `run`; safe in a signal handler."""
        with contextlib.suppress(OSError):  # it is over already
            self._waker.send(b"\0")

    def run(self, until_closed: int | None = None) -> None:
        """Accept callers until `stop`, or until the descriptor `until_closed` (stdin) reaches its end."""
        self._collects = gc.get_freeze_count() > 0  # else a collection walks through everything that was loaded
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)  # an inherited one may have a short queue
        for descriptor in (self._listener.fileno(), self._wake.fileno(), until_closed):
            if descriptor is not None:
                self._poll.register(descriptor, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in self._poll.poll(self._patience())}
                if self._wake.fileno() in ready or (until_closed in ready and _is_over(until_closed or 0)):
                    return
                for descriptor in ready:
                    if descriptor in self._handshakes:
                        self._advance(descriptor)
                for error in self._handshakes.overdue():
                    self._refuse(error)
                if time.monotonic() >= self._tomorrow:
                    self._tomorrow += self._day_seconds
                    self._daily()
                if self._resume is not None and time.monotonic() >= self._resume:
                    self._resume = None
                    self._poll.register(self._listener, select.POLLIN)
                elif self._listener.fileno() in ready:
                    self._accept_some()
        finally:
            self._leave()

    def _patience(self) -> float:
        """Milliseconds until something is due."""
        due = [moment for moment in (self._handshakes.deadline, self._resume, self._tomorrow) if moment is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1

    # Callers

    def _accept_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                plain, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE_AGAIN or self._cannot_accept(error):
                    continue
                return
            if self._handshakes.is_full:
                self._refuse(self._handshakes.give_way())
                self._pause()
            self._handshakes.add(plain, str(address[0]) if address else "")

    def _cannot_accept(self, error: OSError) -> bool:
        """The caller waits in the kernel's queue, and would wake the loop again and again; whether there is room now."""
        self._pause()
        if error.errno in _NO_DESCRIPTOR and len(self._handshakes):  # one of them holds what is missing
            self._refuse(LinkError(os.strerror(error.errno or 0), self._handshakes.give_way().party))
            return True
        self._turn_away(error)
        return False

    def _turn_away(self, error: OSError) -> None:
        """Take the caller with the descriptor that is kept for this, if that is what it takes, and let it go."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
            with contextlib.suppress(OSError):
                self._listener.accept()[0].close()
        with contextlib.suppress(OSError):  # another thread was faster
            self._spare = os.open(os.devnull, os.O_RDONLY)
        self._log.warning("caller refused", why=error.strerror)

    def _pause(self) -> None:
        if self._resume is None:
            self._resume = time.monotonic() + _PAUSE_SECONDS
            self._poll.unregister(self._listener)

    def _refuse(self, error: LinkError) -> None:
        self._log.warning("caller refused", why=error.what, party=error.party)

    def _answer(self, plain: socket.socket) -> Steps[Connection]:
        options = LinkOptions(first_size=FIRST_BYTES, ping_timeout=self._node.limits.silence_seconds)
        return answering(plain, self._tls, self._doors, unwatched=[PEER_PATH], options=options)

    def _advance(self, descriptor: int) -> None:
        try:
            link = self._handshakes.advance(descriptor)
        except LinkError as error:
            self._refuse(error)
        except Exception as error:  # whatever a caller sent, the node goes on
            self._log.error("caller refused", why=place(error))
        else:
            if link is not None:
                self._begin(link)

    # Links

    def _begin(self, link: Connection) -> None:
        """Give a link that stands its place and its thread."""
        thread = Thread(target=self._serve, args=(link,), daemon=True)
        with self._lock:
            crowded = len(self._links) >= self._node.limits.connections
            leaving = self._without_session() if crowded else None
            if not crowded or leaving is not None:
                self._links[link] = None
                self._threads.add(thread)
            else:
                leaving = link
            if leaving is not None:
                self._links.pop(leaving, None)
        if leaving is not None:
            leaving.abort()
            self._refuse(LinkError("too many connections", leaving.party))
        if leaving is not link:
            self._start(thread, link)

    def _start(self, thread: Thread, link: Connection) -> None:
        try:
            thread.start()
        except RuntimeError:  # the system's limit, or the user's
            with self._lock:
                self._links.pop(link, None)
                self._threads.discard(thread)
            link.abort()
            self._refuse(LinkError("no thread can be started", link.party))

    def _without_session(self) -> Connection | None:
        """The oldest link without a session, of the certificate that holds most of them; the lock is held."""
        idle = [link for link, session in self._links.items() if session is None or not session.has_place]
        held = Counter(link.peer_fingerprint for link in idle)
        return max(idle, key=lambda link: held[link.peer_fingerprint], default=None)

    def _serve(self, link: Connection) -> None:
        try:
            if link.path == SESSION_PATH:
                session = ServedSession(self._node, link, self._log)
                with self._lock:
                    if link in self._links:
                        self._links[link] = session
                session.run()
            else:
                self._introduce(link)
        finally:
            with self._lock:
                self._links.pop(link, None)
                self._threads.discard(current_thread())
            if self._collects:  # errors, frames and links refer to each other, and hold OpenSSL's memory and keys
                gc.collect()

    def _introduce(self, link: Connection) -> None:
        """Hand the other node's link to the session that it names."""
        try:
            hello = link.receive(self._node.limits.handshake_seconds)
            taken = self._node.meeting.bring(session_of(hello), link, hello)
            if not taken:
                self._log.warning("peer refused", why="no client called for this session")
        except LinkError as error:
            self._log.warning("peer lost", why=error.what)
            taken = False
        except ProtocolError as error:
            self._log.warning("peer refused", code=error.code, why=error.text)
            taken = False
        if not taken:
            link.close()

    def _leave(self) -> None:
        """End every connection and wait for the threads."""
        self._listener.close()
        self._handshakes.close()
        with self._lock:
            links, threads = list(self._links), list(self._threads)
        self._log.info("stopping", connections=len(threads))
        self._node.meeting.close()
        for link in links:
            link.abort()
        deadline = time.monotonic() + self._node.limits.leave_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for sock in (self._wake, self._waker):
            sock.close()
        if self._spare is not None:
            os.close(self._spare)
        self._log.info("stopped", left=sum(thread.is_alive() for thread in threads))


def _is_over(descriptor: int) -> bool:
    """Whether stdin has ended, or cannot be read any more."""
    try:
        return not os.read(descriptor, 4096)
    except OSError:
        return True


def _free_descriptors(lowest: int) -> int:
    """How many more this process may open, where `lowest` was the lowest free one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(2, soft - lowest)
