"""Packs on disk: what the sharing tool writes for each node and for the clients, and how it is loaded and verified.

    DIR/node1, DIR/node2   spec.json  masked.bin  tables.safetensors  seed  manifest.json
    DIR/client             spec.json  seeds  tokenizer.json  chat_template.jinja  special_tokens.json  manifest.json

masked.bin holds every program tensor, then each layer's public-prefix keys and values, as 64-bit words, masked by both
nodes' streams: it is the same file at both nodes (one inode where the file system allows). `seed` is as secret as the pack,
`seeds` (both of them) is the model's key: files that hold one are 0600. A manifest lists size and SHA-256 of every file;
the digest of a pack is the SHA-256 of its manifest.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engine.errors import ModelError
from engine.generate.template import TemplateText
from engine.host.memory import Halves, available_memory, has_room
from engine.models.config import ModelSpec
from engine.models.planning import table_shapes
from engine.parties.pack import NodePack, half_bytes, node_pack
from engine.provision import special_tokens
from engine.provision.masking import MODEL_SEED_BYTES, refuse_equal
from engine.ring.fixed import WORD_BYTES, Ring
from engine.wire import Secret

FORMAT = 2  #: of these files, and of how a model's masks follow from its seeds: an older pack cannot be used
MAX_JSON = 1 << 24
ALIKE = ("spec.json", "tables.safetensors", "masked.bin")  #: what both nodes hold alike
NEEDED = {
    "node": {*ALIKE, "seed"},
    "client": {"spec.json", "seeds", "tokenizer.json", special_tokens.TOKENS_FILE},
}  #: each kind's files
ROLES = (1, 2)
_CHUNK = 1 << 22

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Progress = Callable[[int, int], None]


class File(BaseModel):
    """A file of a pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int = Field(ge=0)
    sha256: Digest


class Manifest(BaseModel):
    """What a pack consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = Field(ge=FORMAT, le=FORMAT)
    kind: str = Field(pattern="^(node|client)$")
    role: int = Field(ge=0, le=2)  #: 0 for the client's file
    model: Digest  #: of what both nodes hold alike
    files: dict[str, File] = Field(max_length=32)
    packs: dict[Annotated[str, Field(pattern="^[12]$")], Digest] = {}  #: in the client's file: each node's pack digest


@dataclass(frozen=True, slots=True, repr=False)
class ClientModel(Secret):
    """The client's file: metadata, the model's two seeds, tokenizer and template."""

    spec: ModelSpec
    seeds: tuple[bytes, bytes]
    pack_digests: dict[int, str]
    model_digest: str
    tokenizer: Path
    chat_template: TemplateText | None


def sha256(path: Path, progress: Callable[[int], None] = lambda done: None) -> str:
    """SHA-256 of a file, hex; ``progress(bytes done)``."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return digest.hexdigest()


def model_digest(files: dict[str, File]) -> str:
    """Digest of what both nodes hold alike: metadata, tables and masked words."""
    alike = {name: files[name].sha256 for name in ALIKE}
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()


def write_manifest(directory: Path, kind: str, role: int, model: str, files: dict[str, File], packs: dict[str, str]) -> str:
    """Write manifest.json; returns the pack's digest."""
    manifest = Manifest(format=FORMAT, kind=kind, role=role, model=model, files=files, packs=packs)
    data = manifest.model_dump_json(indent=1).encode()
    (directory / "manifest.json").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def describe(path: Path) -> File:
    """A file's entry in a manifest."""
    return File(bytes=path.stat().st_size, sha256=sha256(path))


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """A file that cannot be read (gone since, another's, on a broken disk) is a `ModelError`, too."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", error.filename or directory) from error


def _manifest(directory: Path, kind: str) -> tuple[Manifest, str]:
    """The manifest of a pack of that kind, and the pack's digest."""
    path = directory / "manifest.json"
    try:
        if path.exists() and not path.is_file():
            raise ModelError("the manifest is no file", path)  # a pipe or a device would give bytes without end, or none
        if path.stat().st_size > MAX_JSON:
            raise ModelError("the manifest is too large", path)
        data = path.read_bytes()
        manifest = Manifest.model_validate_json(data)
    except OSError as error:
        raise ModelError(f"there is no {kind} pack here ({error.strerror})", directory) from error
    except ValidationError as error:
        raise ModelError("the manifest cannot be read (another version's? Share the model again)", path) from error
    if manifest.kind != kind:
        raise ModelError(f"this is a {manifest.kind} pack, a {kind} pack is needed", directory)
    lacking = sorted(NEEDED[kind] - manifest.files.keys())
    if lacking:
        raise ModelError(f"{lacking[0]} is missing from the manifest; share the model again with this version", path)
    return manifest, hashlib.sha256(data).hexdigest()


def _verified(directory: Path, kind: str, progress: Progress | None) -> tuple[Manifest, str]:
    """The manifest and the pack's digest, every file's size and digest checked."""
    manifest, digest = _manifest(directory, kind)
    total, before = sum(f.bytes for f in manifest.files.values()), 0
    for name, entry in manifest.files.items():
        file = directory / name
        if file.parent != directory or not file.is_file():
            raise ModelError(f"{name} is missing from the pack", directory)
        if file.stat().st_size != entry.bytes:
            raise ModelError(f"has {file.stat().st_size} bytes instead of {entry.bytes} (copied incompletely?)", file)
        seen = sha256(file, lambda done, base=before: progress(base + done, total) if progress else None)  # type: ignore[misc]
        if seen != entry.sha256:
            raise ModelError("the file's contents do not match the pack's manifest (damaged?)", file)
        before += entry.bytes
    return manifest, digest


def _spec(directory: Path) -> ModelSpec:
    path = directory / "spec.json"
    try:
        spec = ModelSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ModelError(f"the model's metadata cannot be used: {what}", path) from error
    return spec


def layout(spec: ModelSpec) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(name, shape, offset in words) of everything in masked.bin: the tensors, then ``prefix.LAYER.0|1``."""
    at = 0
    for name, shape in spec.tensors().items():
        yield name, shape, at
        at += shape[0] * shape[1]
    shape3 = (spec.kv_heads, len(spec.prefix), spec.head_dim)
    for layer in range(spec.layers):
        for which in (0, 1):
            yield f"prefix.{layer}.{which}", shape3, at
            at += shape3[0] * shape3[1] * shape3[2]


def masked_words(spec: ModelSpec) -> int:
    """Words of masked.bin."""
    name, shape, at = list(layout(spec))[-1]
    del name
    return at + int(np.prod(shape))


def load_node_pack(directory: Path, progress: Progress | None = None, halves: Halves = Halves.AUTO) -> NodePack:
    """Verify and load a node's pack; masked.bin is memory-mapped. ``progress(bytes verified, of)``.

    `halves`: whether A_i are stored or drawn (``engine.host.memory``).

    Raises:
        ModelError: something is missing, damaged or of another version.
    """
    with _readable(directory):
        manifest, digest = _verified(directory, "node", progress)
        spec = _spec(directory)
        if model_digest(manifest.files) != manifest.model:
            raise ModelError("the manifest contradicts itself", directory)
        seed = _seeds(directory / "seed", 1)[0]
        path = directory / "masked.bin"
        if path.stat().st_size != WORD_BYTES * masked_words(spec):
            raise ModelError("the masked weights have not the size that the metadata says", path)
        words = np.memmap(path, np.int64, "r")
        arrays = {name: np.asarray(words[at : at + int(np.prod(shape))]).reshape(shape) for name, shape, at in layout(spec)}
        prefixes = [(arrays[f"prefix.{i}.0"], arrays[f"prefix.{i}.1"]) for i in range(spec.layers)]
        masked = {name: arrays[name] for name in spec.tensors()}
        digests = (digest, manifest.model)
        stored = _stored(halves, spec)
        return node_pack(manifest.role, spec, seed, masked, prefixes, _tables(directory, spec), digests, stored=stored)


def _stored(halves: Halves, spec: ModelSpec) -> bool:
    """Whether the online halves are made now: as is asked for, or as there is room."""
    if halves is not Halves.AUTO:
        return halves is Halves.STORED
    words = masked_words(spec)
    return has_room(WORD_BYTES * words, half_bytes(spec), available_memory())


def _tables(directory: Path, spec: ModelSpec) -> dict[str, Ring]:
    path = directory / "tables.safetensors"
    try:
        loaded = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError("the look-up tables cannot be read", path) from error
    shapes = {name: array.shape for name, array in loaded.items()}
    if shapes != table_shapes(spec) or any(array.dtype != np.int64 for array in loaded.values()):  # kernels trust them
        raise ModelError("the look-up tables are not those of the model's metadata", path)
    return {name: np.ascontiguousarray(array) for name, array in loaded.items()}


def _seeds(path: Path, count: int) -> list[bytes]:
    data = path.read_bytes()
    if len(data) != count * MODEL_SEED_BYTES:
        raise ModelError("the seed has not its length", path)
    return [data[i : i + MODEL_SEED_BYTES] for i in range(0, len(data), MODEL_SEED_BYTES)]


def _two_seeds(path: Path) -> tuple[bytes, bytes]:
    one, two = _seeds(path, 2)
    refuse_equal((one, two), path)
    return one, two


def load_client_model(directory: Path) -> ClientModel:
    """Verify and load the client's file.

    Raises:
        ModelError: something is missing, damaged or of another version.
    """
    with _readable(directory):
        manifest, _ = _verified(directory, "client", None)
        one, two = _two_seeds(directory / "seeds")
        return ClientModel(
            spec=_spec(directory),
            seeds=(one, two),
            pack_digests={int(role): digest for role, digest in manifest.packs.items()},
            model_digest=manifest.model,
            tokenizer=directory / "tokenizer.json",
            chat_template=_template(directory),
        )


def load_sharing(directory: Path) -> ClientModel:
    """The client's file of a shared model, beside which both nodes' packs stand.

    The packs are told by their manifests: packs of two sharings, or one node's in the other's place, would compute noise.

    Raises:
        ModelError: that is not what stands there, or the client's file cannot be used.
    """
    if not (directory / "client").is_dir():
        raise ModelError("no shared model: name the directory that `trine-model share` wrote (node1, node2, client)", directory)
    client = load_client_model(directory / "client")
    for role in ROLES:
        pack = directory / f"node{role}"
        with _readable(pack):
            manifest, digest = _manifest(pack, "node")
            seed = hashlib.sha256(client.seeds[role - 1]).hexdigest()
            if digest != client.pack_digests.get(role) or manifest.files["seed"].sha256 != seed:
                raise ModelError(f"this is not node {role}'s pack of the sharing that made {directory}/client", pack)
    return client


def _template(directory: Path) -> TemplateText | None:
    path = directory / "chat_template.jinja"
    tokens = special_tokens.read_special_tokens(directory)
    try:
        return TemplateText(path.read_text("utf-8"), tokens) if path.is_file() else None
    except UnicodeDecodeError as error:
        raise ModelError(f"not UTF-8 text (byte {error.start})", path) from error
