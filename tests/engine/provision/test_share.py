"""Sharing a checkpoint: the packs reconstruct it, are verified when loaded, and a failure leaves nothing behind."""

import json
import os
import shutil
from dataclasses import replace
from errno import EIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from annotated_types import Le, MaxLen
from safetensors.numpy import load_file, save

from engine.checkpoint.open import open_checkpoint
from engine.errors import InputError, ModelError, OutputError
from engine.host.memory import RESERVE, Halves
from engine.models.config import ModelSpec
from engine.parties.masks import SeedStream
from engine.parties.plain import Plain
from engine.parties.trio import Trio
from engine.provision import masking
from engine.provision.fold import program_tensor
from engine.provision.pack import (
    FORMAT,
    Manifest,
    describe,
    load_client_model,
    load_node_pack,
    load_sharing,
    model_digest,
    write_manifest,
)
from engine.provision.share import MAX_CONTEXT, MAX_NAME, MAX_PREFIX, ShareOptions, share
from engine.provision.weights import WeightSource
from engine.ring.fixed import decode
from tests.models import small_llama


def texts(vocab: int) -> list[list[int]]:
    """Calibration texts: any tokens do for a random model."""
    draw = np.random.default_rng(3)
    return [draw.integers(3, vocab, 60).tolist() for _ in range(4)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.write_huggingface(small_llama.UNTIED, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def shared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packs") / "shared"
    checkpoint = open_checkpoint(source)
    share(checkpoint, out, ShareOptions("small", 128, texts(checkpoint.shape.vocab), [1, 5, 6], [2]))
    return out


@pytest.fixture
def copy(shared: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(shared, tmp_path / "copy"))


def test_the_packs_hold_the_weights_under_both_masks(source: Path, shared: Path) -> None:
    checkpoint, client = open_checkpoint(source), load_client_model(shared / "client")
    pack = load_node_pack(shared / "node1")
    spec = client.spec
    for name in ("embed", "0.qkv", "1.down", "head"):
        words = np.array(pack.masked[name])
        for seed in client.seeds:
            mask = np.empty_like(words)
            SeedStream(seed, spec).fill(name, mask)
            words -= mask
        bits = {"embed": spec.scales.residual, "0.qkv": spec.scales.query}.get(name) or spec.weight_bits[name]
        want = program_tensor(checkpoint, name)
        if name == "0.qkv":
            rows = (spec.heads + spec.kv_heads) * spec.head_dim
            words, want = words[:rows], want[:rows]
        np.testing.assert_allclose(decode(words, bits), want, rtol=0, atol=2.0**-bits)


def test_the_masked_words_are_one_file_and_look_like_noise(shared: Path) -> None:
    one, two = shared / "node1" / "masked.bin", shared / "node2" / "masked.bin"
    assert one.stat().st_ino == two.stat().st_ino
    counts = np.bincount(np.fromfile(one, np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


def test_three_parties_on_the_packs_answer_as_the_plaintext_does(source: Path, shared: Path) -> None:
    client = load_client_model(shared / "client")
    spec = client.spec
    packs = [load_node_pack(shared / f"node{role}") for role in (1, 2)]
    parties = Trio(spec, client.seeds, packs, prefix=len(spec.prefix), context=64)
    plain = Plain(spec, WeightSource(open_checkpoint(source)), context=64)
    plain.run(spec.prefix)
    tokens = [9, 200, 31, 77]
    got, want = parties.step(tokens, answers=4), plain.run(tokens)
    assert np.sqrt(((got - want) ** 2).mean()) < 0.005 * want.std()


@pytest.mark.parametrize(("available", "stored"), [(RESERVE, False), (2 * RESERVE, True), (None, True)])
def test_a_pack_is_loaded_as_there_is_memory(
    shared: Path, available: int | None, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.provision.pack.available_memory", lambda: available)
    assert bool(load_node_pack(shared / "node1").stored) is stored
    for asked in (Halves.STORED, Halves.DRAWN):
        assert bool(load_node_pack(shared / "node2", halves=asked).stored) is (asked is Halves.STORED)


def test_secrets_are_readable_by_their_owner_only(shared: Path) -> None:
    assert {(shared / name).stat().st_mode & 0o077 for name in ("node1/seed", "node2/seed", "client/seeds")} == {0}
    assert (shared / "node1" / "seed").read_bytes() != (shared / "node2" / "seed").read_bytes()
    assert "seed" not in (shared / "client" / "spec.json").read_text()


def test_two_sharings_of_one_model_have_nothing_in_common(source: Path, shared: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(source)
    share(checkpoint, tmp_path / "again", ShareOptions("small", 128, texts(checkpoint.shape.vocab), [1, 5, 6], [2]))
    first = np.fromfile(shared / "node1" / "masked.bin", np.int64)
    second = np.fromfile(tmp_path / "again" / "node1" / "masked.bin", np.int64)
    difference = (first - second).view(np.uint8)
    counts = np.bincount(difference, minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


@pytest.mark.parametrize("name", ["masked.bin", "tables.safetensors", "seed", "spec.json"])
def test_one_changed_bit_is_noticed(copy: Path, name: str) -> None:
    path = copy / "node2" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # a link in the original
    path.write_bytes(data)
    with pytest.raises(ModelError, match=f"{name}.*do not match"):
        load_node_pack(copy / "node2")


def test_a_truncated_or_missing_file_is_named(copy: Path) -> None:
    path = copy / "node1" / "masked.bin"
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(ModelError, match=r"masked\.bin is missing"):
        load_node_pack(copy / "node1")
    path.write_bytes(data[:-8])
    with pytest.raises(ModelError, match="copied incompletely"):
        load_node_pack(copy / "node1")


def test_the_wrong_kind_and_another_format_are_refused(copy: Path) -> None:
    with pytest.raises(ModelError, match="client pack, a node pack is needed"):
        load_node_pack(copy / "client")
    with pytest.raises(ModelError, match="no node pack here"):
        load_node_pack(copy)
    manifest = copy / "node1" / "manifest.json"
    for other in (FORMAT - 1, FORMAT + 1):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": other}))
        with pytest.raises(ModelError, match="another version's"):
            load_node_pack(copy / "node1")


def test_a_manifest_cannot_name_files_outside_its_pack(copy: Path) -> None:
    manifest = copy / "node1" / "manifest.json"
    value = json.loads(manifest.read_text())
    value["files"]["../node2/seed"] = value["files"]["seed"]
    manifest.write_text(json.dumps(value))
    with pytest.raises(ModelError, match="missing from the pack"):
        load_node_pack(copy / "node1")


def edited(pack: Path, name: str, content: bytes) -> None:
    """Replace a file of a pack and make its manifest agree, as somebody does who knows the format."""
    (pack / name).unlink()  # a link in the original
    (pack / name).write_bytes(content)
    manifest = Manifest.model_validate_json((pack / "manifest.json").read_bytes())
    files = manifest.files | {name: describe(pack / name)}
    model = model_digest(files) if manifest.kind == "node" else manifest.model
    write_manifest(pack, manifest.kind, manifest.role, model, files, manifest.packs)


@pytest.mark.parametrize("same", [slice(0, 32), slice(0, 31), slice(24, 32)])
def test_a_clients_file_with_nearly_equal_seeds_is_refused(same: slice, copy: Path) -> None:
    one, two = (bytearray((copy / f"node{role}" / "seed").read_bytes()) for role in (1, 2))
    two[same] = one[same]
    edited(copy / "client", "seeds", bytes(one + two))
    with pytest.raises(ModelError, match="seeds: the model's two seeds are the same, or nearly so.*share the model again"):
        load_client_model(copy / "client")


def test_seeds_in_the_wrong_order_are_no_sharing(copy: Path) -> None:
    load_sharing(copy)
    one, two = ((copy / f"node{role}" / "seed").read_bytes() for role in (1, 2))
    edited(copy / "client", "seeds", two + one)
    with pytest.raises(ModelError, match="this is not node 1's pack"):
        load_sharing(copy)


@pytest.mark.parametrize("apart", [b"", b"1", bytes(24)])
def test_equal_seeds_mask_no_model(apart: bytes, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = os.urandom(32)
    monkeypatch.setattr(masking, "fresh_seeds", lambda: (seed, apart + seed[len(apart) :]))
    checkpoint = open_checkpoint(source)
    with pytest.raises(ModelError, match="the model's two seeds are the same"):
        share(checkpoint, tmp_path / "out", ShareOptions("small", 128, texts(checkpoint.shape.vocab), [1, 5, 6], [2]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("party", "changes", "what"),
    [
        ("node1", {"files": {}}, r"manifest\.json: masked\.bin is missing from the manifest"),
        ("client", {"files": {}}, r"manifest\.json: seeds is missing from the manifest"),
        ("client", {"packs": {"one": "0" * 64}}, r"manifest\.json: the manifest cannot be read"),
        ("node1", {"model": "0" * 64}, "the manifest contradicts itself"),
    ],
)
def test_manifests_that_are_refused(party: str, changes: dict[str, object], what: str, copy: Path) -> None:
    manifest = copy / party / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    with pytest.raises(ModelError, match=what):
        load_client_model(copy / party) if party == "client" else load_node_pack(copy / party)


@pytest.mark.parametrize("name", ["seed", "spec.json", "masked.bin", "tables.safetensors", "manifest.json"])
def test_a_directory_in_place_of_a_file(name: str, copy: Path) -> None:
    (copy / "node1" / name).unlink()
    (copy / "node1" / name).mkdir()
    with pytest.raises(ModelError):
        load_node_pack(copy / "node1")


@pytest.mark.parametrize("party", ["client", "node2"])
def test_a_manifest_that_never_ends(party: str, copy: Path) -> None:
    """A pipe that nobody writes to, and a device that gives zeros for ever."""
    manifest = copy / party / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(ModelError, match="the manifest is no file"):
        load_sharing(copy)
    manifest.unlink()
    manifest.symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="the manifest is no file"):
        load_sharing(copy)


def test_metadata_that_contradicts_itself(copy: Path) -> None:
    spec = json.loads((copy / "node1" / "spec.json").read_text())
    spec["layer"].pop()
    edited(copy / "node1", "spec.json", json.dumps(spec).encode())
    with pytest.raises(ModelError, match="describes 2 of its 3 layers"):
        load_node_pack(copy / "node1")


def test_metadata_whose_windows_leave_their_bits(copy: Path) -> None:
    """A node and a client refuse it in one sentence: what would be read there is another value's cell."""
    for party, load in (("node1", load_node_pack), ("client", load_client_model)):
        spec = json.loads((copy / party / "spec.json").read_text())
        spec["layer"][1]["silu"]["window"]["lo"] = 34
        edited(copy / party, "spec.json", json.dumps(spec).encode())
        with pytest.raises(ModelError, match=r"spec\.json: the model's metadata cannot be used: layer 1: SiLU's window"):
            load(copy / party)


@pytest.mark.parametrize("name", ["0.silu", "reciprocal", "exp", "pow.fine"])
@pytest.mark.parametrize("cut", [(..., slice(-1)), (slice(0), ...), (None, ...)])
def test_a_table_of_another_shape(name: str, cut: tuple[object, ...], copy: Path) -> None:
    """A kernel would read behind its end."""
    tables = load_file(copy / "node1" / "tables.safetensors")
    tables[name] = np.ascontiguousarray(tables[name][cut])
    edited(copy / "node1", "tables.safetensors", save(tables))
    with pytest.raises(ModelError, match="not those of the model's metadata"):
        load_node_pack(copy / "node1")


def test_a_template_that_is_no_text(copy: Path) -> None:
    edited(copy / "client", "chat_template.jinja", b"\xff")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: not UTF-8 text \(byte 0\)"):
        load_client_model(copy / "client")


def test_the_template_keeps_its_special_tokens(shared: Path) -> None:
    template = load_client_model(shared / "client").chat_template
    assert template is not None
    assert template == small_llama.CHAT_TEMPLATE
    assert template.tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"version": 2, "tokens": {}}', "is of version 2, this program reads version 1: share the model again with `trine-"),
        (b'{"tokens": {}}', "version is missing"),
        (b'{"version": 1}', "tokens is missing"),
        (b'{"version": 1, "tokens": {"bos_token": 1}}', "tokens.bos_token must be a string, not 1"),
        (b"[]", "not a JSON object"),
    ],
)
def test_special_tokens_that_cannot_be_read(content: bytes, what: str, copy: Path) -> None:
    edited(copy / "client", "special_tokens.json", content)
    with pytest.raises(ModelError) as caught:
        load_client_model(copy / "client")
    assert str(caught.value).startswith(f"{copy / 'client' / 'special_tokens.json'}: {what}")


def test_a_file_that_the_disk_refuses(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, progress: object = None) -> str:
        raise OSError(EIO, "Input/output error", str(path))

    monkeypatch.setattr("engine.provision.pack.sha256", broken)
    with pytest.raises(ModelError, match=r"node1/.*: cannot be read: Input/output error"):
        load_node_pack(copy / "node1")


def test_limits_are_those_of_the_metadata(source: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(source)
    taken = ModelSpec.model_fields
    assert {name: taken[name].metadata[-1] for name in ("name", "context", "prefix")} == {
        "name": MaxLen(MAX_NAME),
        "context": Le(MAX_CONTEXT),
        "prefix": MaxLen(MAX_PREFIX),
    }
    checkpoint.shape = replace(checkpoint.shape, context=1 << 20)
    options = ShareOptions("small", MAX_CONTEXT + 1, [], [1], [2])
    with pytest.raises(InputError, match="Trine takes 131072 at most"):
        share(checkpoint, tmp_path / "out", options)
    for context in (1 << 20, 40):  # tokens for which the model was made
        checkpoint.shape = replace(checkpoint.shape, context=context)
        with pytest.raises(ModelError, match="conversations begin with the same 513 tokens"):
            share(checkpoint, tmp_path / "out", replace(options, prefix=[1] * 513))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_no_memory_and_no_disk_holds(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, options = open_checkpoint(source), ShareOptions("small", 128, [], [1], [2])
    monkeypatch.setattr("engine.provision.share.available_memory", lambda: 1000)
    with pytest.raises(ModelError, match=r"takes 0\.3 MB of memory or more, 0\.0 MB are available"):
        share(checkpoint, tmp_path / "out", options)
    monkeypatch.undo()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"0\.7 MB or more are needed, 0\.0 MB are free there"):
        share(checkpoint, tmp_path / "out", options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_by_a_model_that_cannot_be_shared(tmp_path: Path) -> None:
    changed = {**small_llama.tensors(small_llama.UNTIED)}
    name = "model.layers.1.mlp.up_proj.weight"
    changed[name] = changed[name] * np.float32(1e30)
    folder = small_llama.write_huggingface(small_llama.UNTIED, tmp_path / "checkpoint")
    for old in folder.glob("*.safetensors"):
        old.unlink()
    small_llama.write_safetensors(changed, "float32", folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    out = tmp_path / "out"
    with pytest.raises(ModelError):
        share(checkpoint, out / "shared", ShareOptions("huge", 128, texts(checkpoint.shape.vocab), [1], [2]))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_an_output_that_holds_something_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    checkpoint = open_checkpoint(source)
    with pytest.raises(InputError, match="holds 'mine' already"):
        share(checkpoint, tmp_path, ShareOptions("small", 128, texts(checkpoint.shape.vocab), [1], [2]))
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]


def test_the_spec_survives_its_json(shared: Path) -> None:
    spec = load_client_model(shared / "client").spec
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ModelSpec.model_validate_json(spec.model_dump_json()).digest() == spec.digest()
