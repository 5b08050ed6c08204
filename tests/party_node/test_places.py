"""Who gets a place, who gives one up for whom, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Barrier, Event

import pytest

from engine.errors import ProtocolError
from engine.session import Welcome
from engine.session.hello import PeerError
from party_node.limits import Limits
from party_node.places import Place, Places
from tests.models.shared_small import Follow, SharedSmall, greedy
from tests.party_node.rig import QUICK, SOON, Pair, RawClient, identities

LIMITS = Limits(sessions=3, client_sessions=2, idle_seconds=10.0, unmet_seconds=1.0)


class Clock:
    """Seconds that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("party_node.places.time.monotonic", lambda: self.now)


class Holders:
    """Takes places of `Places`, each under a name, until it is released or has to leave."""

    def __init__(self, limits: Limits) -> None:
        self.places = Places(limits)
        self.left: list[str] = []
        self._stacks: dict[str, ExitStack] = {}

    def take(self, name: str, client: str = "") -> Place:
        stack = ExitStack()
        place = stack.enter_context(self.places.take(name.encode(), client or name, lambda: self._leave(name)))
        self._stacks[name] = stack
        return place

    def release(self, name: str) -> None:
        self._stacks[name].close()

    def _leave(self, name: str) -> None:
        self.left.append(name)
        self.release(name)


def busy(act: Callable[[], object]) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        act()
    assert caught.value.code == "busy"
    assert caught.value.retry_after is not None
    return caught.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_so_many_places_and_so_many_of_one_certificate(clock: Clock) -> None:
    holders = Holders(LIMITS)
    holders.take("a", "anne")
    holders.take("b", "anne")
    assert "2 sessions of one client" in str(busy(lambda: holders.take("c", "anne")))
    holders.take("d", "bob")
    assert "3 sessions" in str(busy(lambda: holders.take("e", "carl")))
    holders.release("d")
    holders.take("e", "carl")
    holders.release("a")
    holders.take("c", "anne")
    assert holders.left == []


def test_a_session_that_runs_already_has_its_place(clock: Clock) -> None:
    holders = Holders(LIMITS)
    holders.take("a", "anne")
    with pytest.raises(ProtocolError) as caught:
        holders.take("a", "bob")
    assert caught.value.code == "out-of-place"


def test_an_idle_session_gives_way_and_one_that_computes_does_not(clock: Clock) -> None:
    holders = Holders(LIMITS)
    held = [holders.take(name) for name in ("a", "b", "c")]
    for place in held:
        place.meet()
    clock.now += LIMITS.idle_seconds - 1
    busy(lambda: holders.take("d"))
    held[0].use()
    clock.now += 2
    held[2].use()
    holders.take("d")
    assert holders.left == ["b"]
    clock.now += LIMITS.idle_seconds + 1
    for name in ("e", "f"):  # the longest unused first
        holders.take(name)
    assert holders.left == ["b", "a", "c"]


def test_a_session_that_nobody_waits_for_may_be_idle(clock: Clock) -> None:
    holders = Holders(LIMITS)
    holders.take("a").meet()
    clock.now += 100 * LIMITS.idle_seconds
    holders.take("b")
    assert holders.left == []


def test_a_session_of_one_node_only_gives_way_soon(clock: Clock) -> None:
    holders = Holders(LIMITS)
    for name in ("a", "b"):
        holders.take(name).meet()
    holders.take("c")
    busy(lambda: holders.take("d"))
    clock.now += LIMITS.unmet_seconds
    holders.take("d")
    assert holders.left == ["c"]


def test_of_a_certificate_only_its_own_give_way(clock: Clock) -> None:
    holders = Holders(LIMITS)
    holders.take("z", "bob").meet()
    clock.now += 1
    for name in ("a", "b"):
        holders.take(name, "anne").meet()
    clock.now += LIMITS.idle_seconds
    holders.take("c", "anne")
    assert holders.left == ["a"]


def test_who_is_refused_comes_again_at_a_time_of_its_own(clock: Clock) -> None:
    holders = Holders(LIMITS)
    for name in ("a", "b", "c"):
        holders.take(name).meet()
    told = [busy(lambda: holders.take("d")).retry_after or 0.0 for _ in range(100)]
    assert told[:3] == [0.5, 0.6, 0.7]
    assert max(told) == 5.0
    clock.now += LIMITS.idle_seconds - 1
    assert busy(lambda: holders.take("d")).retry_after == 0.5


# At running nodes


def test_a_refusal_says_when_to_ask_again(pair: Pair, raw: Callable[[], RawClient]) -> None:
    for _ in (1, 2):
        raw().greet()
    third = raw()
    third.say(1, lambda session: session.send_hello())
    event = third.sessions[0].receive(third.links[0].receive(SOON))
    assert isinstance(event, PeerError)
    assert event.code == "busy"
    assert event.retry_after is not None
    assert 0 < event.retry_after <= 5
    assert "ask again in 1 s" in str(event.error())


@pytest.mark.parametrize("role", [1, 2])
def test_a_place_is_free_when_the_client_of_one_node_has_left(small: SharedSmall, role: int) -> None:
    """The other node, which was not called, costs nobody anything: the next client is served at once, not after a deadline."""
    patient = replace(QUICK, sessions=1, pairing_seconds=60.0, unmet_seconds=60.0)
    with Pair(small, identities(), patient) as pair:
        for _ in range(3):
            client = RawClient(pair)
            client.say(role, lambda session: session.send_hello())
            if role == 2:  # node 1 calls node 2, which knows nothing of this session, and says so at once
                assert isinstance(client.sessions[1].receive(client.links[1].receive(SOON)), Welcome)
            client.abort()
            pair.nodes[role - 1].log.wait(event="session ended")
        with pair.open() as conversation:
            assert len(list(conversation.generate(small.prompt(3), max_tokens=2, choose=greedy))) == 2


def test_an_idle_client_loses_its_place_and_nothing_that_was_said(small: SharedSmall) -> None:
    """Its next question opens a new session, once there is a place again."""
    quick = replace(QUICK, sessions=1, idle_seconds=0.05)
    follow = Follow(*small.answer(small.prompt(7), 4))
    with Pair(small, identities(), quick) as pair, pair.open() as idle:
        said = list(idle.generate(small.prompt(7), max_tokens=2, choose=follow))
        with pair.open() as other:
            assert len(list(other.generate(small.prompt(3), max_tokens=2, choose=greedy))) == 2
        assert pair.nodes[1].log.wait(code="idle")
        assert "connected" not in idle.status.states.values()
        said += list(idle.generate([*small.prompt(7), *said], max_tokens=2, choose=follow))
        assert len(said) == 4
        assert not follow.wrong


def test_no_two_clients_take_the_places_crosswise(small: SharedSmall) -> None:
    """Six at once on two places, again and again as they are told: all are served, and right."""
    answer = small.answer(small.prompt(5), 2)
    with Pair(small, identities(), QUICK) as pair, ThreadPoolExecutor(6) as threads:
        gate = Barrier(6)

        def go() -> bool:
            gate.wait(SOON)
            follow = Follow(*answer)
            with pair.open() as conversation:
                return len(list(conversation.generate(small.prompt(5), max_tokens=2, choose=follow))) == 2 and not follow.wrong

        assert all(job.result(60) for job in [threads.submit(go) for _ in range(6)])
        refused = [entry for node in pair.nodes for entry in node.log.entries if entry.get("code") == "busy"]
        assert {entry["role"] for entry in refused} <= {2}  # the node that is called first decides


def test_who_calls_one_node_again_and_again_starves_nobody(small: SharedSmall) -> None:
    over = Event()
    with Pair(small, identities(), replace(QUICK, sessions=3, pairing_seconds=SOON)) as pair, ThreadPoolExecutor(1) as threads:

        def bad() -> int:
            calls = 0
            while not over.is_set():
                client = RawClient(pair)
                client.say(1, lambda session: session.send_hello())
                client.abort()
                calls += 1
            return calls

        calling = threads.submit(bad)
        try:
            for _ in range(3):
                with pair.open() as conversation:
                    assert len(list(conversation.generate(small.prompt(3), max_tokens=2, choose=greedy))) == 2
        finally:
            over.set()
        assert calling.result(SOON) > 3
