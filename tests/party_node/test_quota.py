"""Rows a client and day: counted over restarts, whatever becomes of the file or the clock."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.local_party import NodeConversation
from engine.errors import ProtocolError
from party_node.limits import Limits
from party_node.log import make_log
from party_node.quota import Quota, state_directory
from tests.models.shared_small import Follow, SharedSmall
from tests.party_node.rig import QUICK, Log, Pair, identities

ANNE, BOB = "a" * 64, "b" * 64


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def move(self, **by: int) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "rows.json"


def refused(quota: Quota, client: str, rows: int = 1) -> str:
    with pytest.raises(ProtocolError) as caught:
        quota.spend(client, rows)
    assert caught.value.code == "row-limit"
    return str(caught.value)


def test_so_many_rows_a_certificate_and_day(clock: Clock) -> None:
    quota = Quota(20, now=clock)
    quota.check(ANNE)
    quota.spend(ANNE, 17)
    assert "20 rows a day, which are used; the next ones from 2026-12-01 00:00 UTC on" in refused(quota, ANNE, 4)
    quota.spend(ANNE, 3)
    with pytest.raises(ProtocolError):
        quota.check(ANNE)
    quota.spend(BOB, 20)
    clock.move(hours=1)
    quota.spend(ANNE, 20)
    assert "2026-12-02 00:00 UTC" in refused(quota, ANNE)


def test_without_a_limit_nothing_is_counted_or_kept(path: Path) -> None:
    quota = Quota(0, path)
    quota.spend(ANNE, 10**9)
    assert not path.parent.exists()


def test_a_restart_gives_nobody_anything(path: Path, clock: Clock) -> None:
    """Whenever it is: the file is ahead of what was answered."""
    for rows in (150, 17, 1):
        Quota(1000, path, now=clock).spend(ANNE, rows)
    used = json.loads(path.read_text())["rows"][ANNE]
    assert 168 <= used <= 168 + 3 * 100
    refused(Quota(1000, path, now=clock), ANNE, 1001 - used)
    Quota(1000, path, now=clock).spend(BOB, 1000)
    clock.move(days=1)
    Quota(1000, path, now=clock).spend(ANNE, 1000)


def test_the_file_is_its_owners_and_written_once_for_many_rows(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    honest = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (written.append(str(names[1])), honest(*names)))
    quota = Quota(1000, path, now=clock)
    for _ in range(250):
        quota.spend(ANNE, 1)
    assert 1 <= len(written) <= 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("away", "kept"), [({"days": -1}, True), ({"days": -400}, True), ({"minutes": -30}, True), ({"days": 1}, False)]
)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_jumps(path: Path, clock: Clock, away: dict[str, int], kept: bool, restarted: bool) -> None:
    """Back: the counts go on, and end with the day that it then is, however wrong it was. Forward: a new day."""
    quota = Quota(20, path, now=clock)
    quota.spend(ANNE, 20)
    clock.move(**away)
    quota = Quota(20, path, now=clock) if restarted else quota
    if kept:
        refused(quota, ANNE)
        clock.move(days=1)
    quota.spend(ANNE, 20)
    refused(quota, ANNE)


DAMAGED = {
    "nothing": b"",
    "no JSON": b"\xff{",
    "cut off": b'{"version":1,"day":"2026-11-30","rows":{"' + ANNE.encode(),
    "another version": b'{"version":2,"day":"2026-11-30","rows":{}}',
    "no fingerprint": b'{"version":1,"day":"2026-11-30","rows":{"../x":1}}',
    "less than nothing": b'{"version":1,"day":"2026-11-30","rows":{"' + ANNE.encode() + b'":-5}}',
    "no day": b'{"version":1,"day":"tomorrow","rows":{}}',
    "too long": b" " * (2 << 20),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_put_aside_and_said(path: Path, clock: Clock, case: str) -> None:
    path.parent.mkdir()
    path.write_bytes(DAMAGED[case])
    log = Log()
    quota = Quota(20, path, make_log(1, log), clock)
    assert log.wait(event="row counts lost", why="is damaged")["level"] == "error"
    assert path.with_name("rows.json.damaged").read_bytes() == DAMAGED[case]
    quota.spend(ANNE, 20)
    refused(Quota(20, path, now=clock), ANNE)


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_what_is_no_file_is_neither_read_nor_followed(path: Path, clock: Clock, kind: str) -> None:
    path.parent.mkdir()
    target = path.with_name("target")
    target.write_bytes(b'{"version":1,"day":"2026-11-30","rows":{}}')
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(target)
    else:
        path.mkdir()
    log = Log()
    quota = Quota(20, path, make_log(1, log), clock)
    log.wait(event="row counts lost")
    quota.spend(ANNE, 20)
    assert path.is_file()
    assert not path.is_symlink()
    assert target.read_bytes() == b'{"version":1,"day":"2026-11-30","rows":{}}'


def test_what_cannot_be_written_is_said_and_counted_still(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    log = Log()
    quota = Quota(20, path, make_log(1, log), clock)
    with monkeypatch.context() as planted:
        planted.setattr(os, "fsync", full)
        for _ in range(20):
            quota.spend(ANNE, 1)
    refused(quota, ANNE)
    said = [entry for entry in log.entries if entry["event"] == "row counts not written"]
    assert [entry["why"] for entry in said] == ["No space left on device"]  # once a minute at most
    assert list(path.parent.iterdir()) == []
    quota.spend(BOB, 1)  # there is room again
    assert json.loads(path.read_text())["rows"] == {ANNE: 20, BOB: 20}


def test_where_a_service_keeps_its_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    assert state_directory() == tmp_path
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    assert state_directory() == tmp_path / "own" / "trine-node"


def test_50_000_rows_a_day_unless_it_is_said() -> None:
    assert Limits().daily_rows == 50_000


def test_a_client_that_has_had_its_rows_is_told_until_when(small: SharedSmall) -> None:
    """In the middle of an answer, whose words stay, and then before it has a place; prompts count as one row each."""
    follow = Follow(*small.answer(small.prompt(7), 4))
    with Pair(small, identities(), replace(QUICK, daily_rows=3)) as pair:
        with pair.open() as conversation:
            said: list[int] = []
            with pytest.raises(
                ProtocolError, match=r"row-limit: node [12] says: 3 rows a day.* from 20\d\d-\d\d-\d\d 00:00 UTC"
            ):
                said.extend(conversation.generate(small.prompt(7), max_tokens=4, choose=follow))
        with pytest.raises(ProtocolError, match="row-limit"):
            NodeConversation.open(pair.endpoints, small.client)
    assert not follow.wrong
