"""How often something may happen: so many times at once, then so many times a second. Pure: the caller says what time it is."""

from __future__ import annotations


class Allowance:
    """A bucket of `at_once` tokens into which `a_second` of them flow back each second; full at `now` (seconds).

    Not thread-safe.
    """

    def __init__(self, at_once: float, a_second: float, now: float) -> None:
        self._at_once, self._a_second = at_once, a_second
        self._left, self._counted = float(at_once), now

    def spend(self, now: float) -> bool:
        """Take one token; False if there is none. `now` must not be earlier than it was in the call before."""
        self._left = min(self._at_once, self._left + (now - self._counted) * self._a_second)
        self._counted = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
