"""Places for callers whose handshake is not over."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from engine.errors import LinkError
from engine.link import Connection
from engine.link.handshake import Steps
from party_node.handshakes import Handshakes, network_of

PLACES = 4
Come = Callable[[str], socket.socket]
STANDS = cast(Connection, object())


def answer(plain: socket.socket) -> Steps[Connection]:
    """Takes two bytes, and waits in between as a real handshake does; "x" is not liked."""

    def steps() -> Generator[int, None, Connection]:
        for _ in range(2):
            if plain.recv(1) == b"x":
                raise LinkError("unpleasant", "somebody")
            yield select.POLLIN
        plain.close()  # a link would have taken it over
        return STANDS

    return steps()


SECONDS = 60.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def places(clock: Clock) -> Handshakes:
    return Handshakes(select.poll(), answer, PLACES, SECONDS, clock)


@pytest.fixture
def come(places: Handshakes) -> Iterator[Come]:
    """A caller from this address; returns its own end."""
    ends: list[socket.socket] = []

    def call(host: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        ends.append(theirs)
        places.add(ours, host)
        return theirs

    yield call
    places.close()
    for end in ends:
        end.close()


def last(places: Handshakes) -> int:
    return list(places)[-1]


def gone(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(host: str, network: str) -> None:
    assert network_of(host) == network


def test_a_handshake_goes_on_whenever_something_comes(places: Handshakes, come: Come) -> None:
    end = come("192.0.2.1")
    caller = last(places)
    assert caller in places
    for _ in range(2):
        end.sendall(b"a")
        assert places.advance(caller) is None
    assert places.advance(caller) is STANDS
    assert caller not in places
    assert not len(places)


def test_a_refused_caller_has_no_place_any_more(places: Handshakes, come: Come) -> None:
    end = come("192.0.2.1")
    end.sendall(b"x")
    with pytest.raises(LinkError, match="unpleasant"):
        places.advance(last(places))
    assert not len(places)
    assert gone(end)


def test_the_oldest_of_the_address_that_holds_most_gives_way(places: Handshakes, come: Come) -> None:
    first = come("192.0.2.1")
    many = [come("192.0.2.2") for _ in range(2)]
    other = come("192.0.2.3")
    assert places.is_full
    assert places.give_way().party == "192.0.2.2"
    assert [gone(end) for end in (first, *many, other)] == [False, True, False, False]
    assert not places.is_full


def test_a_network_of_ipv6_counts_as_one(places: Handshakes, come: Come) -> None:
    first = come("192.0.2.1")
    many = [come(f"2001:db8::{number}") for number in range(2)]
    other = come("2001:db8:0:1::1")
    places.give_way()
    assert [gone(end) for end in (first, *many, other)] == [False, True, False, False]


def test_callers_from_everywhere_give_way_in_the_order_in_which_they_came(places: Handshakes, come: Come) -> None:
    ends = [come(f"192.0.2.{number}") for number in range(PLACES)]
    places.give_way()
    places.give_way()
    assert [gone(end) for end in ends] == [True, True, False, False]


def test_what_was_begun_counts_like_silence(places: Handshakes, come: Come) -> None:
    ends = [come("192.0.2.1") for _ in range(2)]
    caller = next(iter(places))
    ends[0].sendall(b"a")
    places.advance(caller)
    places.give_way()
    assert [gone(end) for end in ends] == [True, False]


def test_the_time_of_each_is_counted_from_its_beginning(come: Come, places: Handshakes, clock: Clock) -> None:
    late = come("192.0.2.1")
    late.sendall(b"a")
    places.advance(last(places))
    clock.now += SECONDS
    early = come("192.0.2.1")
    (error,) = places.overdue()
    assert "took too long" in str(error)
    assert (gone(late), gone(early)) == (True, False)
    deadline = places.deadline
    assert deadline is not None
    early.sendall(b"a")
    places.advance(last(places))
    assert places.deadline == deadline
