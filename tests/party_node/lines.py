"""Lines between parties that are not as good as loopback: a thread a direction between two sockets."""

from __future__ import annotations

import queue
import socket
import time
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

_SIP = 4096


class Line:
    """Forwards what is said to a port, until `swallow`: what stands then swallows everything, without an end, both ways.

    A context manager; connections that are made later work.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._ends: list[socket.socket] = []
        self._gates: list[Event] = []
        self._threads: list[Thread] = []
        self._listeners: list[socket.socket] = []

    def to(self, port: int) -> int:
        """The port that leads there."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)  # its own buffer is not to be the kernel's
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self._listeners.append(listener)
        self._start(self._accept, listener, port)
        own: int = listener.getsockname()[1]
        return own

    def swallow(self) -> None:
        """The connections that stand fall silent: a cable is out, or a firewall has forgotten them."""
        for gate in self._gates:
            gate.set()

    def _accept(self, listener: socket.socket, port: int) -> None:
        with suppress(OSError):
            while True:
                caller, _ = listener.accept()
                called = socket.create_connection(("127.0.0.1", port))
                self._ends += [caller, called]
                self.calls += 1
                gate = Event()
                self._gates.append(gate)
                self._connect(caller, called, gate)

    def _connect(self, caller: socket.socket, called: socket.socket, gate: Event) -> None:
        self._start(self._pump, caller, called, gate)
        self._start(self._pump, called, caller, gate)

    def _pump(self, source: socket.socket, target: socket.socket, gate: Event) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not gate.is_set():
                    target.sendall(data)
            if not gate.is_set():
                target.shutdown(socket.SHUT_WR)

    def _start(self, work: object, *words: object) -> None:
        thread = Thread(target=work, args=words, daemon=True)  # type: ignore[arg-type]  # any of the above
        self._threads.append(thread)
        thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for sock in (*self._listeners, *self._ends):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)


class ThinLine(Line):
    """Takes `room` bytes at once from who called, and passes on `rate` a second of them; the other way it is as good as any."""

    def __init__(self, *, rate: float, room: int) -> None:
        super().__init__()
        self._rate, self._room = rate, room
        self._over = Event()

    def _connect(self, caller: socket.socket, called: socket.socket, gate: Event) -> None:
        held: queue.Queue[bytes] = queue.Queue(max(1, self._room // _SIP))
        self._start(self._fill, caller, held)
        self._start(self._pour, held, called)
        self._start(self._pump, called, caller, gate)

    def _fill(self, source: socket.socket, held: queue.Queue[bytes]) -> None:
        with suppress(OSError):
            while data := source.recv(_SIP):
                if not self._put(held, data):
                    return
        self._put(held, b"")

    def _put(self, held: queue.Queue[bytes], data: bytes) -> bool:
        while not self._over.is_set():
            with suppress(queue.Full):
                held.put(data, timeout=0.1)
                return True
        return False

    def _pour(self, held: queue.Queue[bytes], target: socket.socket) -> None:
        due = time.monotonic()
        with suppress(OSError, queue.Empty):
            while not self._over.is_set():
                data = held.get(timeout=30)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                due = max(due, time.monotonic()) + len(data) / self._rate
                self._over.wait(due - time.monotonic())
                target.sendall(data)

    def __exit__(self, *words: object) -> None:
        self._over.set()
        super().__exit__(None, None, None)
