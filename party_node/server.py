"""The listening socket: one accept loop, one thread a connection, a bounded number of them.

Rule 1. `/session` is for the clients' certificates and `/peer` for the other node's; TLS and the path are settled within
        the handshake's deadline, before anything else is read.
Rule 2. Nothing that a caller does ends the loop. `stop` does, from a signal handler or another thread.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Mapping
from threading import Lock, Thread, current_thread

from engine.errors import LinkError, ProtocolError
from engine.link import Connection, Tls, accept
from engine.session import session_of
from party_node.log import Log, place
from party_node.node import PEER_PATH, SESSION_PATH, Node
from party_node.session import ServedSession

Doors = Mapping[str, frozenset[str]]
"""Fingerprints that may use a path."""

_LEAVE_SECONDS = 8.0  # for a handshake's deadline, and a session's threads in the middle of a computation


class Server:
    """Serves until it is stopped; `run` is called once."""

    def __init__(self, node: Node, listener: socket.socket, tls: Tls, clients: frozenset[str], log: Log) -> None:
        self._node, self._listener, self._tls, self._log = node, listener, tls, log
        self._doors: Doors = {SESSION_PATH: clients, PEER_PATH: frozenset({node.peer.fingerprint})}
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._lock = Lock()
        self._threads: set[Thread] = set()
        self._links: set[Connection] = set()
        self._stopping = False

    def stop(self) -> None:
        """End `run`; safe in a signal handler."""
        with contextlib.suppress(OSError):  # it is over already
            self._waker.send(b"\0")

    def run(self, until_closed: int | None = None) -> None:
        """Accept callers until `stop`, or until the descriptor `until_closed` (stdin) reaches its end."""
        self._listener.setblocking(False)
        poll = select.poll()
        for descriptor in (self._listener.fileno(), self._wake.fileno(), until_closed):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._wake.fileno() in ready or (until_closed in ready and not os.read(until_closed or 0, 4096)):
                    return
                if self._listener.fileno() in ready:
                    self._answer_one()
        finally:
            self._leave()

    def _answer_one(self) -> None:
        try:
            plain, _ = self._listener.accept()
        except OSError:  # the caller has gone again, or there are no descriptors left: the next may do
            return
        with self._lock:
            full = len(self._threads) >= self._node.limits.connections
            if not full:
                thread = Thread(target=self._serve, args=(plain,), daemon=True)
                self._threads.add(thread)
        if full:
            plain.close()
            self._log.warning("caller refused", why="too many connections")
        else:
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            limits = self._node.limits
            link = accept(
                plain,
                self._tls,
                self._doors,
                unwatched=[PEER_PATH],
                handshake_timeout=limits.handshake_seconds,
                ping_timeout=limits.silence_seconds,
            )
        except LinkError as error:
            self._log.warning("caller refused", why=error.what, party=str(error).partition(": ")[0])
        except Exception as error:  # whatever a caller sent, the node goes on
            self._log.error("caller refused", why=place(error))
        else:
            self._admit(link)
        finally:
            with self._lock:
                self._threads.discard(current_thread())

    def _admit(self, link: Connection) -> None:
        with self._lock:
            stopping = self._stopping
            self._links.add(link)
        try:
            if stopping:
                link.abort()
            elif link.path == SESSION_PATH:
                ServedSession(self._node, link, self._log).run()
            else:
                self._introduce(link)
        finally:
            with self._lock:
                self._links.discard(link)

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
        with self._lock:
            self._stopping = True
            links, threads = list(self._links), list(self._threads)
        self._log.info("stopping", connections=len(threads))
        self._node.meeting.close()
        for link in links:
            link.abort()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._wake.close()
        self._waker.close()
        self._log.info("stopped", left=sum(thread.is_alive() for thread in threads))
