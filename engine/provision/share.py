"""Share a checkpoint: calibrate it, mask it under two fresh seeds, write two node packs and the client's file.

Nothing is left behind when something fails.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import save_file

from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.models.functions import tables
from engine.provision import calibrate, masking, pack
from engine.provision.checkpoint import Checkpoint
from engine.provision.tokenizer import save_tokenizer
from engine.provision.weights import WeightSource

Report = Callable[[str, int, int], None]  #: (what is being done, done, of)
PACK_MODE = 0o700


@dataclass(frozen=True)
class Options:
    """What the model's owner chooses."""

    name: str
    context: int
    texts: Sequence[Sequence[int]]  #: token ids for calibration, one list a text
    prefix: Sequence[int]  #: the public prefix
    eos: Sequence[int]


def share(checkpoint: Checkpoint, out: Path, options: Options, report: Report = lambda what, done, of: None) -> ModelSpec:
    """Write DIR/node1, DIR/node2 and DIR/client; returns the metadata.

    Raises:
        ModelError: the output exists, the model cannot be run, or its wrap budget is above 2^-12 a token.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ModelError("the output directory is not empty", out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, partial, ignore_errors=True)
        weights = WeightSource(checkpoint)
        spec = calibrated_spec(checkpoint, weights, options, report)
        seeds = masking.fresh_seeds()
        try:
            _write(partial, spec, weights, seeds, report)
        except OverflowError as error:
            raise ModelError(f"a weight is too large: {error}", checkpoint.path) from error
        _write_client(partial, spec, checkpoint, seeds)
        if out.exists():
            out.rmdir()
        partial.rename(out)
        undo.pop_all()
    return spec


def calibrated_spec(checkpoint: Checkpoint, weights: WeightSource, options: Options, report: Report) -> ModelSpec:
    """Measure the model on the texts."""
    s = checkpoint.shape
    base: dict[str, object] = {
        "name": options.name,
        "vocab": s.vocab,
        "d_model": s.d_model,
        "heads": s.heads,
        "kv_heads": s.kv_heads,
        "head_dim": s.head_dim,
        "d_ffn": s.d_ffn,
        "rope_theta": s.rope_theta,
        "rms_eps": s.rms_eps,
        "context": min(options.context, s.context),
        "prefix": tuple(options.prefix),
        "eos": tuple(options.eos),
        "weight_bits": calibrate.weight_bits(weights.deviations()),
    }
    provisional = calibrate.provisional(base, s.layers)
    total = sum(len(text) for text in options.texts)
    seen, tokens = calibrate.observe(
        provisional, weights, options.texts, lambda done: report("measuring the model on text", done, total)
    )
    try:
        spec = calibrate.calibrated(provisional, seen, tokens)
    except (ValueError, OverflowError) as error:
        raise ModelError(f"no look-up windows fit this model: {error}", checkpoint.path) from error
    if spec.wrap_budget > calibrate.WRAP_LIMIT:
        raise ModelError(
            f"a token would be garbled with probability {spec.wrap_budget:.2g}, more than 2^-12 is not served", checkpoint.path
        )
    return spec


def _write(root: Path, spec: ModelSpec, weights: WeightSource, seeds: tuple[bytes, bytes], report: Report) -> None:
    """Both nodes' directories; masked.bin is written once and linked (copied where links are refused)."""
    nodes = [root / "node1", root / "node2"]
    for node in nodes:
        node.mkdir(mode=PACK_MODE)
    _write_masked(nodes[0] / "masked.bin", spec, weights, seeds, report)
    (nodes[0] / "spec.json").write_text(spec.model_dump_json(indent=1), "utf-8")
    save_file(tables(spec), nodes[0] / "tables.safetensors")
    alike = {name: pack.describe(nodes[0] / name) for name in ("spec.json", "tables.safetensors", "masked.bin")}
    for name in alike:
        try:
            os.link(nodes[0] / name, nodes[1] / name)
        except OSError:
            shutil.copyfile(nodes[0] / name, nodes[1] / name)
    model = pack.model_digest(alike)
    digests = {}
    for role, (node, seed) in enumerate(zip(nodes, seeds, strict=True), 1):
        pack.write_secret(node / "seed", seed)
        files = alike | {"seed": pack.describe(node / "seed")}
        digests[str(role)] = pack.write_manifest(node, "node", role, model, files, {})
    client = root / "client"
    client.mkdir(mode=PACK_MODE)
    (client / "packs").write_text("\n".join([model, digests["1"], digests["2"]]), "utf-8")


def _write_client(root: Path, spec: ModelSpec, checkpoint: Checkpoint, seeds: tuple[bytes, bytes]) -> None:
    client = root / "client"
    model, one, two = (client / "packs").read_text("utf-8").split("\n")
    (client / "packs").unlink()
    (client / "spec.json").write_text(spec.model_dump_json(indent=1), "utf-8")
    pack.write_secret(client / "seeds", seeds[0] + seeds[1])
    save_tokenizer(checkpoint.tokenizer, client / "tokenizer.json")
    names = ["spec.json", "seeds", "tokenizer.json"]
    if checkpoint.chat_template is not None:
        (client / "chat_template.jinja").write_text(checkpoint.chat_template, "utf-8")
        names.append("chat_template.jinja")
    files = {name: pack.describe(client / name) for name in names}
    pack.write_manifest(client, "client", 0, model, files, {"1": one, "2": two})


def _write_masked(path: Path, spec: ModelSpec, weights: WeightSource, seeds: tuple[bytes, bytes], report: Report) -> None:
    total, done = pack.masked_words(spec), 0
    with path.open("xb") as file:
        for _, words in masking.masked_words(spec, weights, seeds):
            words.tofile(file)
            done += words.size
            report("writing masked weights", done, total)
