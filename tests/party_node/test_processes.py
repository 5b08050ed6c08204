"""Real nodes, with the limits as shipped: what one caller, a reader of the log or the system can do to the others."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest
from websockets.frames import Frame, Opcode

from engine.errors import LinkError
from party_node.limits import Limits
from tests.models.shared_small import SharedSmall, greedy
from tests.party_node.processes import Processes, command, processes, save
from tests.party_node.rig import RawClient, identities

SLACK = 3.0
"""What a machine that also does other things may add to each bound."""
LEAVES = 5.0
MB = 1 << 20


@pytest.fixture(scope="module")
def nodes(small: SharedSmall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(small, tmp_path_factory.mktemp("nodes")) as running:
        running.ask()
        yield running


def ends(node: subprocess.Popen[bytes]) -> float:
    """Ask it to end; how long that took."""
    began = time.monotonic()
    node.terminate()
    assert node.wait(4 * LEAVES) == 0
    return time.monotonic() - began


# The log


@contextlib.contextmanager
def stalled() -> Iterator[int]:
    """A full pipe that nobody reads."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def unread() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A disk without room."""
    with open("/dev/full", "wb", buffering=0) as file:
        yield file.fileno()


@pytest.mark.parametrize(
    "place", [stalled, pytest.param(unread, marks=pytest.mark.long), pytest.param(full, marks=pytest.mark.long)]
)
def test_a_log_that_cannot_be_written_holds_nobody_up(
    small: SharedSmall, tmp_path: Path, place: Callable[[], contextlib.AbstractContextManager[int]]
) -> None:
    with place() as log, processes(small, tmp_path, {2: log}) as nodes:
        for _ in range(2):
            nodes.ask()
            for _ in range(100):  # each would be a line
                with socket.create_connection(("127.0.0.1", nodes.ports[1])) as caller:
                    caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
        nodes.ask()
        assert ends(nodes.nodes[1]) < LEAVES


@pytest.mark.long
def test_callers_who_are_refused_cost_few_lines(nodes: Processes) -> None:
    before, began = len(nodes.log(1).splitlines()), time.monotonic()
    for _ in range(2000):
        with socket.create_connection(("127.0.0.1", nodes.ports[0])) as caller:
            caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
    nodes.ask()
    kinds = 3  # of what OpenSSL says about such callers
    assert len(nodes.log(1).splitlines()) - before < 10 + kinds * (time.monotonic() - began + 1)


# Signals while a node loads


def hears_signals(pid: int) -> bool:
    """Whether the process has a handler of its own for SIGHUP, the last of those that it makes."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_node_that_imports_ends_at_a_signal(small: SharedSmall, tmp_path: Path, number: int) -> None:
    save(identities(), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = command(small, tmp_path, 1, listener, 1)
        fds = (listener.fileno(),)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds) as node:
            while not hears_signals(node.pid):
                assert node.poll() is None
            node.send_signal(number)
            began = time.monotonic()
            said, complained = node.communicate(timeout=20)
            assert time.monotonic() - began < 2 + SLACK
    assert (node.returncode, said, complained) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_busy_in_c_ends_at_a_signal(number: int) -> None:
    program = "import hashlib; from party_node.signals import Signals; Signals(); print(flush=True)\n"
    program += "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
        assert node.stdout is not None
        node.stdout.readline()
        node.send_signal(number)
        assert node.communicate(timeout=2 + SLACK) == (b"", b"")
        assert node.returncode == 0


# Callers


@pytest.mark.long
@pytest.mark.parametrize("opcode", [Opcode.PONG, Opcode.PING])
def test_a_flood_is_ended_and_others_keep_their_speed(nodes: Processes, opcode: Opcode) -> None:
    sock = nodes.call_raw(1)
    frames = Frame(opcode, b"").serialize(mask=True) * 2000
    busy, began = nodes.busy_seconds(1), time.monotonic()

    def flood() -> float:
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(frames)
        return time.monotonic() - began

    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood)
        nodes.ask(4)
        assert flooding.result(60) < Limits().handshake_seconds + SLACK
    sock.close()
    assert nodes.busy_seconds(1) - busy < 0.5 * (time.monotonic() - began) + 1


@pytest.mark.long
def test_first_messages_that_are_too_long_take_no_memory(nodes: Processes) -> None:
    size, before = 64 << 20, nodes.resident(1)
    socks = [nodes.call_raw(1) for _ in range(60)]
    most = 0
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.sendall(b"\x82\xff" + size.to_bytes(8, "big") + b"mask")
            for _ in range(64):
                sock.sendall(bytes(MB))
        most = max(most, nodes.resident(1))
    nodes.ask()
    for sock in socks:
        sock.close()
    assert most - before < 64 * MB


@pytest.mark.long
@pytest.mark.parametrize(("host", "seconds"), [("127.0.0.2", 2.0), ("127.0.0.1", 10.0)], ids=["another address", "their own"])
def test_two_hundred_strangers_keep_nobody_out(nodes: Processes, host: str, seconds: float) -> None:
    over = Event()

    def hold() -> None:
        while not over.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", nodes.ports[0]), 3, source_address=(host, 0)) as caller,
            ):
                caller.settimeout(7)
                caller.sendall(b"\x16\x03\x01\x02\x00\x01")
                caller.recv(1)

    with ThreadPoolExecutor(200) as pool:
        holding = [pool.submit(hold) for _ in range(200)]
        try:
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                nodes.ask()
                slowest = max(slowest, time.monotonic() - began)
        finally:
            over.set()
    assert slowest < seconds + SLACK
    assert all(job.result() is None for job in holding)


@pytest.mark.long
def test_without_descriptors_callers_are_refused_and_sessions_go_on(nodes: Processes) -> None:
    pid = nodes.nodes[0].pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with nodes.open() as conversation, ExitStack() as held:
        prompt = nodes.small.prompt(4)
        list(conversation.generate(prompt, max_tokens=1, choose=greedy))
        few = len(os.listdir(f"/proc/{pid}/fd")) + 10
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        try:
            for _ in range(few + 20):
                held.enter_context(socket.create_connection(("127.0.0.1", nodes.ports[0])))
            busy, began = nodes.busy_seconds(1), time.monotonic()
            with nodes.call(1) as link, pytest.raises(LinkError):
                link.receive(Limits().handshake_seconds + SLACK)  # it says nothing, and is let go
            assert nodes.busy_seconds(1) - busy < 0.05 * (time.monotonic() - began) + 0.1
            assert list(conversation.generate(prompt, max_tokens=1, choose=greedy))
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    nodes.ask()
    assert "Too many open files" in nodes.log(1)


def session(nodes: Processes, number: int) -> list[int]:
    """One more session, every fifth with an answer; the bytes of memory of both nodes after it."""
    if number % 5:
        client = RawClient(nodes).greet()
        for link, machine in zip(client.links, client.sessions, strict=True):
            link.send(machine.send_bye())
        for link in client.links:
            link.close()
    else:
        nodes.ask(1)
    return [nodes.resident(role) for role in (1, 2)]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_five_hundred_sessions_take_no_more_memory_than_fifty(nodes: Processes) -> None:
    """A node may still be tidying up when its client has left, so the least of ten counts."""
    taken = [session(nodes, number) for number in range(1, 501)]
    early, late = ([min(node) for node in zip(*part, strict=True)] for part in (taken[40:50], taken[490:]))
    assert all(after - before <= 5 * MB for before, after in zip(early, late, strict=True)), (early, late)


@pytest.mark.long
def test_a_node_with_floods_silence_and_a_session_leaves_in_time(small: SharedSmall, tmp_path: Path) -> None:
    with processes(small, tmp_path) as nodes, nodes.open() as conversation, ExitStack() as held:
        answer = conversation.generate(small.prompt(4), max_tokens=200, choose=greedy)
        next(answer)
        for _ in range(20):
            held.enter_context(socket.create_connection(("127.0.0.1", nodes.ports[0])))
        held.enter_context(nodes.call_raw(1)).sendall(b"\x82\xff" + (1000).to_bytes(8, "big") + b"mask")
        assert ends(nodes.nodes[0]) < LEAVES
        with pytest.raises(LinkError):
            list(answer)
