"""The link to the other node, as the one thread that computes uses it: one message each way a round.

Rule 1. A round never crosses a thread: the thread that computes sends and receives itself.
Rule 2. Both nodes stop after the round in which either one's flag was set, so they agree on what was
        computed. A node whose material was discarded says so in a round of its own.
Rule 3. Both nodes show each other each second that they live, by a thread of their own (`watch`): who computes a long
        round, or waits for its client's material, is not silent.
Rule 4. What goes wrong with the other node is a ProtocolError, so that the client learns it: a lost
        link has the code "no-peer".
"""

from __future__ import annotations

import time
from threading import Event

from engine.errors import LinkError, ProtocolError, SessionStopped
from engine.link import Data
from engine.link.keepalive import PING_SECONDS
from engine.link.link import Link
from engine.session import PeerSession


class PeerLink:
    """Rounds of one session with the other node; `stop` is set by the thread that hears the client."""

    def __init__(self, link: Link, session: PeerSession, round_seconds: float) -> None:
        self.stop = Event()
        self._link, self._session, self._patience = link, session, round_seconds
        self._stopped = False

    @property
    def rounds(self) -> int:
        """Rounds since the beginning."""
        return self._session.rounds

    @property
    def bytes_sent(self) -> int:
        """Bytes of messages to the other node since the beginning."""
        return self._session.bytes_sent

    def greet(self, first: Data | None, seconds: float) -> None:
        """Exchange PEER_HELLO; `first` is the other node's if it came already, else it has `seconds`."""
        hello = self._session.send_hello()
        try:
            if first is None:
                first = self._link.exchange(hello, seconds)
            else:
                self._link.send(hello, seconds)
        except LinkError as error:
            raise ProtocolError("no-peer", error.what) from error
        self._session.receive_hello(first)

    def watch(self, silence_seconds: float, over: Event) -> None:
        """Keep the link alive, and notice when the other node falls silent, until `over`; in a thread of its own.

        Whether either node computes, waits for its client or has nothing to do: a firewall does not forget the link, either.
        """
        self._link.keep_watch(PING_SECONDS, silence_seconds)
        due = time.monotonic() + PING_SECONDS
        while not over.wait(max(0.0, due - time.monotonic())):
            try:
                self._link.watch(time.monotonic() - due)
            except LinkError as error:
                raise ProtocolError("no-peer", f"the other node: {error.what}") from error
            due = time.monotonic() + PING_SECONDS

    def begin(self) -> None:
        """A step begins."""
        self._stopped = False

    def exchange(self, message: bytes) -> memoryview:
        """One round; SessionStopped after the round in which either side said stop."""
        stopping = self.stop.is_set()
        reply = self._swap(self._session.send_round(message, stop=stopping))
        if stopping:
            self._session.receive_last(reply)
            theirs = None
        else:
            theirs = self._session.receive_round(reply, len(message))
        if theirs is None:
            self._stopped = True
            raise SessionStopped
        return theirs

    def end_step(self) -> None:
        """The step was stopped: tell the other node, unless a round has said so already."""
        if not self._stopped:
            self._stopped = True
            self._session.receive_last(self._swap(self._session.send_round(b"", stop=True)))

    def _swap(self, frame: bytes) -> Data:
        try:
            return self._link.exchange(frame, self._patience)
        except LinkError as error:
            raise ProtocolError("no-peer", error.what) from error

    def abort(self) -> None:
        """End the link at once, from any thread."""
        self._link.abort()
