"""A node of the demo: a `trine-node` process that is watched while it loads and killed when it has to go.

Rule 1. It is started as a program, never imported. It inherits its listening socket, so no port is guessed, and its key and the
        certificates in files without names: however this process ends, none of them stays.
Rule 2. It holds nothing that needs tidying, so it is killed, not asked: loading, frozen or not, it is gone at once. Its log has
        no name, and it ends by itself when its stdin does (while it loads: its stdout), so no process stays either.
Rule 3. While it loads it says each second that it does: one that falls silent is given up long before one that is merely slow.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.local_party import Endpoint, Endpoints
from engine.errors import LinkError, ModelError
from engine.link import Identity, make_identity, unnamed_file

HOST = "127.0.0.1"
READY_SECONDS = 300.0
"""The first start compiles kernels and reads the whole pack."""
SILENT_SECONDS = 20.0
"""Without a word from a node that loads, and says so each second: it is frozen."""
_TICK_SECONDS = 0.2
_LOG_BYTES = 4000  # of a failed node's log are shown
_FLAGS_FIELD, _PF_EXITING = 6, 0x4  # of /proc/PID/stat behind the name; of <linux/sched.h>


@contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    """A listening socket on this machine, to be inherited; LinkError if another program has the port."""
    try:
        sock = socket.create_server((HOST, port), backlog=64)
    except OSError as error:
        text = f"cannot listen: {error.strerror or error}; quit and start again"
        raise LinkError(text, f"{HOST}:{port}") from error
    with sock:
        yield sock


@dataclass(frozen=True, slots=True)
class Parties:
    """The identities of all three, made for one run and never on a disk."""

    client: Identity
    nodes: tuple[Identity, Identity]

    @classmethod
    def make(cls) -> Parties:
        """Fresh ones, which no clock makes invalid: they are as old as this run, and on this machine only."""
        client, one, two = (make_identity(name, days=None) for name in ("client", "node 1", "node 2"))
        return cls(client, (one, two))

    def endpoints(self, ports: Sequence[int]) -> Endpoints:
        """Where the client finds the nodes that listen on these ports."""
        one, two = (Endpoint(HOST, port, node.certificate) for port, node in zip(ports, self.nodes, strict=True))
        return Endpoints(self.client, (one, two))


class NodeProcess:
    """The process of one node, in a session of its own, so that Ctrl-C reaches it through us alone; a context manager."""

    def __init__(self, parties: Parties, pack: Path, role: int, listener: socket.socket, peer_port: int) -> None:
        self.role = role
        self._said = b""
        self._began = self._heard = time.monotonic()
        own, other = parties.nodes[role - 1], parties.nodes[2 - role]
        with ExitStack() as undo:
            self._log: IO[bytes] = undo.enter_context(tempfile.TemporaryFile())
            with ExitStack() as given:
                files = {
                    "--identity": given.enter_context(unnamed_file(own.pem)),
                    "--peer-cert": given.enter_context(unnamed_file(other.certificate)),
                    "--client-cert": given.enter_context(unnamed_file(parties.client.certificate)),
                }
                options: Mapping[str, object] = {
                    "--model": pack,
                    "--role": role,
                    "--daily-rows": 0,  # the person's own nodes
                    "--listen-fd": listener.fileno(),
                    "--peer": f"{HOST}:{peer_port}",
                    **{name: f"/dev/fd/{descriptor}" for name, descriptor in files.items()},
                }
                words = [str(word) for option in options.items() for word in option]
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-P", "-m", "party_node.main", *words, "--exit-with-stdin"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    pass_fds=[listener.fileno(), *files.values()],
                    start_new_session=True,
                )
            undo.pop_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it runs no more, or is about to end: others notice that by its links before we can collect it."""
        return self._process.poll() is not None or _is_exiting(self.pid)

    def log(self) -> str:
        """The end of what it wrote to stderr."""
        # Not seek and read: the node writes where the shared position stands.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)).decode("utf-8", "replace")

    def wait(self, seconds: float) -> int:
        """Wait for its end; returns its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it, without asking, and wait."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it and forget what it said. Idempotent."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def output(self) -> int:
        """The descriptor of what it says."""
        if self._process.stdout is None:
            raise RuntimeError("the node's output is not ours")
        return self._process.stdout.fileno()

    def hear(self) -> bool:
        """Read what it says, which is there; whether it is ready.

        Raises:
            ModelError: it has ended, for its pack cannot be used; in its own words.
            LinkError: it has ended otherwise; with the end of its log.
        """
        piece = os.read(self.output, 4096)
        if not piece:
            with suppress(subprocess.TimeoutExpired):  # it closed its stdout, so it is about to end
                if self.wait(2) == ModelError.exit_code and (said := self.log().strip().splitlines()):
                    raise ModelError(said[-1].removeprefix("trine-node: "))
            self.kill()
            raise self._failed("did not start")
        self._said += piece
        self._heard = time.monotonic()
        return b"ready" in self._said

    def check_moving(self) -> None:
        """LinkError if it has been silent, or loading, for too long."""
        now = time.monotonic()
        if now - self._heard > SILENT_SECONDS:
            raise self._failed(f"does not move: it has said nothing for {SILENT_SECONDS:g} s")
        if now - self._began > READY_SECONDS:
            raise self._failed(f"was not ready within {READY_SECONDS:g} s")

    def _failed(self, what: str) -> LinkError:
        return LinkError(f"{what}\n{self.log()}".rstrip(), f"node {self.role}")


def _is_exiting(pid: int) -> bool:
    """Whether the kernel is ending a process, which it notes before it closes any of its files (proc_pid_stat(5), flags)."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return bool(int(fields[_FLAGS_FIELD]) & _PF_EXITING)


def wait_until_ready(nodes: Iterable[NodeProcess], tick: Callable[[int], None] = lambda waiting: None) -> None:
    """Wait until all can be called; `tick` hears several times a second how many are not ready, and may raise.

    Raises:
        LinkError: a node has ended, does not move, or takes too long; the end of its log is in the text.
    """
    waiting = {node.output: node for node in nodes}
    poll = select.poll()
    for output in waiting:
        poll.register(output, select.POLLIN)
    while waiting:
        tick(len(waiting))
        for output, _ in poll.poll(_TICK_SECONDS * 1000):
            if waiting[output].hear():
                poll.unregister(output)
                del waiting[output]
        for node in waiting.values():
            node.check_moving()
