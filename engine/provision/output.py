"""Where a sharing is written: directories that go again when something fails, and one error for what a file system refuses."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import ENOTDIR
from pathlib import Path

from engine.errors import InputError, OutputError

PARTIES = ("node1", "node2", "client")
PRIVATE = 0o700


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Whatever the file system refuses is one `OutputError`; what is read in here raises `ModelError` where it is read."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error}); nothing was left there", out) from error


def make_directory(out: Path, undo: ExitStack) -> None:
    """`out` (mode 0700 if it is new) with its parents; what was made here goes again with `undo`, if it is empty then.

    Raises:
        InputError: it is there and holds something.
    """
    if out.is_dir():
        held = sorted(path.name for path in out.iterdir())
        if held:
            raise InputError(f"{out}: holds {held[0]!r} already; name a new or an empty directory")
    missing = [path for path in (out, *out.parents) if not path.exists()]
    for path in reversed(missing):
        undo.callback(_remove_empty, path)  # before it is made: a signal may come between
        path.mkdir(mode=PRIVATE if path == out else 0o777)
    if not out.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))


def make_directories(out: Path, undo: ExitStack) -> None:
    """`out`, and one directory a party, which goes with all that is in it."""
    make_directory(out, undo)
    for party in PARTIES:
        undo.callback(shutil.rmtree, out / party, ignore_errors=True)
        (out / party).mkdir(mode=PRIVATE)


def require_space(needed: int, out: Path) -> None:
    """Refuse before an hour's work what would not fit: `needed` bytes."""
    free = shutil.disk_usage(out).free
    if needed > free:
        raise OutputError(f"cannot be written: {size(needed)} or more are needed, {size(free)} are free there", out)


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()
