"""Every message in every state, on both sides: taken where the protocol has a place for it, else refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import ProtocolError
from engine.link.frames import FrameType as F
from engine.link.frames import FrameWriter
from engine.session import Bye, Discarded, PeerError, State
from engine.session.hello import Hello, Welcome
from engine.session.messages import Block, Material, Progress, Rewind, Stopped, answer_digest, answer_parts, step_parts
from engine.step import Answer, Step

S = State
ENDS = {F.ERROR: S.CLOSED, F.BYE: S.CLOSED}

NODE_HEARS = {  # the protocol, written a second time
    S.START: {F.HELLO: S.GREETED},
    S.GREETED: {},
    S.JOINING: {},
    S.IDLE: {F.BLOCK: S.IDLE, F.MATERIAL: S.IDLE, F.STEP: S.RUNNING, F.REWIND: S.IDLE, F.STOP: S.LATE},
    S.RUNNING: {F.BLOCK: S.RUNNING, F.MATERIAL: S.RUNNING, F.STOP: S.STOPPING},
    S.STOPPING: {},
    S.LATE: {},
}
CLIENT_HEARS = {
    S.START: {},
    S.GREETED: {F.WELCOME: S.JOINING},
    S.JOINING: {F.READY: S.IDLE},
    S.IDLE: {},
    S.RUNNING: {F.PROGRESS: S.RUNNING, F.ANSWER: S.IDLE},
    S.STOPPING: {F.PROGRESS: S.STOPPING, F.ANSWER: S.LATE, F.STOPPED: S.IDLE},
    S.LATE: {F.STOPPED: S.IDLE},
}
NODE_SAYS = CLIENT_HEARS
CLIENT_SAYS = NODE_HEARS | {S.IDLE: {k: v for k, v in NODE_HEARS[S.IDLE].items() if k is not F.STOP}}


def expected(table: dict[State, dict[F, State]], state: State, kind: F) -> State | None:
    return None if state is S.CLOSED else (table[state] | ENDS).get(kind)


def payload(talk: Any, kind: F, step: Callable[..., Step]) -> tuple[Any, ...]:
    """What would be right to hear next in the states that have a place for it."""
    terms, role = talk.terms, talk.role
    same = {"program": terms.program, "pack": terms.pack, "role": role, "start_id": terms.start_id, "nonce": "1" * 64}
    limits = {"queue_bytes": 100, "context": 20}
    heard_step = step_parts(step(1, 4))
    answer = talk.logits if role == 1 else answer_digest(7, talk.logits)
    return {
        F.HELLO: lambda: (Hello(**same, **limits, epoch=0, seed="2" * 64, prefix=4).encode(),),
        F.WELCOME: lambda: (Welcome(**same, **limits, peer_fingerprint=terms.peer_fingerprint).encode(),),
        F.READY: tuple,
        F.BLOCK: Block(4, 2, 7).parts,
        F.MATERIAL: Material(1, 1, bytes(11)).parts,
        F.STEP: lambda: heard_step if role == 2 else heard_step[:2],
        F.PROGRESS: Progress(1, 2, 1, 2).parts,
        F.ANSWER: lambda: answer_parts(Answer(1, 1, 9, 1000, 7, answer)),
        F.REWIND: Rewind(4).parts,
        F.STOP: tuple,
        F.STOPPED: Stopped(1).parts,
        F.ERROR: lambda: (PeerError("failed", "x").encode(),),
        F.BYE: tuple,
        F.PEER_HELLO: tuple,
        F.ROUND: tuple,
    }[kind]()


def hear(talk: Any, side: str, kind: F, step: Callable[..., Step]) -> None:
    machine = getattr(talk, side)
    writer = FrameWriter(talk.client.session)
    writer.sequence = machine.received
    machine.receive(writer.write(kind, *payload(talk, kind, step)))


@pytest.mark.parametrize("side", ["node", "client"])
@pytest.mark.parametrize("state", State)
def test_what_is_heard(talk: Any, side: str, state: State, step: Callable[..., Step]) -> None:
    for kind in F:
        fresh = type(talk)(talk.role)
        machine = getattr(fresh.at(state), side)
        after = expected(NODE_HEARS if side == "node" else CLIENT_HEARS, state, kind)
        if after is None:
            with pytest.raises(ProtocolError) as caught:
                hear(fresh, side, kind, step)
            assert (kind, caught.value.code) == (kind, "out-of-place")
            assert machine.state is state
            with pytest.raises(ProtocolError):  # and from now on everything is refused
                hear(fresh, side, F.BYE, step)
        else:
            hear(fresh, side, kind, step)
            assert (kind, machine.state) == (kind, after)


def say(talk: Any, side: str, kind: F, step: Callable[..., Step]) -> object:
    node, client = talk.node, talk.client
    acts: dict[tuple[str, F], Callable[[], object]] = {
        ("node", F.WELCOME): node.send_welcome,
        ("node", F.READY): node.send_ready,
        ("node", F.PROGRESS): lambda: node.send_progress(0, 1),
        ("node", F.ANSWER): lambda: node.send_answer(talk.answer()),
        ("node", F.STOPPED): node.send_stopped,
        ("client", F.HELLO): client.send_hello,
        ("client", F.BLOCK): lambda: client.send_block(4, 2, client.rows.book.dealt_position),
        ("client", F.MATERIAL): lambda: client.send_material(1, 1, bytes(11), 11),
        ("client", F.STEP): lambda: client.send_step(step(1, 4)),
        ("client", F.REWIND): lambda: client.send_rewind(4),
        ("client", F.STOP): client.send_stop,
        (side, F.ERROR): lambda: getattr(talk, side).send_error(ProtocolError("failed")),
        (side, F.BYE): getattr(talk, side).send_bye,
    }
    return acts[side, kind]()


SAID = {
    "node": (F.WELCOME, F.READY, F.PROGRESS, F.ANSWER, F.STOPPED, F.ERROR, F.BYE),
    "client": (F.HELLO, F.BLOCK, F.MATERIAL, F.STEP, F.REWIND, F.STOP, F.ERROR, F.BYE),
}


@pytest.mark.parametrize("side", ["node", "client"])
@pytest.mark.parametrize("state", State)
def test_what_is_said(second: Any, side: str, state: State, step: Callable[..., Step]) -> None:
    for kind in SAID[side]:
        fresh = type(second)(2)
        machine = getattr(fresh.at(state), side)
        after = expected(NODE_SAYS if side == "node" else CLIENT_SAYS, state, kind)
        if after is None:
            # The dealing thread learns that a stop or the end was faster; else it is this program's error.
            late = kind in (F.BLOCK, F.MATERIAL) and state in (S.STOPPING, S.LATE, S.CLOSED)
            with pytest.raises(Discarded if late else ValueError):
                say(fresh, side, kind, step)
            assert (kind, machine.state) == (kind, state)
        else:
            say(fresh, side, kind, step)
            assert (kind, machine.state) == (kind, after)


def test_every_message_that_is_said_is_heard_the_same(second: Any, step: Callable[..., Step]) -> None:
    client, node = second.at(S.IDLE).client, second.node
    assert node.receive(client.send_block(4, 2, 7)) == Block(4, 2, 7)
    material = node.receive(client.send_material(1, 1, b"secret12345", 11))
    assert (material.first_row, material.section, bytes(material.data)) == (1, 1, b"secret12345")
    sent = step(1, 4)
    heard = node.receive(client.send_step(sent))
    assert (heard.first_row, heard.first_position, heard.answers) == (1, 4, 1)
    assert (heard.deltas == sent.deltas).all()
    assert (heard.kappa2 == sent.kappa2).all()
    assert client.receive(node.send_progress(1, 2)) == Progress(1, 2, 2, 2)
    answer = client.receive(node.send_answer(second.answer()))
    assert (answer.first_row, answer.count, answer.rounds, answer.peer_bytes, answer.alarm) == (1, 1, 9, 1000, 7)
    assert bytes(answer.data) == answer_digest(7, second.logits)
    assert node.receive(client.send_rewind(5)) == Rewind(5)
    assert node.receive(client.send_bye()) == Bye()


@pytest.mark.parametrize("changes", [{"first_row": 2}, {"count": 2}])
def test_an_answer_ends_the_step_that_runs(talk: Any, changes: dict[str, int]) -> None:
    talk.at(State.RUNNING)
    with pytest.raises(ValueError, match="ends another step"):
        talk.node.send_answer(replace(talk.answer(), **changes))
    assert talk.node.state is State.RUNNING
