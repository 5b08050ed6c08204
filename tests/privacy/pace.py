"""When and what is dealt does not follow what is said: the order and the lengths exactly, the pauses by an exact test."""

from __future__ import annotations

import threading
import time
from functools import cache
from itertools import groupby
from math import comb

import numpy as np
import pytest

from engine.link.frames import FrameType
from tests.privacy.ledger import LeakError
from tests.privacy.parts import RealSession
from tests.privacy.small import prompt, small

F = FrameType
ROOMS = (600_000, 60_000)
"""Bytes of queue: for a block of 16 rows, and for one row, so that each step makes room for the next."""
PAIRS = 3
ALPHA = 1e-6
TIMED = 32  # steps of either token
EITHER = (42, 85)  # two tokens without a bit in common
DEALT = (F.BLOCK, F.MATERIAL)
Shape = list[tuple[tuple[str, str, bool], list[tuple[str, int]]]]


def shape_since(session: RealSession, start: int) -> Shape:
    """Types and lengths of what was sent from frame `start` on, of each link and direction and, of the client's, of what is
    dealt and of what is asked: how these two interleave is the threads' affair.
    """
    sent = session.wire.sent[start:]
    order = [((s.sender, s.receiver, s.kind in DEALT), s.kind.name, len(s.frame.payload)) for s in sent]
    order.sort(key=lambda entry: entry[0])  # stable
    return [(link, [(kind, length) for _, kind, length in entries]) for link, entries in groupby(order, lambda e: e[0])]


def spoken(session: RealSession, length: int, seed: int) -> Shape:
    """A prompt, three tokens of an answer, an edit and another prompt; before each the dealing thread comes to rest."""
    session.rewind(len(small().spec.prefix))
    session.settle()
    start = len(session.wire.sent)
    for part in (prompt(length, seed), prompt(1, seed + 1), prompt(1, seed + 2), prompt(1, seed + 3)):
        session.settle()
        session.advance(part, decoding=len(part) == 1)
    session.settle()
    session.rewind(len(session.session.tokens) - 2)
    session.settle()
    session.advance(prompt(3, seed + 4))
    session.settle()
    return shape_since(session, start)


def check_shapes() -> None:
    """Equal lengths give the same blocks, pieces and messages, in the same order and of the same lengths."""
    for room in ROOMS:
        with RealSession(small(), queue_bytes=room) as session:
            for pair in range(PAIRS):
                length = (1, 4)[pair % 2]
                before = session.redone
                one, two = (spoken(session, length, seed + 10 * pair) for seed in (1000, 5000))
                if one != two and session.redone == before:
                    raise LeakError("what is dealt, or asked, follows what is said")


def seconds(session: RealSession, token: int) -> tuple[float, float]:
    """(until a step is asked for, from its answer until the room that it made is dealt full again)."""
    start, began = len(session.wire.sent), time.perf_counter()
    session.advance([token], decoding=True)
    session.settle()
    sent = session.wire.sent[start:]
    asked, ended = (max(s.at for s in sent if s.kind is kind) for kind in (F.STEP, F.ANSWER))
    return asked - began, max(s.at for s in sent if s.kind in DEALT) - ended


def check_pauses(seed: int | None = None) -> float:
    """Two tokens in an order drawn at random: how the times of either are ranked is chance. Returns the probability of theirs.

    The order is drawn, so that whatever else the machine does falls on both alike and no time is ever too slow: only a
    pause that follows the token, and is longer than most of the noise, brings this below 10^-6.
    """
    order = np.random.default_rng(seed).permutation([0, 1] * TIMED)
    times: list[list[tuple[float, float]]] = [[], []]
    with RealSession(small(), queue_bytes=min(ROOMS)) as session:
        session.settle()
        for which in order:
            if len(session.session.tokens) > 40:
                session.rewind(len(small().spec.prefix))
                session.settle()
            times[which].append(seconds(session, EITHER[which]))
    p = min(1.0, 2 * min(chance(*([t[i] for t in found] for found in times)) for i in (0, 1)))
    if p < ALPHA:
        raise LeakError(f"when rows are dealt, or asked for, follows what is said (p < {p:.0e})")
    return p


def check_waits() -> None:
    """The dealing thread sleeps nowhere, and waits without a time: for room, for a step's end, for a link that takes more."""
    timed: list[str] = []
    wait, sleep, thread = threading.Condition.wait, time.sleep, "trine-dealing"

    def waits(self: threading.Condition, timeout: float | None = None) -> bool:
        if timeout is not None and threading.current_thread().name == thread:
            timed.append("a wait with a time")
        return wait(self, timeout)

    def sleeps(seconds: float) -> None:
        if threading.current_thread().name == thread:
            timed.append("a sleep")
        sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Condition, "wait", waits)
        patch.setattr(time, "sleep", sleeps)
        with RealSession(small(), queue_bytes=min(ROOMS)) as session:
            for token in range(small().spec.vocab):
                if timed:
                    break
                if len(session.session.tokens) > 40:
                    session.rewind(len(small().spec.prefix))
                session.advance([token], decoding=True)
            session.settle()
            if thread not in {each.name for each in threading.enumerate()}:
                raise RuntimeError("the thread that is watched has another name")
    if timed:
        raise LeakError(f"the dealing thread has {timed[0]}")


def chance(one: list[float], two: list[float]) -> float:
    """The probability of ranks as far apart as these or farther, of either side (Mann and Whitney's test, exact)."""
    n, m = len(one), len(two)
    above = sum(a > b for a in one for b in two)
    extreme = min(above, n * m - above)
    ways = sum(_ways(n, m, u) for u in range(extreme + 1))
    return min(1.0, 2 * ways / comb(n + m, n))


@cache
def _ways(n: int, m: int, u: int) -> int:
    """In how many orders u of the n·m pairs stand the wrong way round."""
    if u < 0:
        return 0
    if not n or not m:
        return int(u == 0)
    return _ways(n - 1, m, u - m) + _ways(n, m - 1, u)
