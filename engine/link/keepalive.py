"""Whether the other side still lives, and when this side has to show that it does: a state machine without a clock.

What happens is told to it (`heard`, `trickled`, `said`), each with the time in seconds of one clock that never goes back;
`due` gives the decision. A ping and a pong mean those of RFC 6455; a pong may be sent unasked (section 5.5.3).

Rule 1. Bytes by themselves are not a sign of life. Whole messages are one, and so are pings and pongs within the allowance;
        the bytes of a message that is not whole yet count for as many seconds as they take at `FLOOR_BYTES` a second.
Rule 2. Whoever was woken late does not blame the other side: it gets its time again.
Rule 3. Each side says something each second, unasked: the answer to a ping may be stuck for seconds behind what the asking
        side itself has sent, in a slow line's buffers. So silence means the same in both directions.
Rule 4. A ping or a pong that `due` asks for is taken for sent. Where bytes wait to leave, the caller may leave it out: the
        next piece that leaves shows this side's life, and the other side has to take it in time, as it has to answer a ping.
"""

from __future__ import annotations

import enum

PING_SECONDS = 1.0
"""Of silence, before the other side is asked whether it lives."""
PATIENCE_SECONDS = 3.0
"""More of silence, before it is given up: a frozen party is noticed within 5 s, those that then have to be told included."""
FLOOR_BYTES = 4096
"""A second, of a message that is not whole yet: a peer that sends less is given up like a silent one."""

_LATE_SECONDS = 0.25  # a machine that lets us wait so long may not have let the peer answer


class Due(enum.Enum):
    """What `Keepalive.due` decides."""

    NOTHING = enum.auto()
    PONG = enum.auto()  # this side has said nothing for long enough
    PING = enum.auto()  # the other side has
    SILENT = enum.auto()  # the other side is given up: it says nothing
    SLOW = enum.auto()  # the other side is given up: it sends too few bytes


class Keepalive:
    """Pings are due after `interval` seconds of silence, and the end `timeout` seconds after a ping.

    With `interval` None nothing is ever due. `now` is the time at which both sides are taken to have spoken last.
    """

    def __init__(self, interval: float | None, timeout: float, now: float) -> None:
        self.restart(interval, timeout, now)

    def restart(self, interval: float | None, timeout: float, now: float) -> None:
        """Forget what was, and begin again with other limits."""
        self._interval, self._timeout = interval, timeout
        self._alive = now  # until when the peer has shown that it lives
        self._pinged: float | None = None  # since when an answer is waited for: later than the ping by what has come meanwhile
        self._trickles = False  # whether bytes came since the ping, but too few
        self._said = now

    def heard(self, now: float) -> None:
        """The peer has shown that it lives."""
        self._alive, self._pinged = now, None

    def trickled(self, count: int, now: float) -> None:
        """So many bytes came of a message that is not whole yet."""
        seconds = count / FLOOR_BYTES
        if self._alive + seconds >= now:
            self.heard(now)
            return
        self._alive, self._trickles = self._alive + seconds, True
        if self._pinged is not None:
            self._pinged = min(now, self._pinged + seconds)

    def said(self, now: float) -> None:
        """Bytes of this side have left."""
        self._said = now

    def silence(self, now: float) -> float:
        """For how many seconds the peer has not shown that it lives."""
        return now - self._alive

    def next_look(self) -> float | None:
        """When to ask `due` again, at the latest; None for never."""
        if self._interval is None:
            return None
        look = self._alive + self._interval if self._pinged is None else self._pinged + self._timeout
        return min(look, self._said + self._interval)

    def due(self, now: float, late: float = 0.0) -> Due:
        """What has to be done now; the caller woke `late` by so many seconds."""
        if self._interval is None:
            return Due.NOTHING
        if self._pinged is not None and now >= self._pinged + self._timeout:
            if late <= _LATE_SECONDS:
                return Due.SLOW if self._trickles else Due.SILENT
            self._pinged = now
        quiet = now >= self._said + self._interval
        if quiet:
            self._said = now
        if self._pinged is None and now >= self._alive + self._interval:
            self._pinged, self._trickles = now, False
            return Due.PING
        return Due.PONG if quiet else Due.NOTHING
