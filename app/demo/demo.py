"""Two nodes on this machine for one run: processes, certificates, sockets, and nothing left of them afterwards.

Rule 1. Nodes are told apart from others by certificates made for this run alone (app/demo/node_process.py).
Rule 2. A node that has died is started again, as the same party at the same address, when the next question is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from app.demo.node_process import NodeProcess, Parties, listening, wait_until_ready
from app.local_party import Endpoints, NodeConversation
from app.local_party.session import warm_up
from engine.host.process import keep_apart
from engine.provision.pack import ROLES, ClientModel, load_sharing

if TYPE_CHECKING:
    from engine.generate.tokenizer import ChatTokenizer

Report = Callable[[str, int, int], None]
"""What is being done, how much of it, of how much (0 if that is not known)."""


class Demo:
    """A shared model and its two nodes; made by `demo`."""

    def __init__(self, directory: Path, model: ClientModel) -> None:
        self.model = model
        self._directory = directory
        self._parties = Parties.make()
        self._ports = {1: 0, 2: 0}
        self._nodes: dict[int, NodeProcess] = {}

    @property
    def endpoints(self) -> Endpoints:
        """Where the nodes are; they stay there."""
        return self._parties.endpoints([self._ports[role] for role in ROLES])

    @property
    def pids(self) -> tuple[int, int]:
        """The nodes' process ids."""
        return self._nodes[1].pid, self._nodes[2].pid

    def tokenizer(self) -> ChatTokenizer:
        """The model's, with its chat template."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> ChatTokenizer:
        from engine.checkpoint.tokenizer import load_tokenizer
        from engine.generate.tokenizer import ChatTokenizer

        return ChatTokenizer(load_tokenizer(self.model.tokenizer), self.model.chat_template, self.model.spec.eos)

    def open_conversation(self) -> NodeConversation:
        """Connect to both nodes."""
        return NodeConversation.open(self.endpoints, self.model)

    def give_up(self, party: str | None) -> None:
        """Kill a node that could not be called, "node 1" or "node 2": it is frozen, and `start` then starts another."""
        for role, node in self._nodes.items():
            if party == f"node {role}":
                node.kill()

    def start(self, tick: Callable[[int], None] = lambda waiting: None) -> None:
        """Start the nodes that do not run, and wait until they are ready; at once if both do.

        `tick` hears several times a second how many are awaited; if it raises, they are given up.

        Raises:
            LinkError: a node did not start; the end of its log is in the text.
        """
        missing = [role for role in ROLES if role not in self._nodes or self._nodes[role].ended]
        for role in missing:
            if role in self._nodes:
                self._nodes[role].close()  # waits for its end, when its port is free
        with ExitStack() as undo, ExitStack() as sockets:  # closed once they are inherited, so that a dead node's port refuses
            listeners = {role: sockets.enter_context(listening(self._ports[role])) for role in missing}
            self._ports |= {role: listener.getsockname()[1] for role, listener in listeners.items()}
            for role, listener in listeners.items():
                pack, peer_port = self._directory / f"node{role}", self._ports[3 - role]
                self._nodes[role] = undo.enter_context(NodeProcess(self._parties, pack, role, listener, peer_port))
            sockets.close()
            if missing:
                keep_apart(self.pids)
                warm_up(self.model, lambda: tick(len(missing)))
                wait_until_ready([self._nodes[role] for role in missing], tick)
            undo.pop_all()

    def close(self) -> None:
        """End both nodes."""
        for node in self._nodes.values():
            node.close()


@contextmanager
def demo(
    model: Path | None = None,
    report: Report = lambda what, done, of: None,
    check: Callable[[Demo], None] = lambda parties: None,
) -> Iterator[Demo]:
    """Run two nodes; `model` is what `trine-model share` wrote (None: the demo model, shared on its first use).

    `check` is called before a node is started, and may raise.

    Raises:
        ModelError: the model cannot be used.
        LinkError: a node did not start; the end of its log is in the text.
    """
    with ExitStack() as stack:
        if model is None:
            from app.demo.demo_model import demo_model

            model = stack.enter_context(demo_model(report))
        report("loading the model", 0, 0)
        parties = Demo(model, load_sharing(model))
        check(parties)
        stack.callback(parties.close)
        parties.start(lambda waiting: report("starting two nodes", len(ROLES) - waiting, len(ROLES)))
        yield parties
