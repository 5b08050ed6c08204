"""Certificates that are over, or not valid yet, or soon will be: whose, since when, and what to do."""

from __future__ import annotations

import datetime
import io
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from engine.errors import LinkError
from engine.link import Identity, accept, client_tls, connect, make_identity, server_tls
from engine.link import tls as tls_module
from engine.link import validity as validity_module
from engine.link.tls import validity
from engine.link.validity import WARN_DAYS, today
from party_node.certificates import warn
from party_node.log import make_log


def made(monkeypatch: pytest.MonkeyPatch, *, ago: float = 0, days: int = 365) -> Identity:
    """An identity that was made so many days ago, or will be (below 0), for so many days."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) - datetime.timedelta(days=ago)

    class Clock:
        datetime, timedelta, UTC = Then, datetime.timedelta, datetime.UTC

    with monkeypatch.context() as patch:
        patch.setattr(tls_module, "datetime", Clock)
        return make_identity("party", days=days)


def day(days: float) -> str:
    return f"{today() + datetime.timedelta(days=days):%Y-%m-%d}"


def both_hear(server: Identity, client: Identity, others: tuple[Identity, ...] = ()) -> tuple[str, str]:
    """(what the caller is told, what the one that is called logs)."""
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tls = server_tls(server, [client.certificate, *(other.certificate for other in others)])
        answer = threads.submit(lambda: accept(listener.accept()[0], tls, {"/session": {client.fingerprint}}))
        with pytest.raises(LinkError) as caller:
            connect("127.0.0.1", listener.getsockname()[1], "/session", client_tls(client, server.certificate), party="node 1")
        with pytest.raises(LinkError) as called:
            answer.result(20)
    return str(caller.value), called.value.what


DO = "make a new one with `trine-model identity` and give it to the other parties"


def test_a_callers_certificate_that_has_expired(monkeypatch: pytest.MonkeyPatch, server_identity: Identity) -> None:
    said, logged = both_hear(server_identity, made(monkeypatch, ago=40, days=30))
    over = f"expired on {day(-10)} (this machine's clock says {day(0)})"
    assert said == f"node 1: it does not take this party's certificate, which {over}: {DO}"
    assert logged == f"its certificate {over}: its owner has to {DO}"


def test_one_of_several_callers_certificates_that_have_expired(
    monkeypatch: pytest.MonkeyPatch, server_identity: Identity, client_identity: Identity
) -> None:
    old = [made(monkeypatch, ago=40, days=30) for _ in range(2)]
    _, logged = both_hear(server_identity, old[0], (client_identity, old[1]))
    assert logged == f"its certificate is one of several that expired ({old[0].fingerprint[:8]}, {old[1].fingerprint[:8]}…)"


def test_the_certificate_of_who_is_called_has_expired(monkeypatch: pytest.MonkeyPatch, client_identity: Identity) -> None:
    said, logged = both_hear(made(monkeypatch, ago=40, days=30), client_identity)
    over = f"expired on {day(-10)} (this machine's clock says {day(0)})"
    assert said == f"node 1: its certificate {over}: its owner has to {DO}"
    assert logged == f"it does not take this party's certificate, which {over}: {DO}"


@pytest.mark.parametrize("whose", ["caller", "called"])
def test_a_certificate_that_is_not_valid_yet_says_that_a_clock_may_be_wrong(
    monkeypatch: pytest.MonkeyPatch, server_identity: Identity, client_identity: Identity, whose: str
) -> None:
    early = made(monkeypatch, ago=-3)
    ends = (server_identity, early) if whose == "caller" else (early, client_identity)
    for text in both_hear(*ends):
        assert f"is valid from {day(2)} " in text
        assert f"this machine's clock, which may be wrong, says {day(0)} " in text


@pytest.mark.parametrize(
    ("days", "words"), [(400, "by its clock this party's certificate has expired"), (-3, "or that clock is wrong")]
)
def test_a_certificate_that_holds_here_and_not_there_says_so(
    monkeypatch: pytest.MonkeyPatch, server_identity: Identity, days: float, words: str
) -> None:
    """The other side's clock is wrong, or this one's: here, what is said is told from this one's."""
    client = made(monkeypatch, ago=days, days=365)
    now = today() - datetime.timedelta(days=days)
    monkeypatch.setattr(validity_module, "today", lambda: now)
    said, _ = both_hear(server_identity, client)
    assert words in said
    assert f"{now + datetime.timedelta(days=365):%Y-%m-%d}" in said


def test_a_stranger_is_told_that_it_is_not_enrolled(
    server_identity: Identity, client_identity: Identity, stranger: Identity
) -> None:
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tls = server_tls(server_identity, [client_identity.certificate])
        answer = threads.submit(lambda: accept(listener.accept()[0], tls, {}))
        with pytest.raises(LinkError, match=rf"SHA-256 {stranger.fingerprint[:16]}….*, which is not enrolled there"):
            connect("127.0.0.1", listener.getsockname()[1], "/session", client_tls(stranger, server_identity.certificate))
        with pytest.raises(LinkError, match="its certificate is not the pinned one"):
            answer.result(20)


def test_a_month_before_there_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    holds = validity(made(monkeypatch, days=365).certificate)
    last = holds.until
    for days, words in ((WARN_DAYS + 0.1, ""), (WARN_DAYS - 0.1, "in 29 days"), (1.5, "in 1 day:"), (0.5, "in 0 days")):
        notice = holds.notice(last - datetime.timedelta(days=days))
        assert notice.startswith(f"expires on {last:%Y-%m-%d}") == bool(words)
        assert words in notice
        assert notice.endswith(DO) == bool(words)
    assert holds.notice(last + datetime.timedelta(days=3)).startswith(f"expired on {last:%Y-%m-%d} (")
    early = holds.notice(holds.since - datetime.timedelta(hours=1))
    assert "clock, which may be wrong" in early
    assert DO not in early


def test_a_node_logs_whose_certificates_end(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    parties = {"this node": (0, 20), "the other node": (0, 400), "client 1": (40, 30), "client 2": (-3, 400)}
    warn(
        {whose: validity(made(monkeypatch, ago=ago, days=days).certificate) for whose, (ago, days) in parties.items()},
        make_log(1, written),
    )
    entries = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(entry["event"], entry["level"], entry["whose"]) for entry in entries] == [
        ("certificate", "warning", whose) for whose in ("this node", "client 1", "client 2")
    ]
    for entry, words in zip(entries, (f"expires on {day(20)}", f"expired on {day(-10)}", "is valid from "), strict=True):
        assert entry["what"].startswith(words)
        assert re.fullmatch("[0-9a-f]{16}", entry["sha256"])


def test_what_is_made_for_one_run_holds_at_any_time() -> None:
    for year in (1971, 2026, 2500, 9999):
        now = datetime.datetime(year, 6, 1, tzinfo=datetime.UTC)
        assert validity(make_identity("demo", days=None).certificate).notice(now) == ""
