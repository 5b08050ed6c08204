"""Rounds between the nodes: both stop after the same one, and what goes wrong has a code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import ProtocolError, SessionStopped
from engine.link import MemoryConnection, pair
from engine.session import PeerSession
from party_node.rounds import PeerLink

SESSION = b"s" * 16


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def peer(role: int) -> PeerSession:
    return PeerSession(SESSION, program="a" * 64, model="b" * 64, epoch=0, role=role, start_id="c" * 32, client="d" * 64)


@pytest.fixture
def links() -> tuple[MemoryConnection, MemoryConnection]:
    return pair("/peer")


@pytest.fixture
def nodes(links: tuple[MemoryConnection, MemoryConnection], threads: ThreadPoolExecutor) -> tuple[PeerLink, PeerLink]:
    one, two = (PeerLink(link, peer(role), 5) for role, link in enumerate(links, 1))
    both(threads, lambda: one.greet(None, 5), lambda: two.greet(None, 5))
    return one, two


def both(threads: ThreadPoolExecutor, first: Callable[[], object], second: Callable[[], object]) -> list[object]:
    """What both do at once; an exception in place of a result."""
    jobs = [threads.submit(first), threads.submit(second)]
    return [job.exception(10) or job.result() for job in jobs]


def test_a_round(nodes: tuple[PeerLink, PeerLink], threads: ThreadPoolExecutor) -> None:
    one, two = nodes
    assert both(threads, lambda: bytes(one.exchange(b"abc")), lambda: bytes(two.exchange(b"xyz"))) == [b"xyz", b"abc"]
    assert (one.rounds, two.rounds) == (1, 1)
    assert one.bytes_sent == two.bytes_sent


def test_both_stop_after_the_round_in_which_one_said_so(nodes: tuple[PeerLink, PeerLink], threads: ThreadPoolExecutor) -> None:
    one, two = nodes
    one.stop.set()
    ends = both(threads, lambda: one.exchange(b"abc"), lambda: two.exchange(b"xyz"))
    assert all(isinstance(end, SessionStopped) for end in ends)
    for node in nodes:  # neither has more to say
        node.end_step()
    assert (one.rounds, two.rounds) == (1, 1)
    one.stop.clear()
    for node in nodes:
        node.begin()
    assert both(threads, lambda: bytes(one.exchange(b"a")), lambda: bytes(two.exchange(b"b"))) == [b"b", b"a"]


def test_a_node_whose_material_was_discarded_ends_the_others_wait(
    nodes: tuple[PeerLink, PeerLink], threads: ThreadPoolExecutor
) -> None:
    one, two = nodes
    ends = both(threads, one.end_step, lambda: two.exchange(b"xyz"))
    assert ends[0] is None
    assert isinstance(ends[1], SessionStopped)


def test_two_nodes_that_stop_at_once_part_at_the_same_round(
    nodes: tuple[PeerLink, PeerLink], threads: ThreadPoolExecutor
) -> None:
    one, two = nodes
    assert both(threads, one.end_step, two.end_step) == [None, None]
    assert (one.rounds, two.rounds) == (1, 1)


def test_a_lost_node_has_a_code(nodes: tuple[PeerLink, PeerLink]) -> None:
    one, two = nodes
    two.abort()
    with pytest.raises(ProtocolError, match="no-peer"):
        one.exchange(b"abc")


def test_messages_of_different_lengths_are_refused(nodes: tuple[PeerLink, PeerLink], threads: ThreadPoolExecutor) -> None:
    one, two = nodes
    ends = both(threads, lambda: one.exchange(b"abc"), lambda: two.exchange(b"wxyz"))
    assert [getattr(end, "code", None) for end in ends] == ["wrong-length", "wrong-length"]


def test_the_greeting_is_compared(links: tuple[MemoryConnection, MemoryConnection], threads: ThreadPoolExecutor) -> None:
    one, two = PeerLink(links[0], peer(1), 5), PeerLink(links[1], peer(1), 5)
    ends = both(threads, lambda: one.greet(None, 5), lambda: two.greet(None, 5))
    assert [getattr(end, "code", None) for end in ends] == ["wrong-role", "wrong-role"]


def test_a_greeting_that_came_already(links: tuple[MemoryConnection, MemoryConnection], threads: ThreadPoolExecutor) -> None:
    one, two = PeerLink(links[0], peer(1), 5), PeerLink(links[1], peer(2), 5)
    greeting = threads.submit(one.greet, None, 5)
    two.greet(links[1].receive(5), 5)
    assert greeting.result(5) is None
