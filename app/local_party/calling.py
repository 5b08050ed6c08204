"""Calling the nodes: in the order that every client keeps, and so that a stop ends it at once.

Rule 1. The node that the other node calls comes first, and the other one once the first has given a place. So no two clients
        can have a place each and both lack the second.
Rule 2. Nobody waits for a call when the person has stopped: it is left to itself, and hangs up if anybody answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from app.local_party.endpoints import Endpoints
from app.local_party.inbox import Inbox
from engine.errors import LinkError, SessionStopped
from engine.link.link import Link
from engine.session import ClientEvent


def order(parties: Endpoints) -> tuple[int, int]:
    """The nodes' roles in the order in which they are called: the smaller fingerprint calls the other one, so it is second."""
    one, two = (node.fingerprint for node in parties.nodes)
    return (1, 2) if one > two else (2, 1)


def call(make: Callable[[], Link], inbox: Inbox, stopping: Event) -> Link:
    """What `make` returns or raises, made in a thread of its own; SessionStopped once `stopping` is set and `inbox` woken."""
    running = _Call(make, inbox)
    Thread(target=running.run, name="trine-call", daemon=True).start()
    try:
        inbox.wait(lambda: running.over or stopping.is_set())
        if stopping.is_set():
            raise SessionStopped
        return running.answer()
    except BaseException:
        running.leave()
        raise


class _Call:
    def __init__(self, make: Callable[[], Link], inbox: Inbox) -> None:
        self.over = False
        self._make, self._inbox = make, inbox
        self._lock, self._left = Lock(), False
        self._link: Link | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            link = self._make()
        except Exception as error:  # raised where it is waited for
            self._error = error
        else:
            with self._lock:
                self._link = link
                if self._left:
                    link.abort()
        self.over = True
        self._inbox.wake()

    def answer(self) -> Link:
        if self._error is not None:
            raise self._error
        if self._link is None:
            raise RuntimeError("the call is not over")
        return self._link

    def leave(self) -> None:
        with self._lock:
            self._left = True
            if self._link is not None:
                self._link.abort()


class Greetings:
    """WELCOME and READY of both nodes: one may be ready before the other's WELCOME was read."""

    def __init__(self, inbox: Inbox, stopping: Event) -> None:
        self._inbox, self._stopping = inbox, stopping
        self._heard: set[tuple[int, type[ClientEvent]]] = set()

    def wait(self, kind: type[ClientEvent], seconds: float, *roles: int) -> None:
        """Until the nodes of these roles have said it."""
        deadline = time.monotonic() + seconds
        while missing := [role for role in roles if (role, kind) not in self._heard]:
            event = self._inbox.take(self._stopping.is_set, max(0.0, deadline - time.monotonic()))
            if self._stopping.is_set():
                raise SessionStopped
            if event is None:
                raise LinkError(f"no answer within {seconds:g} s", f"node {missing[0]}")
            self._heard.add((event[0], type(event[1])))
