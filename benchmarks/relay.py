"""A link emulator: a TCP relay that delays what passes and limits its rate, for kernels without a network emulator.

``python -m benchmarks.relay MS MBITS PORT …`` prints, for each target port, the port that leads to it; each direction of each
connection has its own rate, and half the round trip as its delay. It ends when its stdin closes.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

CHUNK = 32 << 10
Piece = tuple[float, bytes]


def _read(source: socket.socket, pipe: queue.Queue[Piece], delay: float, rate: float) -> None:
    """Stamp each piece with the time at which it has arrived at the other side; b"" is the end."""
    free = 0.0
    while True:
        try:
            data = source.recv(CHUNK)
        except OSError:
            data = b""
        free = max(free, time.monotonic()) + len(data) / rate
        pipe.put((free + delay, data))
        if not data:
            return


def _write(target: socket.socket, pipe: queue.Queue[Piece]) -> None:
    while True:
        due, data = pipe.get()
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        with suppress(OSError):
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)


def _join(one: socket.socket, two: socket.socket, delay: float, rate: float) -> None:
    # What fits on the way: the delay's worth of the rate, and a second CHUNK for the sender to fill.
    pieces = int(delay * rate / CHUNK) + 8
    for source, target in ((one, two), (two, one)):
        pipe: queue.Queue[Piece] = queue.Queue(max(pieces, 64))
        Thread(target=_read, args=(source, pipe, delay, rate), daemon=True).start()
        Thread(target=_write, args=(target, pipe), daemon=True).start()


def _serve(listening: socket.socket, port: int, delay: float, rate: float) -> None:
    while True:
        one, _ = listening.accept()
        deadline = time.monotonic() + 60
        while True:  # SPU's parties dial each other before they listen
            try:
                two = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        for sock in (one, two):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _join(one, two, delay, rate)


@contextmanager
def relays(link: tuple[float, float], parties: int = 3) -> Iterator[str]:
    """Free ports for `parties` and a relay to each: JSON ``{"own": [port, …], "relay": [port, …]}``."""
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(parties)]
    own = [sock.getsockname()[1] for sock in bound]
    for sock in bound:
        sock.close()
    command = [sys.executable, "-m", "benchmarks.relay", *(str(value) for value in (*link, *own))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the relay has no pipes")
        try:
            yield json.dumps({"own": own, "relay": [int(port) for port in process.stdout.readline().split()]})
        finally:
            process.stdin.close()


def main() -> None:
    """Relay until stdin closes."""
    milliseconds, megabits = float(sys.argv[1]), float(sys.argv[2])
    ports = []
    for argument in sys.argv[3:]:
        listening = socket.create_server(("127.0.0.1", 0))
        ports.append(listening.getsockname()[1])
        limits = (milliseconds / 2000, megabits * 1e6 / 8)
        Thread(target=_serve, args=(listening, int(argument), *limits), daemon=True).start()
    print(*ports, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
