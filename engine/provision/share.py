"""Share a checkpoint: calibrate it, mask it under two fresh seeds, write two node packs and the client's file.

Nothing is left behind when something fails. A pack is complete when it has a manifest, which is written last; the
client's comes after both nodes', so a directory in which a sharing was killed is not taken for a shared model.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors.numpy import save

from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.tokenizer import save_tokenizer
from engine.errors import InputError, ModelError
from engine.host.memory import available_memory
from engine.models.config import ModelSpec
from engine.models.functions import tables
from engine.provision import calibrate, masking, pack, special_tokens
from engine.provision.fold import tensor_shapes
from engine.provision.output import make_directories, require_space, size, writing_to
from engine.provision.weights import WeightSource
from engine.ring.fixed import WORD_BYTES

Report = Callable[[str, int, int], None]  #: (what is being done, done, of)
MAX_NAME, MAX_PREFIX, MAX_CONTEXT = 200, 512, 1 << 17  #: as `ModelSpec` has them
CONTEXT = 2048  #: tokens, unless the owner says otherwise or the model was made for fewer
LEAST_CONTEXT = 32  #: and so many must be left behind the public prefix


@dataclass(frozen=True)
class ShareOptions:
    """What the model's owner chooses."""

    name: str
    context: int | None  #: the longest conversation in tokens; None: as many as the model takes, `CONTEXT` at most
    texts: Sequence[Sequence[int]]  #: token ids for calibration, one list a text
    prefix: Sequence[int]  #: the public prefix
    eos: Sequence[int]


def share(
    checkpoint: Checkpoint,
    out: Path,
    options: ShareOptions,
    report: Report = lambda what, done, of: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> ModelSpec:
    """Write DIR/node1, DIR/node2 and DIR/client; returns the metadata. `say` is told what the model's owner should know.

    Raises:
        InputError: the name or the context cannot be had, or the output holds something.
        ModelError: the model cannot be run, or its wrap budget is above 2^-12 a token.
        OutputError: the output cannot be written.
    """
    _require_name(options.name)
    context = chosen_context(checkpoint, options)
    words = [rows * columns for _, (rows, columns) in tensor_shapes(checkpoint.shape)]
    _require_memory(max(words), checkpoint.path)
    with ExitStack() as undo:
        with writing_to(out):
            make_directories(out, undo)
            require_space(WORD_BYTES * sum(words), out)
        weights = WeightSource(checkpoint)
        spec = calibrated_spec(checkpoint, weights, options, context, report, say)
        with writing_to(out):
            _write(out, spec, weights, checkpoint, report)
        undo.pop_all()
    return spec


def _require_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise InputError(f"a model's name has 1 to {MAX_NAME} printable characters; choose another with --name")


def chosen_context(checkpoint: Checkpoint, options: ShareOptions) -> int:
    """The longest conversation in tokens, as asked for; never another one without a word.

    Raises:
        InputError: the model was not made for so many, or there is no room behind the public prefix.
        ModelError: the public prefix is too long for any context.
    """
    most, prefix = min(checkpoint.shape.context, MAX_CONTEXT), len(options.prefix)
    least = prefix + LEAST_CONTEXT
    if prefix > MAX_PREFIX or least > most:
        what = f"conversations begin with the same {prefix} tokens, too many for a context of {most} (and {MAX_PREFIX} at most)"
        raise ModelError(what, checkpoint.path)
    context = max(min(CONTEXT, most), least) if options.context is None else options.context
    if context > most:
        whose = "the model was made for" if most == checkpoint.shape.context else "Trine takes"
        raise InputError(f"{checkpoint.path}: a context of {context} tokens is too long: {whose} {most} at most")
    if context < least:
        raise InputError(
            f"{checkpoint.path}: a context of {context} tokens is too short: {least} are needed, "
            f"{prefix} with which every conversation begins and {LEAST_CONTEXT} more"
        )
    return context


def _require_memory(largest: int, path: Path) -> None:
    """Refuse a model whose `largest` matrix (words; as it is stored, and twice in float64) is more than the machine has."""
    needed, available = 20 * largest, available_memory()
    if available is not None and needed > available:
        raise ModelError(f"sharing it takes {size(needed)} of memory or more, {size(available)} are available", path)


def calibrated_spec(
    checkpoint: Checkpoint,
    weights: WeightSource,
    options: ShareOptions,
    context: int,
    report: Report,
    say: Callable[[str], None],
) -> ModelSpec:
    """Measure the model on the texts."""
    provisional = _provisional(checkpoint, weights, options, context)
    total = sum(len(text) for text in options.texts)
    try:
        with np.errstate(all="ignore"):  # what overflows fits no window
            spec = calibrate.measured(
                provisional, weights, options.texts, lambda done: report("measuring the model on text", done, total), say
            )
    except (ValueError, OverflowError) as error:
        what = _complaint(error) if isinstance(error, ValidationError) else str(error)
        raise ModelError(f"no look-up windows fit what this model computes on text: {what}", checkpoint.path) from error
    if spec.wrap_budget > calibrate.WRAP_LIMIT:
        raise ModelError(
            f"a token would be garbled with probability {spec.wrap_budget:.2g}, more than 2^-12 is not served", checkpoint.path
        )
    return spec


def _provisional(checkpoint: Checkpoint, weights: WeightSource, options: ShareOptions, context: int) -> ModelSpec:
    """The model's shape, before anything was measured."""
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
        "context": context,
        "prefix": tuple(options.prefix),
        "eos": tuple(options.eos),
        "weight_bits": calibrate.weight_bits(weights.deviations()),
    }
    try:
        return calibrate.provisional(base, s.layers)
    except ValidationError as error:
        raise ModelError(f"Trine does not run a model of this shape: {_complaint(error)}", checkpoint.path) from error


def _complaint(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")


def _write(out: Path, spec: ModelSpec, weights: WeightSource, checkpoint: Checkpoint, report: Report) -> None:
    seeds = masking.fresh_seeds()
    try:
        model, packs = _write_nodes(out, spec, weights, seeds, report)
    except OverflowError as error:
        raise ModelError(f"a weight is too large: {error}", checkpoint.path) from error
    _write_client(out / "client", spec, checkpoint, seeds, model, packs)


def _write_nodes(
    root: Path, spec: ModelSpec, weights: WeightSource, seeds: tuple[bytes, bytes], report: Report
) -> tuple[str, dict[str, str]]:
    """Both nodes' directories; masked.bin is written once and linked (copied where links are refused).

    Returns the digest of what they hold alike, and each role's pack digest.
    """
    nodes = [root / "node1", root / "node2"]
    _write_masked(nodes[0] / "masked.bin", spec, weights, seeds, report)
    (nodes[0] / "spec.json").write_text(spec.model_dump_json(indent=1), "utf-8")
    (nodes[0] / "tables.safetensors").write_bytes(save(tables(spec)))
    alike = {name: pack.describe(nodes[0] / name) for name in pack.ALIKE}
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
    return model, digests


def _write_client(
    client: Path,
    spec: ModelSpec,
    checkpoint: Checkpoint,
    seeds: tuple[bytes, bytes],
    model: str,
    packs: dict[str, str],
) -> None:
    (client / "spec.json").write_text(spec.model_dump_json(indent=1), "utf-8")
    pack.write_secret(client / "seeds", seeds[0] + seeds[1])
    save_tokenizer(checkpoint.tokenizer, client / "tokenizer.json")
    template = checkpoint.chat_template
    special_tokens.write_special_tokens({} if template is None else template.tokens, client)
    names = ["spec.json", "seeds", "tokenizer.json", special_tokens.TOKENS_FILE]
    if template is not None:
        (client / "chat_template.jinja").write_text(template, "utf-8")
        names.append("chat_template.jinja")
    files = {name: pack.describe(client / name) for name in names}
    pack.write_manifest(client, "client", 0, model, files, packs)


def _write_masked(path: Path, spec: ModelSpec, weights: WeightSource, seeds: tuple[bytes, bytes], report: Report) -> None:
    total, done = pack.masked_words(spec), 0
    with path.open("xb") as file:
        for _, words in masking.masked_words(spec, weights, seeds):
            file.write(np.ascontiguousarray(words).data)  # not tofile: its error does not say why
            done += words.size
            report("writing masked weights", done, total)
