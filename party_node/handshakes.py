"""Callers whose handshake is not over: in places of their own, all seen to by the thread that accepts them.

Rule 1. TLS and the websocket handshake share one deadline, whatever a caller sends meanwhile.
Rule 2. A caller who has said nothing costs a descriptor; TLS begins with its first byte.
Rule 3. When all places are taken, the oldest caller of the address that holds most of them gives way. IPv6 addresses count
        by their /64: who has one of it has them all.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from engine.errors import LinkError
from engine.link import Connection
from engine.link.handshake import TOO_SLOW, Steps

Answer = Callable[[socket.socket], Steps[Connection]]


@dataclass(slots=True)
class _Caller:
    plain: socket.socket
    network: str
    deadline: float
    steps: Steps[Connection] | None = None  # None: it has said nothing yet


class Handshakes:
    """At most `places` callers at a time, `seconds` for each by `clock`; `poll` watches their descriptors. Not thread-safe."""

    def __init__(
        self, poll: select.poll, answer: Answer, places: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._poll, self._answer, self._clock = poll, answer, clock
        self._places, self._seconds = places, seconds
        self._callers: dict[int, _Caller] = {}  # by descriptor, the oldest first
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._callers)

    def __iter__(self) -> Iterator[int]:
        """The callers' descriptors, the oldest first."""
        return iter(tuple(self._callers))

    def __contains__(self, descriptor: object) -> bool:
        return descriptor in self._callers

    @property
    def is_full(self) -> bool:
        """Whether somebody has to give way before the next one."""
        return len(self._callers) >= self._places

    @property
    def deadline(self) -> float | None:
        """When the next caller is too late."""
        return next((caller.deadline for caller in self._callers.values()), None)

    def add(self, plain: socket.socket, host: str) -> None:
        """A caller from this address has come; its socket is taken over."""
        plain.setblocking(False)
        network = network_of(host)
        self._callers[plain.fileno()] = _Caller(plain, network, self._clock() + self._seconds)
        self._held[network] += 1
        self._poll.register(plain, select.POLLIN)

    def advance(self, descriptor: int) -> Connection | None:
        """What was waited for has come: the link, once it stands. LinkError if the caller is refused."""
        caller = self._callers[descriptor]
        try:
            if caller.steps is None:
                caller.steps = self._answer(caller.plain)
            self._poll.modify(descriptor, next(caller.steps))
        except StopIteration as made:
            self._forget(descriptor)
            link: Connection = made.value
            return link
        except BaseException:  # the steps have closed the socket, or will not be gone through
            self._forget(descriptor)
            caller.plain.close()
            raise
        return None

    def give_way(self) -> LinkError:
        """End the oldest caller of the address that holds most; the error says who it was."""
        most = max(self._held.values())
        descriptor = next(number for number, caller in self._callers.items() if self._held[caller.network] == most)
        return self._end(descriptor, "gave way: all places for handshakes were taken")

    def overdue(self) -> Iterator[LinkError]:
        """End those whose time is over."""
        now = self._clock()
        for descriptor in [number for number, caller in self._callers.items() if caller.deadline <= now]:
            yield self._end(descriptor, TOO_SLOW)

    def close(self) -> None:
        """End them all."""
        for descriptor in list(self._callers):
            self._end(descriptor, "the node stops")

    def _end(self, descriptor: int, why: str) -> LinkError:
        caller = self._callers[descriptor]
        self._forget(descriptor)
        if caller.steps is not None:
            caller.steps.close()
        caller.plain.close()
        return LinkError(why, caller.network)

    def _forget(self, descriptor: int) -> None:
        network = self._callers.pop(descriptor).network
        self._held[network] -= 1
        if not self._held[network]:
            del self._held[network]
        self._poll.unregister(descriptor)


def network_of(host: str) -> str:
    """The address, or the /64 of an IPv6 one: what one caller can have at will."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
