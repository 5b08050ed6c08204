"""Sixteen people at two real nodes of four places: nobody is lost, and it takes no longer than it must."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier, Event

import pytest

from app.local_party import Endpoint, Endpoints, NodeConversation
from app.local_party.session import warm_up
from engine.link import Identity, make_identity
from tests.models.shared_small import Follow, SharedSmall
from tests.party_node.rig import endpoints, identities

PLACES, CERTIFICATES, CLIENTS = 4, 8, 16
HELD = 0.7
"""Seconds that each keeps its place behind its answer."""


@contextmanager
def nodes(small: SharedSmall, clients: list[Identity], directory: Path) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Two `trine-node` processes as their operators start them."""
    who = identities()
    for number, client in enumerate(clients):
        client.save(directory / f"client{number}")
    for role, own in enumerate(who.nodes, 1):
        own.save(directory / f"node{role}")
    ports = free_ports()
    with ExitStack() as stack:
        running = [stack.enter_context(node(small, directory, role, ports, len(clients))) for role in (1, 2)]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
        yield endpoints(who, ports).nodes


def free_ports() -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return [sock.getsockname()[1] for sock in (one, two)]


@contextmanager
def node(small: SharedSmall, directory: Path, role: int, ports: list[int], clients: int) -> Iterator[subprocess.Popen[str]]:
    words: list[object] = [sys.executable, "-m", "party_node.main", "--role", role, "--model", small.directory / f"node{role}"]
    words += ["--listen", f"127.0.0.1:{ports[role - 1]}", "--peer", f"127.0.0.1:{ports[2 - role]}"]
    words += ["--identity", directory / f"node{role}", "--peer-cert", directory / f"node{3 - role}" / "certificate.pem"]
    words += ["--state", directory / f"state{role}"]
    for number in range(clients):
        words += ["--client-cert", directory / f"client{number}" / "certificate.pem"]
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.long
def test_all_are_served_in_twice_the_time_of_the_work(small: SharedSmall, tmp_path: Path) -> None:
    warm_up(small.client)
    clients = [make_identity("client") for _ in range(CERTIFICATES)]
    answer, over, gate = small.answer(small.prompt(6), 3), Event(), Barrier(CLIENTS)
    with nodes(small, clients, tmp_path) as ends, ThreadPoolExecutor(CLIENTS) as threads:

        def go(number: int) -> float:
            """How long it kept its place."""
            gate.wait(60)
            with NodeConversation.open(Endpoints(clients[number % CERTIFICATES], ends), small.client) as conversation:
                began, follow = time.monotonic(), Follow(*answer)
                assert len(list(conversation.generate(small.prompt(6), max_tokens=3, choose=follow))) == 3
                assert not follow.wrong
                over.wait(HELD)
                return time.monotonic() - began

        began = time.monotonic()
        work = [job.result(120) for job in [threads.submit(go, number) for number in range(CLIENTS)]]
        took = time.monotonic() - began
    assert all((tmp_path / f"state{role}").is_dir() for role in (1, 2))
    assert took <= 2 * sum(work) / PLACES
