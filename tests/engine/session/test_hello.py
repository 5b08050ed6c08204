"""The beginning of a session: each difference has its own code, and limits are agreed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import ProtocolError
from engine.link.frames import FrameType, FrameWriter, decode
from engine.session import ClientSession, NodeSession, Ready, State, Terms, Welcome

SESSION = bytes(range(16))
Make = Callable[..., Terms]


def meet(client_terms: Terms, node_terms: Terms, **options: Any) -> tuple[ClientSession, NodeSession]:
    client = ClientSession(client_terms, SESSION, **options)
    node = NodeSession(node_terms, lambda row, section: 0)
    node.receive(client.send_hello())
    client.receive(node.send_welcome())
    return client, node


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"program": "12" * 32}, "wrong-program"),
        ({"role": 1}, "wrong-role"),
        ({"pack": "12" * 32}, "wrong-pack"),
        ({"context": 19}, "wrong-limits"),
        ({"prefix": 5}, "wrong-limits"),
    ],
)
def test_the_node_refuses_what_differs(terms: Make, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        meet(terms(), terms(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"program": "12" * 32}, "wrong-program"),
        ({"role": 1}, "wrong-role"),
        ({"pack": "12" * 32}, "wrong-pack"),
        ({"peer_fingerprint": "1" * 64}, "wrong-peer"),
    ],
)
def test_the_client_refuses_what_differs(terms: Make, changes: dict[str, Any], code: str) -> None:
    # A node that takes any client: it says WELCOME, and then the client must see for itself.
    assert welcomed(terms, changes) == code


@pytest.mark.parametrize("changes", [{"context": 21}, {"queue_bytes": 101}])
def test_the_client_refuses_limits_that_it_did_not_ask_for(terms: Make, changes: dict[str, Any]) -> None:
    assert welcomed(terms, changes) == "wrong-limits"


def welcomed(terms: Make, changes: dict[str, Any]) -> str:
    """The code with which a client refuses a WELCOME that an honest node would not say."""
    client, node = ClientSession(terms(), SESSION), NodeSession(terms(), lambda row, section: 0)
    node.receive(client.send_hello())
    honest = Welcome.parse(decode(node.send_welcome()).payload)
    with pytest.raises(ProtocolError) as caught:
        client.receive(FrameWriter(SESSION).write(FrameType.WELCOME, honest.model_copy(update=changes).encode()))
    return caught.value.code


def test_the_smaller_queue_holds_on_both_sides(terms: Make) -> None:
    client, node = meet(terms(queue_bytes=500), terms(queue_bytes=60))
    assert client.queue_bytes == node.rows.queue_bytes == 60
    client, node = meet(terms(queue_bytes=50), terms(queue_bytes=60))
    assert client.queue_bytes == node.rows.queue_bytes == 50


@pytest.mark.parametrize("prefix", [1, 4])
def test_a_prefix_is_one_token_or_all(terms: Make, prefix: int) -> None:
    client, node = meet(terms(), terms(), prefix=prefix)
    assert client.position == node.position == prefix
    assert client.receive(node.send_ready()) == Ready()


@pytest.mark.parametrize("prefix", [2, 3, 5])
def test_another_prefix_is_refused(terms: Make, prefix: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        meet(terms(), terms(), prefix=prefix)
    assert caught.value.code == "wrong-limits"


def test_a_context_that_the_prefix_does_not_fit_is_refused(terms: Make) -> None:
    with pytest.raises(ProtocolError) as caught:
        meet(terms(context=3), terms())
    assert caught.value.code == "wrong-limits"


def test_a_smaller_context_is_granted(terms: Make) -> None:
    client, node = meet(terms(context=10), terms())
    client.receive(node.send_ready())
    with pytest.raises(ValueError, match="too-long"):
        client.send_block(1, 7, 4)
    node.receive(client.send_block(1, 6, 4))


def test_a_welcome_before_hello_has_no_answer(terms: Make) -> None:
    with pytest.raises(ValueError, match="HELLO"):
        NodeSession(terms(), lambda row, section: 0).send_welcome()


def test_a_refusal_reaches_the_other_side(second: Any, terms: Make) -> None:
    client, node = second.client, NodeSession(terms(role=1), lambda row, section: 0)
    with pytest.raises(ProtocolError) as caught:
        node.receive(client.send_hello())
    heard = client.receive(node.send_error(caught.value))
    assert (heard.code, heard.error().exit_code) == ("wrong-role", 3)
    assert "addresses" in str(heard.error())
    assert client.state is node.state is State.CLOSED


def test_before_any_message_a_node_says_errors_for_no_session(terms: Make) -> None:
    node = NodeSession(terms(), lambda row, section: 0)
    with pytest.raises(ProtocolError, match="truncated"):
        node.receive(b"")
    assert node.send_error(ProtocolError("truncated"))[2:18] == bytes(16)


def test_nothing_secret_is_shown(second: Any) -> None:
    second.at(State.IDLE)
    assert repr(second.client) == "<ClientSession idle>"
    assert repr(second.node) == "<NodeSession idle>"
