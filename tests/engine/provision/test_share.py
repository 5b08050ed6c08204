"""Sharing a checkpoint: the packs reconstruct it, are verified when loaded, and a failure leaves nothing behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ModelError
from engine.models.config import ModelSpec
from engine.parties.masks import SeedStream
from engine.parties.plain import Plain
from engine.parties.room import RESERVE, Halves
from engine.parties.trio import Trio
from engine.provision.checkpoint import open_checkpoint
from engine.provision.fold import program_tensor
from engine.provision.pack import load_client_model, load_node_pack
from engine.provision.share import Options, share
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
    share(checkpoint, out, Options("small", 128, texts(checkpoint.shape.vocab), [1, 5, 6], [2]))
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
    share(checkpoint, tmp_path / "again", Options("small", 128, texts(checkpoint.shape.vocab), [1, 5, 6], [2]))
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
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
    with pytest.raises(ModelError, match="another version"):
        load_node_pack(copy / "node1")


def test_a_manifest_cannot_name_files_outside_its_pack(copy: Path) -> None:
    manifest = copy / "node1" / "manifest.json"
    value = json.loads(manifest.read_text())
    value["files"]["../node2/seed"] = value["files"].pop("seed")
    manifest.write_text(json.dumps(value))
    with pytest.raises(ModelError, match="missing from the pack"):
        load_node_pack(copy / "node1")


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
        share(checkpoint, out / "shared", Options("huge", 128, texts(checkpoint.shape.vocab), [1], [2]))
    assert list(out.iterdir()) == []


def test_an_output_that_holds_something_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    checkpoint = open_checkpoint(source)
    with pytest.raises(ModelError, match="not empty"):
        share(checkpoint, tmp_path, Options("small", 128, texts(checkpoint.shape.vocab), [1], [2]))
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]


def test_the_spec_survives_its_json(shared: Path) -> None:
    spec = load_client_model(shared / "client").spec
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ModelSpec.model_validate_json(spec.model_dump_json()).digest() == spec.digest()
