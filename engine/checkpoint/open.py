"""Open a checkpoint, whatever its format."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.checkpoint import Checkpoint, ModelText
from engine.checkpoint.fields import require_file
from engine.checkpoint.gguf_file import GgufCheckpoint
from engine.checkpoint.huggingface import HuggingFaceCheckpoint
from engine.errors import ModelError

__all__ = ["open_checkpoint"]


def open_checkpoint(path: Path, text: ModelText | None = None) -> Checkpoint:
    """The model at ``path``: a Hugging Face directory, or a GGUF file.

    ``text`` is taken in place of what the files say, if another process has read that already.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    try:
        if path.is_dir():
            return HuggingFaceCheckpoint(path, text)
        if not path.exists():
            raise ModelError("no such file or directory", path)
        require_file(path)
        return GgufCheckpoint(path, text)
    except OSError as error:  # a directory on the way may not be entered
        raise ModelError(f"cannot be read: {error.strerror or error}", error.filename or path) from error
