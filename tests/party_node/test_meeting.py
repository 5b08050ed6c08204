"""Two halves of a session find each other, whoever comes first, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.link import pair
from party_node.meeting import Meeting

ONE, TWO = b"1" * 16, b"2" * 16


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def never() -> bool:
    return False


def test_the_link_first(threads: ThreadPoolExecutor) -> None:
    meeting, (link, _) = Meeting(10), pair("/peer")
    bringing = threads.submit(meeting.bring, ONE, link, b"hello")
    assert meeting.take(ONE, never) == (link, b"hello")
    assert bringing.result(5)


def test_the_session_first(threads: ThreadPoolExecutor) -> None:
    meeting, (link, _) = Meeting(10), pair("/peer")
    taking = threads.submit(meeting.take, ONE, never)
    assert meeting.bring(ONE, link, b"hello")
    assert taking.result(5) == (link, b"hello")


def test_sessions_are_told_apart(threads: ThreadPoolExecutor) -> None:
    meeting, (one, two) = Meeting(10), pair("/peer")
    bringing = [threads.submit(meeting.bring, ONE, one, b"1"), threads.submit(meeting.bring, TWO, two, b"2")]
    assert meeting.take(TWO, never) == (two, b"2")
    assert meeting.take(ONE, never) == (one, b"1")
    assert all(job.result(5) for job in bringing)


def test_nobody_comes() -> None:
    meeting, (link, _) = Meeting(0.01), pair("/peer")
    assert not meeting.bring(ONE, link, b"hello")
    assert meeting.take(ONE, never) is None


def test_a_second_link_for_the_same_session_is_refused(threads: ThreadPoolExecutor) -> None:
    meeting, (one, two) = Meeting(10), pair("/peer")
    bringing = [threads.submit(meeting.bring, ONE, link, b"") for link in (one, two)]
    taken = meeting.take(ONE, never)
    assert taken is not None
    meeting.close()
    assert sorted(job.result(5) for job in bringing) == [False, True]


def test_a_session_that_ended_waits_no_longer(threads: ThreadPoolExecutor) -> None:
    meeting, ended = Meeting(10), [False]
    taking = threads.submit(meeting.take, ONE, lambda: ended[0])
    ended[0] = True
    meeting.wake()
    assert taking.result(5) is None


def test_a_node_that_leaves_waits_for_nobody(threads: ThreadPoolExecutor) -> None:
    meeting, (link, _) = Meeting(10), pair("/peer")
    jobs = [threads.submit(meeting.take, ONE, never), threads.submit(meeting.bring, TWO, link, b"")]
    meeting.close()
    assert jobs[0].result(5) is None
    assert not jobs[1].result(5)
    assert not meeting.bring(ONE, link, b"")
