"""A sharing that was made before loads, and gives the plaintext's answer of the day it was made.

`shared_before/` was made by version 8 of the program and format 2 of the packs, from the random model
``SmallLlama(layers=2, d_model=18, heads=4, kv_heads=2, head_dim=6, d_ffn=22, seed=16)``. `answer.json` holds what the reader in
the clear answered. Neither is made again while these two versions stand; a pack of another version is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint.tokenizer import load_tokenizer
from engine.errors import ModelError
from engine.generate.tokenizer import ChatTokenizer
from engine.host.memory import Halves
from engine.parties.trio import Trio
from engine.provision.pack import describe, load_client_model, load_node_pack, load_sharing
from tests.engine.models.golden_plans import SHARED_BEFORE, shared_before

ANSWER: dict[str, Any] = json.loads((SHARED_BEFORE / "answer.json").read_text("utf-8"))
LOGIT_ERROR = 0.05
"""More than the engine's logits are off from the plaintext's, whose best two are 0.4 and more apart."""


@pytest.fixture
def place() -> Iterator[Path]:
    with shared_before() as place:
        yield place


def test_it_is_a_whole_sharing(place: Path) -> None:
    client = load_sharing(place)
    assert client.spec.name == "before"
    for role in (1, 2):
        pack = load_node_pack(place / f"node{role}")
        assert (pack.digest, pack.model_digest) == (client.pack_digests[role], client.model_digest)
        assert pack.spec.digest() == client.spec.digest()


def test_the_tokenizer_and_the_template_read_as_before(place: Path) -> None:
    client = load_client_model(place / "client")
    chat = ChatTokenizer(load_tokenizer(client.tokenizer), client.chat_template, client.spec.eos)
    assert chat.encode_chat([{"role": "user", "content": ANSWER["question"]}]) == ANSWER["chat tokens"]
    assert chat.decode(ANSWER["tokens"]) == ANSWER["decoded"]


@pytest.mark.parametrize("halves", [Halves.STORED, Halves.DRAWN])
def test_three_parties_answer_as_the_plaintext_did(place: Path, halves: Halves) -> None:
    client = load_client_model(place / "client")
    packs = [load_node_pack(place / f"node{role}", halves=halves) for role in (1, 2)]
    parties = Trio(client.spec, client.seeds, packs, prefix=len(client.spec.prefix), context=client.spec.context)
    tokens: list[int] = ANSWER["tokens"]
    answer: list[int] = []
    logits = []
    while len(answer) < len(ANSWER["greedy"]):
        logits.append(parties.step(tokens)[0])
        answer.append(int(logits[-1].argmax()))
        tokens = answer[-1:]
    assert answer == ANSWER["greedy"]
    for row, known in ((logits[0], ANSWER["logits"][0]), (logits[-1], ANSWER["logits"][1])):
        np.testing.assert_allclose(row, known, atol=LOGIT_ERROR)


def another_format(manifest: dict[str, Any], spec: dict[str, Any]) -> None:
    del spec
    manifest["format"] -= 1


def a_field_too_many(manifest: dict[str, Any], spec: dict[str, Any]) -> None:
    del manifest
    spec["from_another_version"] = 1


def a_field_too_few(manifest: dict[str, Any], spec: dict[str, Any]) -> None:
    del manifest
    del spec["reciprocal"]


@pytest.mark.parametrize("party", ["node1", "client"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (another_format, "another version's. Share the model again"),
        (a_field_too_many, "metadata cannot be used: Extra inputs are not permitted"),
        (a_field_too_few, "metadata cannot be used: Field required"),
    ],
)
def test_one_of_another_version_is_refused_by_name(
    place: Path, party: str, change: Callable[[dict[str, Any], dict[str, Any]], None], says: str
) -> None:
    manifest, spec = (json.loads((place / party / name).read_text("utf-8")) for name in ("manifest.json", "spec.json"))
    change(manifest, spec)
    (place / party / "spec.json").write_text(json.dumps(spec), "utf-8")
    manifest["files"]["spec.json"] = describe(place / party / "spec.json").model_dump()
    (place / party / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ModelError, match=says):
        (load_client_model if party == "client" else load_node_pack)(place / party)


def test_the_program_digest_is_the_one_of_before(place: Path) -> None:
    """It covers the metadata's canonical text: a field that goes, or one that comes with a default, changes it."""
    client = load_client_model(place / "client")
    assert client.spec.digest() == ANSWER["program"]
    assert json.loads(client.spec.model_dump_json()) == json.loads((place / "client" / "spec.json").read_text("utf-8"))
