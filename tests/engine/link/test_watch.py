"""Signs of life: each side says unasked that it lives, also while it only hears, only sends, or computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

import pytest

from engine.errors import LinkError
from engine.link import Connection, pair
from tests.engine.link.sockets import unread

Ends = Callable[..., tuple[Connection, Connection]]
QUICK = {"ping_interval": 0.3, "ping_timeout": 0.9}  # fewer control frames a second than a flood has


def test_who_only_hears_is_known_to_live(ends: Ends, threads: ThreadPoolExecutor) -> None:
    """Its own signs of life are enough: it hears so much that it never asks."""
    client, server = ends(client=QUICK, server=QUICK)
    over = Event()

    def talk() -> None:
        with suppress(LinkError):
            while not over.is_set():
                client.send(b"material")

    def hear() -> None:
        with suppress(LinkError):
            while True:
                server.receive(20)

    jobs = [threads.submit(talk), threads.submit(hear)]
    try:
        with pytest.raises(LinkError, match=r"no answer within 2 s"):  # not "no sign of life"
            client.receive(2)
    finally:
        over.set()
        client.abort()
        for job in jobs:
            job.result(20)


def watching(link: Connection, over: Event) -> LinkError | None:
    """Watch a link until then; what that raises."""
    while not over.wait(QUICK["ping_interval"]):
        try:
            link.watch()
        except LinkError as error:
            return error
    return None


def test_who_computes_is_known_to_live_and_knows_of_the_other(ends: Ends, threads: ThreadPoolExecutor) -> None:
    """Also with a message that it does not take, behind which beats come."""
    client, server = ends()
    client.keep_watch(**QUICK)
    server.keep_watch(**QUICK)
    over = Event()
    jobs = [threads.submit(watching, link, over) for link in (client, server)]
    try:
        with pytest.raises(LinkError, match=r"no answer within 3 s"):  # the server has not begun to read
            client.exchange(b"a round", 3)
        assert jobs[1].result(20) is not None  # it hears that the client has gone
        assert server.receive(20) == b"a round"
    finally:
        over.set()
        client.abort()
    assert jobs[0].result(20) is not None


def test_a_silent_peer_is_noticed_by_who_computes(ends: Ends) -> None:
    client, _ = ends()
    client.keep_watch(**QUICK)
    began = time.monotonic()
    error = watching(client, Event())
    assert error is not None
    assert error.what.startswith("no sign of life")
    assert time.monotonic() - began < 10


def test_a_peer_that_sends_messages_without_end_costs_two_of_them(ends: Ends) -> None:
    client, server = ends()
    client.keep_watch(**QUICK)
    for _ in range(20):
        server.send(bytes(1000))
    for _ in range(5):
        client.watch()
    assert unread(client) > 18 * 1000
    assert [client.receive(20) for _ in range(20)] == [bytes(1000)] * 20


def test_in_memory_only_an_end_is_noticed() -> None:
    one, other = pair()
    one.keep_watch(1.0, 1.0)
    one.watch()
    other.close()
    with pytest.raises(LinkError):
        one.watch()
