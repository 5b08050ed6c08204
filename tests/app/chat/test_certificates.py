"""What a person hears of certificates; and the demo's, which no clock makes invalid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import terminal
from app.local_party import Endpoint, Endpoints, Status
from engine.link import make_identity
from tests.app.cli.test_cli import given, trine
from tests.app.scripted import END, ScriptedConversation, tokens_of

__all__ = ["given"]  # a fixture


def test_each_certificate_that_ends_soon_is_named() -> None:
    client, one, two = make_identity("c", days=10), make_identity("n", days=400), make_identity("n", days=-1)
    parties = Endpoints(client, (Endpoint("h", 1, one.certificate), Endpoint("h", 2, two.certificate)))
    own, other = parties.notices()
    assert own.startswith("your certificate expires on ")
    assert other.startswith("node 2's certificate expired on ")


@pytest.mark.parametrize("command", [["ask", "q"], ["demo", "--terminal"]], ids=["ask", "demo"])
def test_the_terminal_says_it_on_stderr(
    given: Callable[..., object],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    given([[*tokens_of("yes"), END]])
    monkeypatch.setattr(ScriptedConversation, "status", Status(notices=("node 1's certificate expires soon: do something",)))
    result = trine(*command, text="q\n")
    assert "Node 1's certificate expires soon: do something.\n" in result.stderr
    assert result.stdout.strip() == "yes"


def test_nothing_is_said_of_certificates_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    parties = Endpoints(make_identity("c"), (Endpoint("h", 1, make_identity("n").certificate),) * 2)
    terminal.say_notices(parties.notices())
    assert capsys.readouterr() == ("", "")


# The wall clock, moved by as many seconds as the file $JUMP says; read anew at each call.
SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long shift(void) {
  char read_[32] = {0};
  int file = open(getenv("JUMP"), O_RDONLY);
  if (file < 0) return 0;
  long count = read(file, read_, 31);
  close(file);
  return count > 0 ? atol(read_) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
  return failed;
}
time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec fine;
  clock_gettime(CLOCK_REALTIME, &fine);
  now->tv_sec = fine.tv_sec;
  now->tv_usec = fine.tv_nsec / 1000;
  return 0;
}
"""

JUMPING = """
import datetime, os, sys
from pathlib import Path
from app.chat.chat import Settings
from app.demo.start import start_demo
jump = Path(os.environ["JUMP"])
with start_demo(Settings(max_tokens=3), Path(sys.argv[1]), lambda what, done, of: None) as running:
    for days in (31, -2, 0.01, 400, -15000, 40000):
        jump.write_text(str(int(days * 86400)))
        events = []
        running.chat.send("hello", events.append)  # in the session that stands
        print(datetime.datetime.now().year, type(events[-1]).__name__, events[-1].reason.value)
        running.chat.close()
        running.chat.send("and now?", events.append)  # in another one
        print(datetime.datetime.now().year, type(events[-1]).__name__, events[-1].reason.value)
        running.chat.new()
"""


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="the clock's shim is compiled")
def test_the_demo_goes_on_whatever_the_clock_does(small_shared: Path, tmp_path: Path) -> None:
    """Longer than any certificate's life, or before its beginning: in the session that stands and in new ones."""
    source, shim, jump = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "jump"
    source.write_text(SHIM)
    jump.write_text("0")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", JUMPING, small_shared],
        env=os.environ | {"LD_PRELOAD": str(shim), "JUMP": str(jump)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1:] for line in lines] == [["Done", "length"]] * 12, done.stderr
    assert len({line[0] for line in lines}) >= 4  # the clock did jump
