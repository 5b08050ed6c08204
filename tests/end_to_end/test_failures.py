"""Nodes that die, are told to stop, or cannot start: an error that names them within 5 s, and nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.demo.demo import demo
from app.demo.node_process import NodeProcess, Parties, listening, wait_until_ready
from app.local_party import Endpoints, NodeConversation, PromptProgress
from engine.errors import LinkError, ModelError
from engine.link.keepalive import PATIENCE_SECONDS, PING_SECONDS
from tests.conftest import belongings
from tests.models.shared_small import Follow, SharedSmall, greedy

NOTICED = 10.0
"""A wait's end on a machine that also does other things; what the limits themselves allow is asserted exactly."""


class Nodes:
    """Two node processes on fixed ports; a dead one is started again when it is asked for."""

    def __init__(self, small: SharedSmall, stack: ExitStack) -> None:
        self._small, self._stack = small, stack
        self._parties = Parties.make()
        sockets = [stack.enter_context(listening()) for _ in (1, 2)]
        self._ports = [sock.getsockname()[1] for sock in sockets]
        self.processes = [self._start(role, sockets[role - 1]) for role in (1, 2)]
        wait_until_ready(self.processes)
        for sock in sockets:
            sock.close()

    @property
    def endpoints(self) -> Endpoints:
        return self._parties.endpoints(self._ports)

    def open(self) -> NodeConversation:
        return NodeConversation.open(self.endpoints, self._small.client)

    def restart(self, role: int) -> None:
        with listening(self._ports[role - 1]) as sock:
            self.processes[role - 1] = self._start(role, sock)
            wait_until_ready([self.processes[role - 1]])

    def _start(self, role: int, sock: object) -> NodeProcess:
        pack, other = self._small.directory / f"node{role}", self._ports[2 - role]
        return self._stack.enter_context(NodeProcess(self._parties, pack, role, sock, other))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nodes(small: SharedSmall) -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(small, stack)


@pytest.fixture(autouse=True)
def leaves_nothing_behind(nodes: Nodes, own_temporary_directory: Path) -> Iterator[None]:
    """As for every test, but a node that was started again stays for the next one."""
    before = belongings(own_temporary_directory)
    yield
    left = belongings(own_temporary_directory) - before - {f"process {process.pid}" for process in nodes.processes}
    assert not left


def during_prefill(conversation: NodeConversation, prompt: list[int], act: Callable[[], None]) -> float:
    """Let `act` happen in the middle of the prompt; when it did."""
    happened = 0.0

    def look(progress: PromptProgress) -> None:
        nonlocal happened
        if progress.section == 2 and progress.rows_done and not happened:
            act()
            happened = time.monotonic()

    list(conversation.generate(prompt, max_tokens=2, choose=greedy, on_progress=look))
    return happened


@pytest.mark.parametrize("role", [1, 2])
def test_a_node_killed_in_the_prompt(small: SharedSmall, nodes: Nodes, role: int) -> None:
    with nodes.open() as conversation:
        killed: list[float] = []

        def kill() -> None:
            nodes.processes[role - 1].kill()
            killed.append(time.monotonic())

        with pytest.raises(LinkError, match=f"^node {role}: "):
            during_prefill(conversation, small.prompt(100), kill)
        assert time.monotonic() - killed[0] < NOTICED
        assert conversation.status.states[f"node{role}"] == "lost"
        with pytest.raises(LinkError, match=f"^node {role}: cannot be reached"):  # the next question dials anew
            list(conversation.generate(small.prompt(5), max_tokens=1, choose=greedy))
    nodes.restart(role)
    with nodes.open() as conversation:
        follow = Follow(*small.answer(small.prompt(7), 4))
        assert len(list(conversation.generate(small.prompt(7), max_tokens=4, choose=follow))) == 4
        assert not follow.wrong


def test_a_node_killed_in_the_answer(small: SharedSmall, nodes: Nodes) -> None:
    with nodes.open() as conversation:
        answer = conversation.generate(small.prompt(10), max_tokens=200, choose=greedy)
        said = [next(answer) for _ in range(3)]
        nodes.processes[1].kill()
        killed = time.monotonic()
        with pytest.raises(LinkError, match="^node 2: "):
            list(answer)
        assert time.monotonic() - killed < NOTICED
        nodes.restart(2)
        follow = Follow(*small.answer(small.prompt(10), 6))  # the same conversation goes on, in a new session
        again = list(conversation.generate(small.prompt(10), max_tokens=6, choose=follow))
        assert again[:3] == said
        assert not follow.wrong


def test_a_node_killed_between_two_questions(small: SharedSmall, nodes: Nodes) -> None:
    with nodes.open() as conversation:
        list(conversation.generate(small.prompt(4), max_tokens=1, choose=greedy))
        nodes.processes[0].kill()
        with pytest.raises(LinkError, match="^node 1: "):
            list(conversation.generate(small.prompt(5), max_tokens=1, choose=greedy))
    nodes.restart(1)


def test_sigterm_in_a_session_ends_a_node_cleanly(small: SharedSmall, nodes: Nodes) -> None:
    with nodes.open() as conversation:
        answer = conversation.generate(small.prompt(10), max_tokens=200, choose=greedy)
        next(answer)
        asked = time.monotonic()
        os.kill(nodes.processes[0].pid, signal.SIGTERM)
        assert nodes.processes[0].wait(2 * NOTICED) == 0
        assert time.monotonic() - asked < NOTICED
        with pytest.raises(LinkError, match="^node 1: "):
            list(answer)
    log = nodes.processes[0].log()
    assert '"event": "stopped"' in log
    assert '"left": 0' in log
    assert "Traceback" not in log
    nodes.restart(1)


def test_the_limits_of_silence_leave_time_to_tell_the_others_within_5_s() -> None:
    assert PING_SECONDS + PATIENCE_SECONDS <= 4


def test_a_frozen_node_is_noticed_by_its_silence(small: SharedSmall, nodes: Nodes) -> None:
    with nodes.open() as conversation:
        answer = conversation.generate(small.prompt(10), max_tokens=200, choose=greedy)
        next(answer)
        os.kill(nodes.processes[1].pid, signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            with pytest.raises(LinkError, match="^node 2: no sign of life"):
                list(answer)
            assert time.monotonic() - frozen < NOTICED
            sessions = nodes.processes[0].log().count('"event": "session opened"')
            while nodes.processes[0].log().count('"event": "session ended"') < sessions:  # the other node learns it, too
                assert time.monotonic() - frozen < NOTICED
                time.sleep(0.05)
            assert conversation.status.states == {"node1": "connecting", "node2": "lost"}
        finally:
            os.kill(nodes.processes[1].pid, signal.SIGCONT)
    with nodes.open() as conversation:
        assert list(conversation.generate(small.prompt(4), max_tokens=1, choose=greedy))


def test_the_nodes_end_when_their_app_is_killed(small: SharedSmall) -> None:
    program = "import sys; from pathlib import Path; from app.demo.demo import demo\n"
    program += "with demo(Path(sys.argv[1])) as running: print(*running.pids, flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program, str(small.directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as app, ExitStack() as stack:
        assert app.stdout is not None
        gone = select.poll()
        for pid in map(int, app.stdout.readline().split()):
            descriptor = os.pidfd_open(pid)
            stack.callback(os.close, descriptor)
            gone.register(descriptor, select.POLLIN)
        app.kill()
        ended = set()
        while len(ended) < 2:
            news = gone.poll(NOTICED * 1000)
            assert news, "a node lives on"
            for descriptor, _ in news:
                ended.add(descriptor)
                gone.unregister(descriptor)


def test_a_damaged_pack_stops_the_demo_with_the_nodes_own_words(small: SharedSmall, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in ("client", "node1"):
        (copy / part).symlink_to(small.directory / part)
    with pytest.raises(ModelError, match="node2: there is no node pack here"), demo(copy):
        pass
    with pytest.raises(ModelError), demo(tmp_path):
        pass


def test_leaving_takes_frozen_nodes_along_at_once(small: SharedSmall) -> None:
    with demo(small.directory) as parties:
        for pid in parties.pids:
            os.kill(pid, signal.SIGSTOP)
        left = time.monotonic()
    assert time.monotonic() - left < NOTICED / 2
    for pid in parties.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_dead_node_is_started_again_as_the_same_party(small: SharedSmall) -> None:
    with demo(small.directory) as parties, parties.open_conversation() as conversation:
        assert list(conversation.generate(small.prompt(4), max_tokens=1, choose=greedy))
        before = parties.pids
        parties.start()
        assert parties.pids == before
        os.kill(before[1], signal.SIGKILL)
        with pytest.raises(LinkError, match="^node 2: "):
            list(conversation.generate(small.prompt(40), max_tokens=200, choose=greedy))
        assert conversation.status.states == {"node1": "connecting", "node2": "lost"}
        ticks: list[int] = []
        parties.start(ticks.append)
        assert set(ticks) == {1}
        assert parties.pids[0] == before[0]
        assert parties.pids[1] != before[1]
        assert list(conversation.generate(small.prompt(4), max_tokens=1, choose=greedy))


def test_a_node_frozen_while_it_loads_is_given_up(small: SharedSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.demo.node_process.SILENT_SECONDS", 1.0)
    with ExitStack() as stack:
        sockets = [stack.enter_context(listening()) for _ in (1, 2)]
        ports = [sock.getsockname()[1] for sock in sockets]
        node = stack.enter_context(NodeProcess(Parties.make(), small.directory / "node1", 1, sockets[0], ports[1]))
        os.kill(node.pid, signal.SIGSTOP)
        frozen = time.monotonic()
        with pytest.raises(LinkError, match="^node 1: does not move"):
            wait_until_ready([node])
        assert time.monotonic() - frozen < NOTICED


def test_starting_can_be_given_up_at_any_moment(small: SharedSmall) -> None:
    class Enough(Exception):
        pass

    def tick(what: str, done: int, of: int) -> None:
        if what == "starting two nodes":
            raise Enough

    with pytest.raises(Enough), demo(small.directory, tick):  # that no process is left, the fixture sees
        pass
