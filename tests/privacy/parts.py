"""A session of the real parts in one process: the app's session and its dealing thread, both nodes' served sessions, over
links in memory on which every frame is seen."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from app.local_party import session as client_side
from app.local_party.endpoints import Endpoint, Endpoints
from app.local_party.figures import PromptProgress
from engine.errors import LinkError
from engine.link import Identity, Link, Tls, client_tls, make_identity
from engine.link.frames import Data, Frame, FrameType, decode
from engine.link.memory import MemoryConnection
from engine.parties.dealer import Dealer
from engine.parties.evaluator import Evaluator
from engine.provision.pack import ClientModel
from engine.session import Material, session_of
from engine.session.messages import STEP_HEAD
from party_node import session as node_side
from party_node.limits import Limits
from party_node.log import make_log
from party_node.node import PEER_PATH, SESSION_PATH, Node, Peer
from tests.privacy.ledger import Ledger
from tests.privacy.small import CONTEXT, Shared

NODES = ("E1", "E2")
PATIENCE = 30.0
QUEUE = 1 << 22
F = FrameType


@dataclass(frozen=True)
class Sent:
    """A frame on its way."""

    sender: str
    receiver: str
    frame: Frame
    at: float  #: seconds

    @property
    def kind(self) -> FrameType:
        return self.frame.type

    @property
    def payload(self) -> bytes:
        return bytes(self.frame.payload)


class Wire:
    """What all links of a session carry, in the order in which it left."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._lock = Lock()

    def note(self, sender: str, receiver: str, data: Data) -> None:
        seen = Sent(sender, receiver, decode(bytes(data)), time.perf_counter())
        with self._lock:
            self.sent.append(seen)

    def of(self, kind: FrameType, receiver: str | None = None) -> list[Sent]:
        """The frames of a kind so far."""
        with self._lock:
            return [sent for sent in self.sent if sent.kind is kind and receiver in (None, sent.receiver)]


class Tapped(MemoryConnection):
    """An end of a link in memory that shows the wire what it sends."""

    def __init__(self, wire: Wire, names: tuple[str, str], path: str, peer_fingerprint: str, turn: Condition) -> None:
        super().__init__(path, peer_fingerprint, turn)
        self._wire, self._names = wire, names

    def send(self, data: Data, timeout: float | None = 60.0) -> None:
        self._wire.note(*self._names, data)
        super().send(data, timeout)


def tapped(wire: Wire, names: tuple[str, str], path: str, prints: tuple[str, str]) -> tuple[Tapped, Tapped]:
    """Two ends, of the first party and of the second one."""
    turn = Condition()
    one, two = Tapped(wire, names, path, prints[1], turn), Tapped(wire, names[::-1], path, prints[0], turn)
    one.peer, two.peer = two, one
    return one, two


@cache
def identities() -> tuple[Identity, Identity, Identity]:
    """The client's and the nodes'; the first node calls the second one."""
    one, two = sorted((make_identity("node"), make_identity("node")), key=lambda identity: identity.fingerprint)
    return make_identity("client"), one, two


@dataclass(slots=True)
class MemoryNode(Node):
    """A node that reaches the other one in memory."""

    other: Node | None = None
    wire: Wire | None = None
    threads: list[Thread] = field(default_factory=list)

    def dial(self) -> Link:
        if self.other is None or self.wire is None:
            raise RuntimeError("nobody to call")
        here, there = tapped(self.wire, NODES, PEER_PATH, (self.peer.own_fingerprint, self.peer.fingerprint))
        thread = Thread(target=self._introduce, args=(self.other, there))
        self.threads.append(thread)
        thread.start()
        return here

    @staticmethod
    def _introduce(other: Node, link: Tapped) -> None:
        with suppress(LinkError):  # a session that ends before it stood
            hello = link.receive(PATIENCE)
            other.meeting.bring(session_of(hello), link, hello)


@dataclass(frozen=True)
class Keys:
    """What one session's dealer was given."""

    streams: tuple[bytes, bytes]
    own: bytes


class RealSession:
    """`ledger` learns what each party draws and what is sent. A context manager."""

    def __init__(
        self,
        model: Shared,
        ledger: Ledger | None = None,
        *,
        prefix: int | None = None,
        queue_bytes: int = QUEUE,
        called_as: tuple[str, str] | None = None,
    ) -> None:
        """`called_as`: the fingerprints of the certificates with which the client calls the nodes."""
        self.called_as = called_as or (identities()[0].fingerprint, identities()[0].fingerprint)
        self.model, self.ledger, self.wire = model, ledger or Ledger(), Wire()
        self.number = self.ledger.sessions
        self.ledger.sessions += 1
        self.nodes: list[MemoryNode] = []
        self.threads: list[Thread] = []
        self.made: list[Keys] = []
        self.held: list[bytes] = []  # the keys that the evaluators were given
        for role in (1, 2):
            own, other = identities()[role], identities()[3 - role]
            peer = Peer("memory", 1, client_tls(own, other.certificate), other.fingerprint, own.fingerprint)
            self.nodes.append(MemoryNode(model.packs[role - 1], peer, Limits(), wire=self.wire))
        self.nodes[0].other = self.nodes[1]
        with ExitStack() as undo, self._in_memory():
            undo.callback(self._join)
            self.session = client_side.open_session(
                endpoints(),
                client_model(model),
                prefix=len(model.spec.prefix) if prefix is None else prefix,
                context=CONTEXT,
                queue_bytes=queue_bytes,
            )
            undo.pop_all()

    @property
    def dealer(self) -> Dealer:
        return self.session._dealer

    @property
    def keys(self) -> Keys:
        """The session's."""
        return self.made[-1]

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client_side, "connect", self._connect)
            patch.setattr(client_side, "Dealer", self._dealer)
            patch.setattr(node_side, "Evaluator", self._evaluator)
            yield

    def _connect(self, host: str, port: int, path: str, tls: Tls, **options: Any) -> Tapped:
        role = port
        prints = self.called_as[role - 1], identities()[role].fingerprint
        here, there = tapped(self.wire, ("D", NODES[role - 1]), SESSION_PATH, prints)
        served = node_side.ServedSession(self.nodes[role - 1], there, make_log(role, io.StringIO()))
        thread = Thread(target=served.run)
        self.threads.append(thread)
        thread.start()
        return here

    def _dealer(self, spec: Any, seeds: Any, keys: tuple[bytes, bytes], own: bytes, **options: Any) -> Dealer:
        self.made.append(Keys(keys, own))
        record = self.ledger.record
        streams = record("D", keys[0]), record("D", keys[1])
        return Dealer(spec, seeds, keys, own, record=streams, own_record=record("D", own), **options)

    def _evaluator(self, pack: Any, key: bytes, **options: Any) -> Evaluator:
        self.held.append(key)
        return Evaluator(pack, key, record=self.ledger.record(NODES[pack.role - 1], key), **options)

    # What a conversation does

    def advance(self, tokens: Sequence[int], drafts: Sequence[int] = (), *, decoding: bool = False) -> NDArray[np.float64]:
        return self.session.advance(tokens, ignored, drafts=drafts, decoding=decoding)

    def begin(self) -> None:
        self.session.begin_answer()

    @property
    def redone(self) -> int:
        """Steps whose wrap alarm rose: once in ten million tokens of the small model."""
        return self.session.statistics.redone

    def rewind(self, position: int) -> None:
        self.session.rewind(position)

    def settle(self) -> None:
        """Wait until the dealing thread has dealt all that the queue holds."""
        dealing = self.session.dealing

        def full() -> bool:
            with dealing._changed:
                return dealing._next_rows() == 0 and all(block.load.dealt == 1 for block in dealing._book.blocks)

        if not dealing._inbox.wait(full, PATIENCE):
            raise TimeoutError("the dealing thread does not come to rest")

    def close(self) -> None:
        """End the session, wait for every thread, and tell the ledger what was sent."""
        self.session.close()
        self._join()
        for sent in self.wire.sent:
            if (content := masked(sent)) is not None:
                place = (self.number, 0, sent.frame.sequence)
                self.ledger.sent(place, (sent.sender, sent.receiver), sent.kind.name.lower(), content)

    def _join(self) -> None:
        for thread in [*self.threads, *self.nodes[0].threads]:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise RuntimeError("a node's thread does not end")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def masked(sent: Sent) -> bytes | None:
    """What of a frame is to look random to its receiver; None if nothing is."""
    if sent.kind is F.MATERIAL:
        return bytes(Material.parse(sent.payload).data)
    if sent.kind is F.STEP:
        return sent.payload[STEP_HEAD.size :]
    if sent.kind is F.ROUND:
        return sent.payload[1:]
    if sent.kind is F.ANSWER and sent.sender == "E1":
        return sent.payload
    return None


def ignored(progress: PromptProgress) -> None:
    """Nobody looks on."""


Report = Callable[[PromptProgress], None]


def endpoints() -> Endpoints:
    client, one, two = identities()
    return Endpoints(client, (Endpoint("memory", 1, one.certificate), Endpoint("memory", 2, two.certificate)))


def client_model(model: Shared) -> ClientModel:
    """The client's file of a model that was shared in memory."""
    digests = {role: pack.digest for role, pack in enumerate(model.packs, 1)}
    return ClientModel(model.spec, model.seeds, digests, model.packs[0].model_digest, Path(), None)
