"""The command of `trine-node`, with all that it imports; see party_node/main.py."""

from __future__ import annotations

import gc
import os
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import TrineError
from engine.host.memory import Halves
from engine.host.process import NODE_BYTES, tune_process
from party_node.log import make_log, place
from party_node.main import address, listening, signs_of_life
from party_node.outlet import STDERR, STDOUT
from party_node.signals import Signals

_DRAIN_SECONDS = 0.5  # for the last lines, if the log stalls


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"trine-node {version('trine')}")
        raise typer.Exit


def node(
    context: typer.Context,
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
    daily_rows: Annotated[
        int, typer.Option(min=0, help="Rows of one client that are answered a day (UTC); 0: any number, and none is counted.")
    ] = 50_000,
    state: Annotated[
        Path | None, typer.Option(help="Where they are counted: $STATE_DIRECTORY or the user's own, if it is not said.")
    ] = None,
    weights: Annotated[Halves, typer.Option(help="Keep this node's half of the products in memory, or draw it.")] = Halves.AUTO,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One of the two remote parties: computes on masked values with the other node, for enrolled clients."""
    signals: Signals = context.obj
    tune_process(NODE_BYTES)
    log = make_log(role)
    threading.excepthook = lambda failed: log.error("thread ended", why=place(failed.exc_value or failed.exc_type()))
    try:
        with signs_of_life(exit_with_stdin):
            from party_node.start import Options, make_server

            listener = listening(listen, listen_fd)
            clients = tuple(client_cert)
            options = Options(
                model, role, address(peer), identity, peer_cert, clients, sessions, client_sessions, daily_rows, state, weights
            )
            server = make_server(options, listener, log)
    except TrineError as error:
        STDERR.write(f"trine-node: {error}\n")
        STDERR.drain(_DRAIN_SECONDS)
        raise typer.Exit(error.exit_code) from error
    gc.collect()
    gc.freeze()  # what is loaded stays: looking for what a session left takes a millisecond then
    signals.stop_instead(server.stop)
    host, port = listener.getsockname()[:2]
    STDOUT.write(f"ready {f'[{host}]' if ':' in host else host}:{port}\n")
    server.run(sys.stdin.fileno() if exit_with_stdin else None)
    _leave()


def _leave() -> None:
    """Go without waiting for threads that are stuck in C, or in writing."""
    for outlet in (STDERR, STDOUT):
        outlet.drain(_DRAIN_SECONDS)
    os._exit(0)


def command(signals: Signals) -> None:
    """Read the command line and do it; ends the process."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)  # those show what variables hold
    app.command()(node)
    app(obj=signals)
