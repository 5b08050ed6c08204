"""`trine-node`: start one evaluator, say when it is ready, serve until SIGTERM.

Exit code 0 after SIGTERM, SIGINT or the end of stdin, while it loads, too; 2 if the model or an option cannot be used; 3 if
the address or the identity cannot; 4 if the cache of compiled kernels cannot be made.

Nothing that takes long is imported here: signals are heard first (party_node/command.py has the command itself).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from engine.errors import InputError, LinkError
from engine.host.core_files import forbid_core_files
from engine.host.standard_files import open_standard_files
from party_node.outlet import STDOUT
from party_node.signals import Signals

_BACKLOG = 64
SIGN_SECONDS = 1.0


@contextmanager
def signs_of_life(wanted: bool, every: float = SIGN_SECONDS) -> Iterator[None]:
    """Say `every` so many seconds that this node loads, as a frozen one would not. If nobody listens, end."""
    over = Event()

    def say() -> None:
        while not over.wait(every):
            if STDOUT.is_broken:  # nothing is open yet that would need an orderly end
                os._exit(0)
            STDOUT.write("loading\n")

    thread = Thread(target=say, daemon=True)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if wanted:
            thread.join()


def _one_thread_a_library() -> None:
    """Two nodes and the app may share two cores; must come before numpy and numba are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


def address(text: str) -> tuple[str, int]:
    """HOST:PORT as (host, port); InputError if it is none."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise InputError(f"{text!r} is no address: HOST:PORT is needed")
    return host.strip("[]"), int(port)


def listening(listen: str | None, listen_fd: int | None) -> socket.socket:
    """The listening socket, bound here or inherited; LinkError if there cannot be one."""
    if listen is None and listen_fd is None:
        raise InputError("it is not said where to listen: give --listen HOST:PORT (or --listen-fd)")
    if listen is not None and listen_fd is not None:
        raise InputError("--listen and --listen-fd are both given: leave out one of them")
    try:
        if listen_fd is not None:
            return socket.socket(fileno=listen_fd)
        host, port = address(listen or "")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise LinkError(f"cannot listen: {error.strerror or error}", listen or f"descriptor {listen_fd}") from error


def main() -> None:
    """The console command."""
    forbid_core_files()
    open_standard_files()
    signals = Signals()
    _one_thread_a_library()
    from party_node.command import command

    command(signals)


if __name__ == "__main__":
    main()
