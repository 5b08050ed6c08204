"""Lines between parties that are not as good as loopback: a thread a direction between two sockets."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self


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
        listener = socket.create_server(("127.0.0.1", 0))
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
