"""What a link to a node raises when the session ended just before a message could be made."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest

from app.local_party.inbox import Inbox
from app.local_party.node_link import NodeLink
from engine.errors import LinkError
from engine.link import pair
from engine.session import ClientSession, PeerError, State


def out_of_place() -> NoReturn:
    raise ValueError("STEP cannot be sent while closed")


def link_in(state: State, inbox: Inbox) -> NodeLink:
    return NodeLink(1, pair()[0], cast("ClientSession", SimpleNamespace(state=state)), inbox)


def test_a_step_that_comes_after_the_sessions_end_says_why_it_ended() -> None:
    inbox = Inbox()
    inbox.fail(2, LinkError("was killed", "node 2"))
    with pytest.raises(LinkError, match="^node 2: was killed"):
        link_in(State.CLOSED, inbox).say(out_of_place)


def test_a_message_out_of_place_in_a_running_session_is_our_own_fault() -> None:
    running = next(state for state in State if state is not State.CLOSED)
    with pytest.raises(ValueError, match="cannot be sent"):
        link_in(running, Inbox()).say(out_of_place)


class Nodes:
    """Two links in a session that is over, and the nodes' ends of them; the second link knows the first as its partner."""

    def __init__(self, *, partners: bool) -> None:
        self.inbox = Inbox()
        said = PeerError("no-peer", "the other side hung up")
        session = cast("ClientSession", SimpleNamespace(state=State.CLOSED, send_bye=out_of_place, receive=lambda data: said))
        ends = [pair() for _ in (1, 2)]
        self.nodes = [node for _, node in ends]
        self.one, self.two = (NodeLink(role, ours, session, self.inbox) for role, (ours, _) in zip((1, 2), ends, strict=True))
        self.two.partner = self.one if partners else None
        for link in (self.one, self.two):
            link.listen()

    def second_dies(self) -> None:
        self.nodes[1].abort()
        until(lambda: self.two.state != "connected")

    def close(self) -> None:
        for link in (self.one, self.two):
            link.close()


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    nodes = Nodes(partners=request.param)
    yield nodes
    nodes.close()


def until(happened: Callable[[], bool]) -> None:
    """Wait for what a reader's thread does."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("nodes", [False], indirect=True)
def test_only_the_node_that_has_died_is_called_lost(nodes: Nodes) -> None:
    assert (nodes.one.state, nodes.two.state) == ("connected", "connected")
    nodes.second_dies()
    assert (nodes.one.state, nodes.two.state) == ("connected", "lost")
    nodes.nodes[0].send(b"no-peer")
    until(lambda: nodes.one.state != "connected")
    assert (nodes.one.state, nodes.two.state) == ("connecting", "lost")


@pytest.mark.parametrize("nodes", [True], indirect=True)
def test_a_node_is_left_and_not_lost_when_the_other_one_dies(nodes: Nodes) -> None:
    nodes.second_dies()
    until(lambda: nodes.one.state != "connected")
    assert (nodes.one.state, nodes.two.state) == ("connecting", "lost")
