"""A client and a node that talk, and can be brought to any state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from engine.session import ClientSession, NodeSession, State, Terms
from engine.step import Answer, Step

SESSION = bytes(range(16))
ROW_BYTES = 6
VOCAB, D_MODEL, SECTIONS, PREFIX, CONTEXT = 11, 3, 2, 4, 20


def section_bytes(first_row: int, section: int) -> int:
    return 10 + section


def made_bytes(count: int, position: int) -> int:
    return ROW_BYTES * count


def make_terms(role: int) -> Terms:
    return Terms(
        program="ab" * 32,
        pack=f"c{role}" * 32,
        role=role,
        vocab=VOCAB,
        d_model=D_MODEL,
        sections=SECTIONS,
        prefix=PREFIX,
        context=CONTEXT,
        queue_bytes=100,
        made_bytes=made_bytes,
        round_bytes=lambda count, position: count,
        start_id="0d" * 16,
        peer_fingerprint="e" * 64,
    )


def make_step(first_row: int, position: int, count: int = 2, answers: int = 1) -> Step:
    return Step(
        first_row,
        position,
        answers,
        np.arange(count, dtype=np.uint32),
        np.arange(count * D_MODEL, dtype=np.int64).reshape(count, D_MODEL) - 5,
    )


@dataclass
class Talk:
    """Both sides of one link; `logits` answers the step of `at(RUNNING)`."""

    role: int
    queue_bytes: int = 100
    terms: Terms = field(init=False)
    client: ClientSession = field(init=False)
    node: NodeSession = field(init=False)
    logits: bytes = bytes(range(VOCAB * 3))

    def __post_init__(self) -> None:
        self.terms = replace(make_terms(self.role), queue_bytes=self.queue_bytes)
        self.client = ClientSession(self.terms, SESSION)
        self.node = NodeSession(self.terms, section_bytes)

    def at(self, state: State) -> Talk:
        """Bring both sides there, rows 1 to 3 announced and the first section of their material sent."""
        if state is State.CLOSED:
            self.node.receive(self.client.send_bye())
            return self
        moves: list[Callable[[], None]] = [self.greet, self.welcome, self.ready, self.step]
        order = [State.START, State.GREETED, State.JOINING, State.IDLE, State.RUNNING]
        if state in order:
            for move in moves[: order.index(state)]:
                move()
            return self
        self.at(State.RUNNING)
        stop = self.client.send_stop()
        if state is State.LATE:
            self.client.receive(self.node.send_answer(self.answer()))
        self.node.receive(stop)
        return self

    def answer(self) -> Answer:
        """To the step that runs at the node, as its evaluator and its link make it."""
        first_row = 1 if self.node.step is None else self.node.step.first_row
        return Answer(first_row, 1, 9, 1000, 7, self.logits)

    def greet(self) -> None:
        self.node.receive(self.client.send_hello())

    def welcome(self) -> None:
        self.client.receive(self.node.send_welcome())

    def ready(self) -> None:
        self.client.receive(self.node.send_ready())
        self.node.receive(self.client.send_block(1, 3, PREFIX))
        self.node.receive(self.client.send_material(1, 0, bytes(10), 10))

    def step(self) -> None:
        self.node.receive(self.client.send_step(make_step(1, PREFIX)))


@pytest.fixture(params=[1, 2], ids=["first", "second"])
def talk(request: pytest.FixtureRequest) -> Talk:
    return Talk(request.param)


@pytest.fixture
def second() -> Talk:
    return Talk(2)


@pytest.fixture
def first() -> Talk:
    return Talk(1)


@pytest.fixture(scope="session")
def make_talk() -> type[Talk]:
    return Talk


@pytest.fixture(scope="session")
def step() -> Callable[..., Step]:
    return make_step


@pytest.fixture
def terms() -> Callable[..., Terms]:
    def make(role: int = 2, **changes: object) -> Terms:
        return replace(make_terms(role), **changes)  # type: ignore[arg-type]

    return make
