"""Two nodes on this machine for one run: processes, certificates, sockets, and nothing left of them afterwards.

Rule 1. Nodes are started as programs, never imported. Their listening sockets are bound here and inherited, so no port
        is guessed; they are told apart from others by certificates made for this run alone.
Rule 2. The certificates' directory is gone as soon as both nodes have read it, and their log has no name: however this
        process ends, no file stays. The nodes end when their stdin does, so no process stays either.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from app.local_party import Conversation, Endpoint, Endpoints
from app.local_party.session import warm_up
from engine.errors import LinkError
from engine.link import Identity, make_identity
from engine.provision.pack import ClientModel, load_client_model
from engine.ring.process import keep_apart, tune_process

if TYPE_CHECKING:
    from engine.generate.tokenizer import ChatTokenizer

Report = Callable[[str, int, int], None]
"""What is being done, how much of it, of how much (0 if that is not known)."""

HOST = "127.0.0.1"
READY_SECONDS = 300.0
"""The first start compiles kernels and reads the whole pack."""
_STOP_SECONDS = 10.0
_LOG_BYTES = 4000  # of a failed node's log are shown


@dataclass(frozen=True, slots=True)
class Demo:
    """The nodes are ready."""

    endpoints: Endpoints
    model: ClientModel
    pids: tuple[int, int]

    def tokenizer(self) -> ChatTokenizer:
        """The model's, with its chat template."""
        from engine.generate.tokenizer import ChatTokenizer
        from engine.provision.tokenizer import load_tokenizer

        return ChatTokenizer(load_tokenizer(self.model.tokenizer), self.model.chat_template, self.model.spec.eos)

    def open_conversation(self) -> Conversation:
        """Connect to both nodes."""
        return Conversation.open(self.endpoints, self.model)


@contextmanager
def demo(model: Path | None = None, report: Report = lambda what, done, of: None) -> Iterator[Demo]:
    """Run two nodes; `model` is what `trine-model share` wrote (None: the demo model, shared on its first use).

    Raises:
        ModelError: the model cannot be used.
        LinkError: a node did not start; the end of its log is in the text.
    """
    if model is None:
        from app.demo_model import ensure_demo_model

        model = ensure_demo_model(report)
    tune_process()
    report("loading the model", 0, 0)
    client = load_client_model(model / "client")
    with ExitStack() as stack:
        with tempfile.TemporaryDirectory(prefix="trine-demo-") as directory:
            parties = Parties.make(Path(directory))
            sockets = [stack.enter_context(listening()) for _ in (1, 2)]
            ports = [sock.getsockname()[1] for sock in sockets]
            report("starting two nodes", 0, 2)
            nodes = [
                stack.enter_context(NodeProcess(parties, model / f"node{role}", role, sockets[role - 1], ports[2 - role]))
                for role in (1, 2)
            ]
            keep_apart([node.pid for node in nodes])
            deadline = time.monotonic() + READY_SECONDS
            warm_up(client)
            for role, node in enumerate(nodes, 1):
                node.wait_ready(deadline)
                sockets[role - 1].close()  # so that a dead node's port refuses
                report("starting two nodes", role, 2)
        for node in nodes:  # both leave at once, and then are waited for
            stack.callback(node.terminate)
        yield Demo(parties.endpoints(ports), client, (nodes[0].pid, nodes[1].pid))


@contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    """A listening socket on this machine, to be inherited."""
    with socket.create_server((HOST, port), backlog=64) as sock:
        yield sock


@dataclass(frozen=True, slots=True)
class Parties:
    """Three identities, the nodes' written into `directory`: node1, node2, client.pem."""

    directory: Path
    client: Identity
    nodes: tuple[Identity, Identity]

    @classmethod
    def make(cls, directory: Path) -> Parties:
        """Fresh ones."""
        client, one, two = (make_identity(name, days=30) for name in ("client", "node 1", "node 2"))
        one.save(directory / "node1")
        two.save(directory / "node2")
        (directory / "client.pem").write_bytes(client.certificate)
        return cls(directory, client, (one, two))

    def endpoints(self, ports: Sequence[int]) -> Endpoints:
        """Where the client finds the nodes that listen on these ports."""
        one, two = (Endpoint(HOST, port, node.certificate) for port, node in zip(ports, self.nodes, strict=True))
        return Endpoints(self.client, (one, two))


class NodeProcess:
    """A `trine-node` process in a session of its own, so that Ctrl-C reaches it through us alone.

    A context manager; `stop` asks it to end, then makes it.
    """

    def __init__(self, parties: Parties, pack: Path, role: int, listener: socket.socket, peer_port: int) -> None:
        self.role = role
        self._log: IO[bytes] = tempfile.TemporaryFile(prefix="trine-demo-")  # noqa: SIM115 - open while the process is
        own, other = parties.directory / f"node{role}", parties.directory / f"node{3 - role}"
        options: Mapping[str, object] = {
            "--model": pack,
            "--role": role,
            "--listen-fd": listener.fileno(),
            "--peer": f"{HOST}:{peer_port}",
            "--identity": own,
            "--peer-cert": other / "certificate.pem",
            "--client-cert": parties.directory / "client.pem",
        }
        words = [str(word) for option in options.items() for word in option]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "party_node.main", *words, "--exit-with-stdin"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        except BaseException:
            self._log.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self, deadline: float) -> None:
        """Wait for its word; LinkError with the end of its log if it ends or takes too long."""
        output = self._process.stdout
        if output is None:
            raise RuntimeError("the node's output is not ours")
        poll, said = select.poll(), b""
        poll.register(output, select.POLLIN)
        while b"\n" not in said:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise LinkError(f"was not ready in time\n{self.log()}".rstrip(), f"node {self.role}")
            piece = os.read(output.fileno(), 4096)
            if not piece:
                self._process.wait(_STOP_SECONDS)
                raise LinkError(f"did not start\n{self.log()}".rstrip(), f"node {self.role}")
            said += piece

    def log(self) -> str:
        """The end of what it wrote to stderr."""
        # Not seek and read: the node writes where the shared position stands.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)).decode("utf-8", "replace")

    def kill(self) -> None:
        """End it without asking, and wait."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def stop(self) -> int:
        """Ask it to end, make it if it does not; returns its exit code."""
        self.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            for pipe in (self._process.stdin, self._process.stdout, self._log):
                if pipe is not None:
                    pipe.close()
