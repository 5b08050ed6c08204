"""The client's link to one node: what is said in order, and a thread that listens.

Rule 1. Messages leave in the order in which the session made them: one lock around both.
Rule 2. The reader is always listening, so a dead node is noticed by its pings whatever the other threads do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread

from app.local_party.inbox import Inbox
from engine.errors import LinkError, ProtocolError, TrineError
from engine.link.link import Link
from engine.session import Bye, ClientSession, PeerError, State

LINE_SECONDS = 9.0
"""For the line to take something of what is sent, before the person is told."""

_BYE_SECONDS = 1.0
_KNOWN_SECONDS = 2.0  # until the reader has read what a node said before it left


class NodeLink:
    """The link to the node of `role`; its errors name the node."""

    def __init__(self, role: int, link: Link, session: ClientSession, inbox: Inbox) -> None:
        self.role, self.link, self.session = role, link, session
        self.party = f"node {role}"
        self.state = "connected"
        """For people: "connected", "lost", or "connecting" if it may be called again: it was left when the other was lost."""
        self.partner: NodeLink | None = None  # left, too, when this node is lost: a session needs both
        self._inbox = inbox
        self._sending = Lock()
        self._said = 0
        self._closing = self._let_go = False
        self._reader = Thread(target=self._read, name=f"trine-{self.party}", daemon=True)

    @property
    def step_bytes(self) -> int:
        """Bytes of messages so far, both ways, without those that were sent ahead of time."""
        return self._said + self.link.bytes_received

    def listen(self) -> None:
        """Start the reader."""
        self._reader.start()

    def say(self, make: Callable[[], bytes], *, ahead: bool = False) -> None:
        """Send the message that `make` makes of the session; raises what the reader says about a lost link.

        What is sent `ahead` of time belongs to no step.
        """
        try:
            with self._sending:
                data = make()
                self._said += 0 if ahead else len(data)
                self.link.send(data, LINE_SECONDS)
        except LinkError as error:
            known = None if self._closing else self._inbox.failure(_KNOWN_SECONDS)
            raise known or error from None
        except ValueError:
            if self.session.state is not State.CLOSED:
                raise
            # The reader, or the other node's, has just ended the session: it knows why.
            raise self._inbox.failure(_KNOWN_SECONDS) or LinkError("the session is over", self.party) from None

    def abort(self) -> None:
        """Let go of the node at once, from any thread; whoever waits for it gets LinkError."""
        self._let_go = True
        self.link.abort()

    def close(self, error: ProtocolError | None = None) -> None:
        """Leave the node, with the reason if there is one, and wait for the reader. Idempotent."""
        self._leave(error)
        if self._reader.ident is not None:
            self._reader.join()

    def _leave(self, error: ProtocolError | None = None) -> None:
        if not self._closing:
            self._closing = True
            if self.state == "connected":
                self.state = "connecting"
            self._say_last(error)
        self.link.close()

    def _say_last(self, error: ProtocolError | None) -> None:
        """Why this side leaves, unless the line takes nothing and somebody else is still at it."""
        if self._sending.acquire(timeout=_BYE_SECONDS):
            try:
                with suppress(TrineError, ValueError):
                    self.link.send(self.session.send_bye() if error is None else self.session.send_error(error), _BYE_SECONDS)
            finally:
                self._sending.release()

    def _read(self) -> None:
        try:
            while True:
                event = self.session.receive(self.link.receive())
                if isinstance(event, PeerError):
                    self._fail(ProtocolError(event.code, _said(f"{self.party} says", event.text), event.retry_after))
                    return
                if isinstance(event, Bye):
                    self._fail(LinkError("left the session", self.party))
                    return
                self._inbox.put(self.role, event)
        except ProtocolError as error:
            self._say_last(error)
            self._fail(ProtocolError(error.code, _said(self.party, error.text)))
        except LinkError as error:
            self._fail(error)
        except Exception as error:  # a fault of our own must not leave anybody waiting
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        failed = not self._closing
        if failed:
            lost_the_other = isinstance(error, ProtocolError) and error.code == "no-peer"
            gave_way = isinstance(error, ProtocolError) and error.code == "idle"
            self.state = "connecting" if lost_the_other or gave_way or self._let_go else "lost"
            self._inbox.fail(self.role, error)
        self.link.close()
        if failed and self.partner is not None:
            self._inbox.failure(0)  # the other node may be saying why
            self.partner._leave()


def _said(who: str, text: str) -> str:
    return f"{who}: {text}" if text else who
