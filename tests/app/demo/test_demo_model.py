"""Several versions of Trine on one machine, each with a shared demo model of its own; fakes stand for what takes a minute."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from app.demo import demo_model
from app.sharing import share as sharing
from engine.errors import OutputError, SessionStopped

DAY = 86_400


class Version:
    """A version of Trine: what it calls its model, and what it does to make it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
        self.made = 0
        self.making: Callable[[Path], None] = lambda out: None
        monkeypatch.setattr(demo_model, "made_by", lambda: digest)
        monkeypatch.setattr(sharing, "share_model", self._share)

    def _share(self, source: Path, out: Path, name: str, context: int | None, report: object) -> None:
        del source, name, context, report
        self.made += 1
        (out / "node1").mkdir(parents=True)
        try:
            self.making(out)
        except OutputError:
            shutil.rmtree(out)
            raise
        (out / "client").mkdir()
        (out / "client" / "manifest.json").touch()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo_model, "cache", lambda: tmp_path)
    monkeypatch.setattr(demo_model, "checkpoint_file", lambda: tmp_path / "model.gguf")
    return tmp_path / "shared"


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Version]:
    return lambda digest: Version(monkeypatch, digest)


def last_used(directory: Path, ago: float) -> None:
    os.utime(directory, (time.time() - ago,) * 2)


def there(root: Path, digest: str, ago: float) -> None:
    """Another version's model, which was used last so many seconds ago."""
    directory = root / f"{demo_model.NAME}-{digest}"
    (directory / "client").mkdir(parents=True)
    (directory / "client" / "manifest.json").touch()
    last_used(directory, ago)


def models(root: Path) -> set[str]:
    return {path.name.rpartition("-")[2] for path in root.glob("*-*")}


def test_it_is_shared_once(root: Path, version: Callable[[str], Version]) -> None:
    one = version("one")
    assert demo_model.ensure_demo_model() == demo_model.ensure_demo_model() == root / f"{demo_model.NAME}-one"
    assert one.made == 1
    assert models(root) == {"one"}


def test_two_versions_in_turn_keep_theirs(root: Path, version: Callable[[str], Version]) -> None:
    for digest, made in (("one", 1), ("two", 1), ("one", 0), ("two", 0)):
        now = version(digest)
        directory = demo_model.ensure_demo_model()
        assert now.made == made
        for path in root.glob(f"{demo_model.NAME}-*"):
            last_used(path, 10 * DAY if path != directory else 9 * DAY)
    assert models(root) == {"one", "two"}


def test_what_nobody_has_used_for_long_goes_once_the_own_one_stands(root: Path, version: Callable[[str], Version]) -> None:
    for digest, ago in (("old", 5 * DAY), ("older", 9 * DAY), ("yesterdays", 2 * DAY), ("todays", 3600), ("last", 60)):
        there(root, digest, ago)

    def all_are_there(out: Path) -> None:
        del out
        assert {"old", "older", "yesterdays", "todays", "last"} < models(root)

    version("new").making = all_are_there
    demo_model.ensure_demo_model()
    assert models(root) == {"new", "last", "todays"}


def test_one_that_is_in_use_stays(root: Path, version: Callable[[str], Version]) -> None:
    version("running")
    with demo_model.demo_model() as running:
        for digest in ("a", "b", "c"):
            there(root, digest, 5 * DAY)
        last_used(running, 9 * DAY)
        version("new")
        demo_model.ensure_demo_model()
        assert models(root) >= {"running", "new"}
        assert (running / "client" / "manifest.json").exists()
    last_used(running, 9 * DAY)
    version("newer")
    demo_model.ensure_demo_model()
    assert "running" not in models(root)


def test_no_room_is_one_sentence_and_nothing_goes(root: Path, version: Callable[[str], Version]) -> None:
    for digest in ("a", "b"):
        there(root, digest, 5 * DAY)

    def full(out: Path) -> None:
        raise OutputError("cannot be written: 1.1 GB or more are needed, 3.0 MB are free there", out)

    version("new").making = full
    with pytest.raises(OutputError) as refused:
        demo_model.ensure_demo_model()
    assert str(refused.value) == (
        f"{root}: the demo's model cannot be written: 1.1 GB or more are needed, 3.0 MB are free there "
        "(2 of other versions of Trine lie there, each 1.3 GB: remove what you do not need)"
    )
    assert models(root) == {"a", "b"}


def test_what_was_killed_in_the_middle_is_cleaned_up(root: Path, version: Callable[[str], Version]) -> None:
    """Of a sharing, of a removal, and what an earlier version left under the model's own name."""
    for left in (f".unfinished-{demo_model.NAME}-one", f".unfinished-{demo_model.NAME}-gone", f"{demo_model.NAME}-one"):
        (root / left / "node1").mkdir(parents=True)
        (root / left / "node1" / "masked.bin").touch()
    assert version("one").made == 0
    directory = demo_model.ensure_demo_model()
    assert {path.name for path in root.iterdir()} == {".lock", directory.name}
    assert {path.name for path in directory.iterdir()} == {"node1", "client"}
    assert not list((directory / "node1").iterdir())


def test_who_comes_while_another_shares_waits_and_says_so(root: Path, version: Callable[[str], Version]) -> None:
    begun, go_on, waits = Event(), Event(), Event()

    def slowly(out: Path) -> None:
        del out
        begun.set()
        assert go_on.wait(20)

    one = version("one")
    one.making = slowly
    found: list[Path] = []
    first = Thread(target=lambda: found.append(demo_model.ensure_demo_model()))
    second = Thread(target=lambda: found.append(demo_model.ensure_demo_model(lambda what, done, of: waits.set())))
    first.start()
    assert begun.wait(20)
    second.start()
    assert waits.wait(20)

    def leave(what: str, done: int, of: int) -> None:
        raise SessionStopped

    with pytest.raises(SessionStopped):  # as a window does that is closed
        demo_model.ensure_demo_model(leave)
    go_on.set()
    first.join(20)
    second.join(20)
    assert found == [root / f"{demo_model.NAME}-one"] * 2
    assert one.made == 1


def refuse() -> None:
    raise AssertionError("it is held already")


def test_who_has_a_model_does_not_wait_for_another_version(root: Path, version: Callable[[str], Version]) -> None:
    version("one")
    demo_model.ensure_demo_model()
    with demo_model.alone(root, refuse):
        assert demo_model.ensure_demo_model().name.endswith("-one")


SHARING = """
import sys, time
from pathlib import Path
from app.demo import demo_model
from app.sharing import share as sharing
root = Path(sys.argv[1])
def share(source, out, name, context, report):
    (out / "node1").mkdir(parents=True)
    (out / "node1" / "masked.bin").write_bytes(bytes(1000))
    print("sharing", flush=True)
    sys.stdin.read(1)
    (out / "client").mkdir()
    (out / "client" / "manifest.json").touch()
demo_model.cache = lambda: root
demo_model.checkpoint_file = lambda: root
sharing.share_model = share
print(demo_model.ensure_demo_model().name, flush=True)
"""


def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SHARING, str(tmp_path)]
    processes = []
    try:
        for _ in range(2):
            processes.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        ready = [process for process in processes if process.stdout is not None]
        first, second = ready
        # One shares, the other one waits for it: that one is killed.

        (sharing,), _, _ = select.select([process.stdout for process in ready], [], [], 60)
        assert sharing.readline() == "sharing\n"
        killed, other = (first, second) if sharing is first.stdout else (second, first)
        killed.send_signal(signal.SIGKILL)
        killed.wait(20)
        assert other.stdout is not None
        assert other.stdout.readline() == "sharing\n"
        out, _ = other.communicate("x", timeout=60)
        assert out.startswith(demo_model.NAME)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    (model,) = (tmp_path / "shared").glob("[!.]*")
    assert {path.name for path in model.iterdir()} == {"node1", "client"}
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {".lock", model.name}
