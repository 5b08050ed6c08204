"""What whoever waits hears first, and which of two failures is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.local_party.inbox import Inbox
from engine.errors import LinkError, ProtocolError
from engine.session import Ready

HUNG_UP = LinkError("hung up", "node 1")
NO_PEER = ProtocolError("no-peer", "node 2 says: hung up")
BROKEN = ProtocolError("wrong-length", "node 2 says: ROUND")


def never() -> bool:
    return False


def test_what_was_said_comes_before_the_failure() -> None:
    inbox = Inbox()
    inbox.put(1, Ready())
    inbox.fail(1, HUNG_UP)
    assert inbox.take(never) == (1, Ready())
    with pytest.raises(LinkError, match="node 1: hung up"):
        inbox.take(never)
    with pytest.raises(LinkError, match="node 1: hung up"):  # and again, for whoever asks next
        inbox.wait(never)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (NO_PEER, HUNG_UP, HUNG_UP),
        (HUNG_UP, NO_PEER, HUNG_UP),
        (NO_PEER, BROKEN, BROKEN),
        (NO_PEER, ProtocolError("no-peer", "node 1 says: late"), NO_PEER),
    ],
)
def test_the_clearer_of_two_failures_is_told(first: Exception, second: Exception, told: Exception) -> None:
    inbox = Inbox()
    with ThreadPoolExecutor(1) as pool:
        inbox.fail(2, first)
        waiting = pool.submit(inbox.take, never)
        inbox.fail(1, second)
        assert waiting.exception(5) is told


def test_a_vague_failure_alone_is_told_after_a_moment() -> None:
    inbox = Inbox()
    inbox.fail(2, NO_PEER)
    assert inbox.failure(5) is NO_PEER


def test_waiting_ends_when_it_is_time_and_when_it_is_woken() -> None:
    inbox, ready = Inbox(), [False]
    assert not inbox.wait(lambda: ready[0], 0.01)
    assert inbox.take(never, 0.01) is None
    assert inbox.failure(0.01) is None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(inbox.take, lambda: ready[0])
        ready[0] = True
        inbox.wake()
        assert waiting.result(5) is None
    assert not inbox.failed
