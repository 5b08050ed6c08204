"""Whether the other side still lives, without I/O.

Rule 1. Bytes are no sign of life by themselves. Whole messages are, and pings and pongs within the allowance; the bytes of a
        message that is not whole count for as many seconds as they take at `FLOOR_BYTES` a second.
Rule 2. Who was itself woken late does not blame the other side.
Rule 3. Each side says something each second, unasked: an answer to a ping may be stuck for seconds behind what the asking side
        itself has sent, in a slow line's buffers. So silence means the same in both directions.
"""

from __future__ import annotations

import time

PING_SECONDS = 1.0
"""Of silence, before the other side is asked whether it lives."""
PATIENCE_SECONDS = 3.0
"""More of silence, before it is given up: a frozen party is noticed within 5 s, those that then have to be told included."""
FLOOR_BYTES = 4096
"""A second, of a message that is not whole yet: a peer that sends less is given up like a silent one."""

_LATE_SECONDS = 0.25  # a machine that lets us wait so long may not have let the peer answer: it gets its time again


class Allowance:
    """So many of something `at_once`, and so many `a_second` after that; not thread-safe."""

    def __init__(self, at_once: int, a_second: float) -> None:
        self._at_once, self._a_second = at_once, a_second
        self._left, self._counted = float(at_once), time.monotonic()

    def spend(self) -> bool:
        """Whether one more is allowed now."""
        now = time.monotonic()
        self._left = min(self._at_once, self._left + (now - self._counted) * self._a_second)
        self._counted = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Keepalive:
    """Pings are due after `interval` seconds of silence (None: never), and the end `timeout` seconds after a ping."""

    def __init__(self, interval: float | None, timeout: float) -> None:
        self.interval, self._timeout = interval, timeout
        self.alive = time.monotonic()  #: until when the peer has shown that it lives
        self.pinged: float | None = None  #: when it was pinged since, or what it has said meanwhile is worth
        self.said = self.alive  #: when this side last said something
        self._trickles = False  # whether bytes came since the ping, but too few

    def lives(self, seconds: float | None = None) -> None:
        """The peer has shown that it lives: now, or for so many seconds longer than was known."""
        now = time.monotonic()
        if seconds is None or self.alive + seconds >= now:
            self.alive, self.pinged = now, None
            return
        self.alive, self._trickles = self.alive + seconds, True
        if self.pinged is not None:
            self.pinged = min(now, self.pinged + seconds)

    def next_look(self) -> float | None:
        """When to `look` again."""
        if self.interval is None:
            return None
        look = self.alive + self.interval if self.pinged is None else self.pinged + self._timeout
        return min(look, self.said + self.interval)

    def wants_beat(self, now: float) -> bool:
        """Whether this side has been silent for long enough to say that it lives, which is taken for said."""
        if self.interval is None or now < self.said + self.interval:
            return False
        self.said = now
        return True

    def wants_ping(self, now: float) -> bool:
        """Whether it is time for a ping, which is taken for sent."""
        if self.interval is None or self.pinged is not None or now < self.alive + self.interval:
            return False
        self.pinged, self._trickles = now, False
        return True

    def verdict(self, now: float, late: float) -> str | None:
        """Why the peer is given up, None if it is not; this thread woke `late` by so many seconds."""
        if self.interval is None or self.pinged is None or now < self.pinged + self._timeout:
            return None
        if late > _LATE_SECONDS:
            self.pinged = now
            return None
        if self._trickles:
            return f"the line is too slow: less than {FLOOR_BYTES >> 10} kB a second came"
        return f"no sign of life for {now - self.alive:.0f} s"
