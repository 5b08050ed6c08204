"""What a link to a node raises when the session ended just before a message could be made."""

from types import SimpleNamespace
from typing import NoReturn, cast

import pytest

from app.local_party.inbox import Inbox
from app.local_party.node_link import NodeLink
from engine.errors import LinkError, ProtocolError
from engine.link import pair
from engine.session import ClientSession, State


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


def test_only_the_node_that_has_died_is_called_lost() -> None:
    inbox = Inbox()
    session = cast("ClientSession", SimpleNamespace(state=State.CLOSED, send_bye=out_of_place))
    one, two = (NodeLink(role, pair()[0], session, inbox) for role in (1, 2))
    assert (one.state, two.state) == ("connected", "connected")
    two._fail(LinkError("hung up", "node 2"))
    one._fail(ProtocolError("no-peer", "node 1 says: the other side hung up"))
    assert (one.state, two.state) == ("connecting", "lost")


def test_a_node_is_left_and_not_lost_when_the_other_one_dies() -> None:
    inbox = Inbox()
    session = cast("ClientSession", SimpleNamespace(state=State.CLOSED, send_bye=out_of_place))
    one, two = (NodeLink(role, pair()[0], session, inbox) for role in (1, 2))
    two.partner = one
    two._fail(LinkError("hung up", "node 2"))
    assert (one.state, two.state) == ("connecting", "lost")
