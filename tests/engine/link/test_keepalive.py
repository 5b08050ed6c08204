"""Signs of life, decided without a clock: the tests say what time it is."""

from __future__ import annotations

import pytest

from engine.link.allowance import Allowance
from engine.link.keepalive import FLOOR_BYTES, PATIENCE_SECONDS, PING_SECONDS, Due, Keepalive

START = 1000.0


@pytest.fixture
def keepalive() -> Keepalive:
    """Pings after a second, gives up after three more; now is `START`."""
    return Keepalive(1.0, 3.0, START)


def test_a_frozen_peer_is_given_up_well_within_5_seconds() -> None:
    assert PING_SECONDS + PATIENCE_SECONDS <= 4


# This side's life


def test_a_pong_is_due_when_nothing_was_said_whatever_was_heard(keepalive: Keepalive) -> None:
    assert keepalive.due(START + 0.9) is Due.NOTHING
    keepalive.heard(START + 0.9)
    assert keepalive.next_look() == START + 1.0
    assert keepalive.due(START + 1.0) is Due.PONG
    assert keepalive.due(START + 1.8) is Due.NOTHING


def test_what_is_said_is_a_sign_of_life(keepalive: Keepalive) -> None:
    for tenth in range(100):
        keepalive.heard(START + tenth / 10)
        keepalive.said(START + tenth / 10)
        assert keepalive.due(START + tenth / 10) is Due.NOTHING


def test_a_ping_is_a_sign_of_life_too(keepalive: Keepalive) -> None:
    assert keepalive.due(START + 1.0) is Due.PING  # and no pong beside it
    assert keepalive.due(START + 1.0) is Due.NOTHING
    assert keepalive.next_look() == START + 2.0
    assert keepalive.due(START + 2.0) is Due.PONG


# The other side's


def test_silence_is_asked_about_once_and_then_given_up(keepalive: Keepalive) -> None:
    said = [keepalive.due(START + second) for second in range(6)]
    assert said == [Due.NOTHING, Due.PING, Due.PONG, Due.PONG, Due.SILENT, Due.SILENT]
    assert keepalive.silence(START + 4.0) == 4.0


def test_who_is_heard_is_asked_again_a_second_later(keepalive: Keepalive) -> None:
    assert keepalive.due(START + 1.0) is Due.PING
    keepalive.heard(START + 3.5)
    keepalive.said(START + 3.5)
    assert keepalive.due(START + 4.4) is Due.NOTHING
    assert keepalive.next_look() == START + 4.5
    assert keepalive.due(START + 4.5) is Due.PING


def test_who_speaks_but_hears_nothing_asks(keepalive: Keepalive) -> None:
    keepalive.said(START + 0.9)
    assert keepalive.due(START + 1.0) is Due.PING


def test_who_did_not_run_does_not_blame_the_peer(keepalive: Keepalive) -> None:
    assert keepalive.due(START + 1.0) is Due.PING
    assert keepalive.due(START + 50.0, late=0.3) is Due.PONG
    assert keepalive.next_look() == START + 51.0
    assert keepalive.due(START + 52.9) is Due.PONG
    assert keepalive.due(START + 53.0, late=0.2) is Due.SILENT


def test_without_an_interval_nothing_is_ever_due() -> None:
    keepalive = Keepalive(None, 3.0, START)
    assert keepalive.next_look() is None
    assert keepalive.due(START + 100) is Due.NOTHING


def test_it_can_begin_again_with_other_limits(keepalive: Keepalive) -> None:
    assert keepalive.due(START + 1.0) is Due.PING
    keepalive.restart(2.0, 5.0, START + 10)
    assert keepalive.next_look() == START + 12
    assert [keepalive.due(START + 10 + second) for second in (1, 2, 6)] == [Due.NOTHING, Due.PING, Due.PONG]
    assert keepalive.due(START + 17) is Due.SILENT


# Slow lines


@pytest.mark.parametrize("rate", [FLOOR_BYTES, 16_000, 60_000])
def test_a_long_message_on_a_slow_line_is_a_sign_of_life(keepalive: Keepalive, rate: int) -> None:
    now = START
    for _ in range(500):  # a TLS record is nothing until it is whole
        now += 16_384 / rate / 4
        assert keepalive.due(now) not in (Due.SILENT, Due.SLOW)
        keepalive.trickled(16_384 // 4, now)


@pytest.mark.parametrize("piece", [1, 100, 1000])
def test_a_trickle_is_none(keepalive: Keepalive, piece: int) -> None:
    for second in range(1, 12):
        if keepalive.due(START + second) is Due.SLOW:
            assert second >= 4
            return
        keepalive.trickled(piece, START + second)
    pytest.fail("a trickle keeps a connection")


def test_a_trickle_before_the_ping_counts_for_little(keepalive: Keepalive) -> None:
    keepalive.trickled(FLOOR_BYTES // 2, START + 0.8)  # half a second's worth, 0.8 s after anything else
    assert keepalive.next_look() == START + 1.0
    assert keepalive.due(START + 1.4) is Due.PONG
    assert keepalive.due(START + 1.5) is Due.PING


def test_bytes_behind_a_ping_put_the_end_off_by_what_they_are_worth(keepalive: Keepalive) -> None:
    assert keepalive.due(START + 1.0) is Due.PING
    keepalive.trickled(FLOOR_BYTES, START + 3.5)  # a second's worth
    assert keepalive.due(START + 4.9) is Due.PONG
    assert keepalive.due(START + 5.0) is Due.SLOW


def test_a_peer_that_froze_within_a_message_was_not_slow(keepalive: Keepalive) -> None:
    keepalive.trickled(1, START + 0.5)
    assert keepalive.due(START + 1.5) is Due.PING
    assert keepalive.due(START + 4.5) is Due.SILENT


# Allowances


def test_an_allowance_comes_back_with_time() -> None:
    allowance = Allowance(3, 2.0, START)
    assert [allowance.spend(START) for _ in range(4)] == [True, True, True, False]
    assert [allowance.spend(START + 1.0) for _ in range(3)] == [True, True, False]
    assert [allowance.spend(START + 101.0) for _ in range(4)] == [True, True, True, False]
