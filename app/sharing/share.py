"""Share a checkpoint, or compare what was shared with it: what the command line and the demo ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.models.config import ModelSpec
    from engine.provision.check import Accuracy
    from engine.provision.share import Report

__all__ = ["check_model", "checkpoint_name", "share_model"]


def share_model(
    source: Path,
    out: Path,
    name: str,
    context: int | None,
    report: Report,
    say: Callable[[str], None] = lambda sentence: None,
) -> ModelSpec:
    """Share the checkpoint at `source` (a Hugging Face directory or a GGUF file) into `out`.

    `say` is told what its owner should know.

    `context`: the longest conversation in tokens; None: 2048, or fewer if the model was made for fewer.

    Raises:
        InputError: the name or the context cannot be had.
        ModelError: it cannot be used.
        OutputError: `out` cannot be written. In each case nothing is left behind.
    """
    from app.sharing.reading import read_calibration
    from engine.checkpoint.open import open_checkpoint
    from engine.provision.share import ShareOptions, share

    text = read_calibration(source)
    options = ShareOptions(name, context, text.texts, text.prefix, text.eos)
    return share(open_checkpoint(source, text.model), out, options, report, say)


def checkpoint_name(model: Path) -> str:
    """What a checkpoint is called where it lies: all of its folder's or its file's name, but for .gguf.

    In a cache of Hugging Face's (models--OWNER--NAME/snapshots/COMMIT) it is NAME. A link's own name counts, because the files
    of such a cache are links to files without one.
    """
    place = Path(os.path.abspath(model))
    if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
        return place.parent.parent.name.split("--", 2)[-1]
    is_file = place.suffix.lower() == ".gguf" and not place.is_dir()
    return place.stem if is_file else place.name


def check_model(shared: Path, model: Path, tokens: int, report: Report) -> tuple[Accuracy, dict[str, float]]:
    """(the accuracy, each window's use by LAYER.NAME or NAME) of a shared model, all three parties in this process."""
    from app.sharing.reading import read_checking
    from engine.checkpoint.open import open_checkpoint
    from engine.parties.trio import Trio
    from engine.provision import check as checking
    from engine.provision.pack import ROLES, load_node_pack, load_sharing
    from engine.provision.weights import WeightSource
    from engine.provision.window_use import table_name, window_use

    client = load_sharing(shared)
    packs = [load_node_pack(shared / f"node{role}") for role in ROLES]
    spec = client.spec

    def trio(context: int) -> Trio:
        return Trio(spec, client.seeds, packs, prefix=len(spec.prefix), context=context)

    text = read_checking(model, tokens)
    pieces, checkpoint = text.texts, open_checkpoint(model, text.model)
    checking.require_shape(spec, checkpoint)
    weights = WeightSource(checkpoint)
    total = sum(map(len, pieces))
    accuracy, seen = checking.check(trio, weights, spec, pieces, lambda done: report("comparing", done, total))
    return accuracy, {table_name(spec, key): value for key, value in window_use(spec, seen).items()}
