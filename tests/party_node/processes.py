"""Two `trine-node` processes on the small model, as operators run them."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from app.local_party import NodeConversation
from engine.link import Connection, LinkOptions, client_tls, connect
from tests.models.shared_small import SharedSmall, greedy
from tests.party_node.rig import Identities, call_raw, endpoints, identities

Stderr = int | IO[bytes]


def command(small: SharedSmall, directory: Path, role: int, listener: socket.socket, peer_port: int) -> list[str]:
    """Of a node whose identity, and the others' certificates, `save` wrote into the directory."""
    words = {
        "--model": small.directory / f"node{role}",
        "--role": role,
        "--listen-fd": listener.fileno(),
        "--peer": f"127.0.0.1:{peer_port}",
        "--identity": directory / f"node{role}",
        "--peer-cert": directory / f"node{3 - role}" / "certificate.pem",
        "--client-cert": directory / "client" / "certificate.pem",
        "--state": directory / "state",
    }
    return [sys.executable, "-m", "party_node.main", *(str(word) for option in words.items() for word in option)]


def save(who: Identities, directory: Path) -> None:
    for name, identity in (("client", who.client), ("node1", who.nodes[0]), ("node2", who.nodes[1])):
        identity.save(directory / name)


class Processes:
    """Both, ready; their logs go to files unless `stderr` says otherwise."""

    def __init__(self, small: SharedSmall, directory: Path, stack: ExitStack, stderr: Mapping[int, Stderr]) -> None:
        self.small, self.who = small, identities()
        self._directory = directory
        save(self.who, directory)
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in (1, 2)]
        self.ports = [sock.getsockname()[1] for sock in sockets]
        self.nodes: list[subprocess.Popen[bytes]] = []
        for role in (1, 2):
            words = command(small, directory, role, sockets[role - 1], self.ports[2 - role])
            log = stderr.get(role) or stack.enter_context((directory / f"log{role}").open("wb"))
            fds = (sockets[role - 1].fileno(),)
            node = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, pass_fds=fds)
            stack.enter_context(node)
            stack.callback(node.kill)
            self.nodes.append(node)
        for sock in sockets:
            sock.close()
        for node in self.nodes:
            assert node.stdout is not None
            assert node.stdout.readline().startswith(b"ready ")

    def log(self, role: int) -> str:
        return (self._directory / f"log{role}").read_text()

    def open(self, **options: Any) -> NodeConversation:
        return NodeConversation.open(endpoints(self.who, self.ports), self.small.client, **options)

    def ask(self, count: int = 2) -> None:
        """A session with a short answer."""
        with self.open() as conversation:
            assert len(list(conversation.generate(self.small.prompt(4), max_tokens=count, choose=greedy))) == count

    def call(self, role: int) -> Connection:
        tls = client_tls(self.who.client, self.who.nodes[role - 1].certificate)
        return connect("127.0.0.1", self.ports[role - 1], "/session", tls, options=LinkOptions(ping_interval=None))

    def call_raw(self, role: int) -> ssl.SSLSocket:
        return call_raw(self.ports[role - 1], self.who.client, self.who.nodes[role - 1])

    def resident(self, role: int) -> int:
        """Bytes of memory."""
        pages = Path(f"/proc/{self.nodes[role - 1].pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def busy_seconds(self, role: int) -> float:
        """Of processor time so far."""
        fields = Path(f"/proc/{self.nodes[role - 1].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def processes(small: SharedSmall, directory: Path, stderr: Mapping[int, Stderr] | None = None) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(small, directory, stack, stderr or {})
