"""The end of a connection that is closed in good order: what was sent is still read, and what comes is thrown away."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from threading import Lock

_READS_AT_ONCE = 64  # of a TLS record (16 kB) at most each, while the lock is held


def part(sock: ssl.SSLSocket, lock: Lock, flush: Callable[[], bool], deadline: float) -> None:
    """Wait until the peer has ended its side, or the deadline; `flush` writes what is left and says whether that is all."""
    poll, room = select.poll(), bytearray(16 << 10)
    poll.register(sock, select.POLLIN | select.POLLOUT)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        with lock:
            try:
                if flush():
                    poll.modify(sock, select.POLLIN)
                    # The end of this side: a peer that is closing, too, need not wait for more.
                    socket.socket.shutdown(sock, socket.SHUT_WR)
                if any(not sock.recv_into(room) for _ in range(_READS_AT_ONCE)):
                    return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            except OSError:
                return
