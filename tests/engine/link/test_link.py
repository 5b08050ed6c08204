"""What every link promises, held by real sockets and by the pair in memory alike."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import LinkError
from engine.link import Connection, Link, MemoryConnection, pair

Ends = tuple[Link, Link]


@pytest.fixture(params=["socket", "memory"])
def both(request: pytest.FixtureRequest, ends: Callable[..., tuple[Connection, Connection]]) -> Ends:
    return ends() if request.param == "socket" else pair()


def test_messages_arrive_in_order_and_are_counted(both: Ends) -> None:
    here, there = both
    messages = [b"", b"a", bytes(9000), bytearray(b"b"), memoryview(b"c"), bytes(70_000)]
    for message in messages:
        here.send(message)
    assert [bytes(there.receive(20)) for _ in messages] == [bytes(message) for message in messages]
    assert (here.messages_sent, here.bytes_sent) == (6, 79_003)
    assert (there.messages_received, there.bytes_received) == (6, 79_003)
    assert (here.messages_received, here.bytes_received, there.messages_sent, there.bytes_sent) == (0, 0, 0, 0)


def test_rounds(both: Ends, threads: ThreadPoolExecutor) -> None:
    here, there = both

    def play(end: Link, name: bytes) -> list[bytes]:
        return [bytes(end.exchange(name * 4500 + bytes([number]), 20)) for number in range(50)]

    other = threads.submit(play, there, b"th")
    assert play(here, b"he") == [b"th" * 4500 + bytes([number]) for number in range(50)]
    assert other.result(20) == [b"he" * 4500 + bytes([number]) for number in range(50)]


def test_several_threads_send_whole_messages(both: Ends, threads: ThreadPoolExecutor) -> None:
    here, there = both
    sizes = (10, 200_000, 1_000_000)

    def talk(number: int) -> None:
        for size in sizes:
            here.send(bytes([number]) * size)

    talks = [threads.submit(talk, number) for number in range(4)]
    heard = [bytes(there.receive(20)) for _ in range(4 * len(sizes))]
    assert all(talk.result(20) is None for talk in talks)
    assert all(message == message[:1] * len(message) for message in heard)
    by_sender = {number: [len(m) for m in heard if m[0] == number] for number in range(4)}
    assert by_sender == dict.fromkeys(range(4), list(sizes))


@pytest.mark.parametrize("end", ["close", "abort"])
def test_what_was_sent_before_the_end_is_received(both: Ends, threads: ThreadPoolExecutor, end: str) -> None:
    here, there = both
    here.send(b"first")
    here.send(b"last word")
    closing = threads.submit(getattr(here, end))
    assert there.receive(20) == b"first"
    assert there.receive(20) == b"last word"
    with pytest.raises(LinkError):
        there.receive(20)
    with pytest.raises(LinkError):
        there.send(b"too late")
    closing.result(20)


def test_what_came_is_received_even_where_nothing_leaves(both: Ends, threads: ThreadPoolExecutor) -> None:
    here, there = both
    here.send(b"why")
    here.close(linger=0)
    assert there.exchange(bytes(5_000_000), 20) == b"why"
    with pytest.raises(LinkError):
        there.exchange(b"x", 20)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_after_the_end_nothing_works(both: Ends, end: str) -> None:
    here, there = both
    there.send(b"never read")
    getattr(here, end)()
    getattr(here, end)()
    for use in (lambda: here.send(b"x"), lambda: here.receive(20), lambda: here.exchange(b"x", 20)):
        with pytest.raises(LinkError, match="was closed"):
            use()


def test_abort_wakes_who_waits(both: Ends, threads: ThreadPoolExecutor) -> None:
    here, _ = both
    waiting = threads.submit(here.receive, None)
    while not waiting.running():
        pass
    here.abort()
    with pytest.raises(LinkError, match="was closed"):
        waiting.result(20)


def test_a_timeout_is_final(both: Ends) -> None:
    here, there = both
    with pytest.raises(LinkError, match="no answer within 0.01 s"):
        here.receive(0.01)
    with pytest.raises(LinkError, match="no answer within 0.01 s"):
        here.receive(20)
    with pytest.raises(LinkError):
        there.receive(20)


def test_a_with_statement_ends_the_link(both: Ends) -> None:
    here, there = both
    assert isinstance(here, Connection | MemoryConnection)
    with here:
        here.send(b"x")
        there.abort()
    with pytest.raises(LinkError):
        here.send(b"x")


def test_a_with_statement_ends_the_link_after_an_error(both: Ends) -> None:
    here, there = both
    assert isinstance(here, Connection | MemoryConnection)
    with pytest.raises(ZeroDivisionError), here:
        raise ZeroDivisionError
    with pytest.raises(LinkError):
        there.receive(20)
