"""`trine-node`: start one evaluator, say when it is ready, serve until SIGTERM.

Exit code 0 after SIGTERM, SIGINT or the end of stdin; 2 if the model or an option cannot be used; 3 if the address or
the identity cannot; 4 if the cache of compiled kernels cannot be made.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import InputError, LinkError, TrineError
from engine.parties.room import Halves
from engine.ring.core_files import forbid_core_files
from engine.ring.process import NODE_BYTES, tune_process

if TYPE_CHECKING:
    from party_node.server import Server

_BACKLOG = 64
_SIGN_SECONDS = 1.0


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"trine-node {version('trine')}")
        raise typer.Exit


def node(
    model: Annotated[Path, typer.Option(help="This node's pack: a directory that `trine-model share` wrote.")],
    role: Annotated[int, typer.Option(min=1, max=2, help="Which evaluator this node is; its pack says the same.")],
    peer: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the other node listens.")],
    identity: Annotated[
        Path, typer.Option(help="This node's: a directory of certificate.pem and key.pem, or one file of both.")
    ],
    peer_cert: Annotated[Path, typer.Option(help="The other node's certificate.")],
    client_cert: Annotated[list[Path], typer.Option(help="The certificate of a client; may be given several times.")],
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = None,
    listen_fd: Annotated[int | None, typer.Option(help="A listening socket that was inherited, instead.")] = None,
    exit_with_stdin: Annotated[
        bool, typer.Option("--exit-with-stdin", help='Stop when stdin ends, and say "loading" each second until it is ready.')
    ] = False,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions at a time.")] = 4,
    client_sessions: Annotated[
        int | None, typer.Option(min=1, help="Sessions at a time of one client: 2, and one less than all, if it is not said.")
    ] = None,
    weights: Annotated[Halves, typer.Option(help="Keep this node's half of the products in memory, or draw it.")] = Halves.AUTO,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One of the two remote parties: computes on masked values with the other node, for enrolled clients."""
    _one_thread_a_library()
    tune_process(NODE_BYTES)
    try:
        with _signs_of_life(exit_with_stdin):
            from party_node.start import Options, make_server

            listener = listening(listen, listen_fd)
            options = Options(
                model, role, address(peer), identity, peer_cert, tuple(client_cert), sessions, client_sessions, weights
            )
            server = make_server(options, listener)
    except TrineError as error:
        print(f"trine-node: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    _serve(server, listener, exit_with_stdin=exit_with_stdin)


@contextmanager
def _signs_of_life(wanted: bool) -> Iterator[None]:
    """Say each second that this node loads: who started it tells a frozen node from a slow one. If nobody listens, end."""
    over = Event()

    def say() -> None:
        while not over.wait(_SIGN_SECONDS):
            try:
                print("loading", flush=True)
            except OSError:  # nothing is open yet that would need an orderly end
                os._exit(0)

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


def _serve(server: Server, listener: socket.socket, *, exit_with_stdin: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    host, port = listener.getsockname()[:2]
    print(f"ready {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    server.run(sys.stdin.fileno() if exit_with_stdin else None)


def main() -> None:
    """The console command."""
    forbid_core_files()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)  # those show what variables hold
    app.command()(node)
    app()


if __name__ == "__main__":
    main()
