"""The link between the nodes: one greeting each, one message a round, one word to stop."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ProtocolError
from engine.link.frames import Frame, FrameType, FrameWriter, decode, encode
from engine.session import PeerSession, session_of
from engine.session.hello import PeerHello

SESSION = bytes(range(16))
COMMON: dict[str, Any] = {"program": "ab" * 32, "model": "cd" * 32, "epoch": 0, "start_id": "0" * 32, "client": "f" * 64}


def make(role: int = 1, session: bytes = SESSION, **changes: Any) -> PeerSession:
    return PeerSession(session, role=role, **(COMMON | changes))


def greeted() -> tuple[PeerSession, PeerSession]:
    one, two = make(1), make(2)
    assert two.receive_hello(one.send_hello()).role == 1
    assert one.receive_hello(two.send_hello()).role == 2
    return one, two


def frame(kind: FrameType, payload: bytes, sequence: int = 1) -> bytes:
    """What an honest node would not send, behind a greeting or so many messages."""
    return encode(Frame(kind, SESSION, sequence, payload))


def code(act: Any, *arguments: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        act(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"program": "12" * 32}, "wrong-program"),
        ({"model": "12" * 32}, "wrong-model"),
        ({"epoch": 1}, "wrong-epoch"),
        ({"role": 1}, "wrong-role"),
        ({"start_id": "1" * 32}, "wrong-start"),
        ({"client": "f" * 63 + "e"}, "wrong-client"),
        ({"session": bytes(16)}, "wrong-session"),
    ],
)
def test_each_difference_has_its_code(changes: dict[str, Any], expected: str) -> None:
    assert code(make(1).receive_hello, make(**({"role": 2} | changes)).send_hello()) == expected


def test_who_the_other_client_is_is_not_told() -> None:
    with pytest.raises(ProtocolError, match="wrong-client") as caught:
        make(1).receive_hello(make(2, client="e" * 64).send_hello())
    assert "eeee" not in str(caught.value)
    assert "ffff" not in str(caught.value)


def test_the_session_is_compared_within_the_greeting_too() -> None:
    other = PeerHello.parse(decode(make(2).send_hello()).payload).model_copy(update={"session": "0" * 32})
    greeting = FrameWriter(SESSION).write(FrameType.PEER_HELLO, other.encode())
    assert code(make(1).receive_hello, greeting) == "wrong-session"


def test_a_greeting_names_its_session_before_it_has_one() -> None:
    assert session_of(make().send_hello()) == SESSION
    assert code(session_of, FrameWriter(SESSION).write(FrameType.HELLO, b"")) == "out-of-place"
    assert code(session_of, b"") == "truncated"


def test_rounds() -> None:
    one, two = greeted()
    for number in range(3):
        here, there = one.send_round(b"one%d" % number), two.send_round(b"two%d" % number)
        assert one.receive_round(there, 4) == b"two%d" % number
        assert two.receive_round(here, 4) == b"one%d" % number
    assert one.rounds == two.rounds == 3
    assert one.bytes_sent == 3 * (26 + 1 + 4)


def test_a_round_is_not_copied() -> None:
    one, two = greeted()
    message = bytearray(one.send_round(b"data"))
    view = two.receive_round(message, 4)
    message[-1] = 0
    assert view == b"dat\0"


@pytest.mark.parametrize("length", [0, 3, 5, 9000])
def test_a_round_of_another_length_is_refused(length: int) -> None:
    one, two = greeted()
    assert code(two.receive_round, one.send_round(b"data"), length) == "wrong-length"


def test_the_last_round_says_so_and_nothing_else() -> None:
    one, two = greeted()
    message = one.send_round(b"masked data", stop=True)
    assert b"masked" not in message
    assert two.receive_round(message, 11) is None
    assert (one.rounds, one.bytes_sent) == (1, 27)


def test_who_stops_takes_whatever_the_other_said_in_that_round() -> None:
    one, two = greeted()
    one.send_round(b"", stop=True)
    one.receive_last(two.send_round(b"of any length"))
    assert code(one.receive_last, frame(FrameType.PEER_HELLO, b"", 2)) == "out-of-place"
    with pytest.raises(ValueError, match="after both"):
        make().receive_last(b"")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"\2data", "out-of-range"), (b"", "out-of-range"), (b"\1data", "wrong-length"), (b"\0", "wrong-length")],
)
def test_a_wrong_round_is_refused(payload: bytes, expected: str) -> None:
    one, two = greeted()
    assert code(two.receive_round, frame(FrameType.ROUND, payload), 4) == expected


@pytest.mark.parametrize("kind", set(FrameType) - {FrameType.PEER_HELLO})
def test_only_a_greeting_comes_first(kind: FrameType) -> None:
    assert code(make().receive_hello, FrameWriter(SESSION).write(kind, b"")) == "out-of-place"


@pytest.mark.parametrize("kind", set(FrameType) - {FrameType.ROUND})
def test_only_rounds_come_later(kind: FrameType) -> None:
    one, two = greeted()
    assert code(two.receive_round, frame(kind, b""), 0) == "out-of-place"


def test_a_lost_round_is_noticed() -> None:
    one, two = greeted()
    one.send_round(b"data")
    assert code(two.receive_round, one.send_round(b"data"), 4) == "out-of-order"


def test_this_side_keeps_the_order_too() -> None:
    one = make()
    with pytest.raises(ValueError, match="after both"):
        one.send_round(b"")
    with pytest.raises(ValueError, match="after both"):
        one.receive_round(b"", 0)
    one.send_hello()
    with pytest.raises(ValueError, match="comes first"):
        one.send_hello()


@given(data=st.binary(max_size=60), payload=st.binary(max_size=60))
def test_only_the_protocols_own_error_escapes(data: bytes, payload: bytes) -> None:
    for message in (data, FrameWriter(SESSION).write(FrameType.PEER_HELLO, payload)):
        with suppress(ProtocolError):
            make().receive_hello(message)
        with suppress(ProtocolError):
            session_of(message)
    one, two = greeted()
    with suppress(ProtocolError):
        two.receive_round(frame(FrameType.ROUND, payload), 4)
