"""GGUF files of LLaMAs: the same tensors as the Hugging Face directory's, and what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Stored
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.checkpoint import LlamaShape, checkpoint_shapes
from engine.checkpoint.gguf_header import read_header
from engine.checkpoint.open import open_checkpoint
from engine.errors import ModelError
from engine.generate.tokenizer import ChatTokenizer
from tests.models import small_llama
from tests.models.demo_model import demo_gguf
from tests.models.small_llama import ALIGNED, CHAT_TEMPLATE, TIED, UNTIED, SmallLlama

SMALL = SmallLlama(layers=1)


def message(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("model", [UNTIED, TIED])
def test_both_readers_agree_tensor_by_tensor(model: SmallLlama, tmp_path: Path) -> None:
    ours = open_checkpoint(small_llama.write_gguf(model, tmp_path / "model.gguf"))
    theirs = open_checkpoint(small_llama.write_huggingface(model, tmp_path / "model"))
    # The file keeps epsilon as a float32.
    assert abs(ours.shape.rms_eps - theirs.shape.rms_eps) < 1e-12
    assert ours.shape == LlamaShape(**(vars(theirs.shape) | {"rms_eps": ours.shape.rms_eps}))
    for name in checkpoint_shapes(ours.shape):
        read = ours.tensor(name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, theirs.tensor(name))
    assert ours.chat_template == theirs.chat_template == CHAT_TEMPLATE
    for text in ("The harbour, in 1871:  3 ships\n", "<|im_start|>user\nhi<|im_end|>\n", "Ελλάδα 😀"):
        assert ours.tokenizer.encode(text).ids == theirs.tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("stored", "error"),
    [(Stored.F16, 2**-11), (Stored.BF16, 2**-8), (Stored.Q8_0, 1 / 127), (Stored.Q4_1, 1 / 8), (Stored.Q5_0, 1 / 8)],
)
def test_what_is_stored_with_few_bits_is_near(stored: Stored, error: float, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_llama.write_gguf(ALIGNED, tmp_path / "model.gguf", stored))
    for name, values in small_llama.tensors(ALIGNED).items():
        read = checkpoint.tensor(name)
        assert np.abs(read - values).max() <= error * np.abs(values).max()


def test_the_shape_of_the_demo_model() -> None:
    checkpoint = open_checkpoint(demo_gguf())
    assert checkpoint.shape == LlamaShape(
        vocab=49152,
        d_model=576,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        d_ffn=1536,
        rope_theta=100000.0,
        rms_eps=float(np.float32(1e-5)),
        context=8192,
        tied=True,
        bos_id=1,
        eos_ids=(2,),
        add_bos=False,
    )
    assert checkpoint.chat_template
    assert "SmolLM" in checkpoint.chat_template


@pytest.mark.parametrize("part", ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj", "input_layernorm"])
def test_tensors_of_the_demo_model_are_what_the_gguf_package_reads(part: str) -> None:
    path, name = demo_gguf(), f"model.layers.29.{part}.weight"
    checkpoint = open_checkpoint(path)
    place = read_header(path).tensors[small_llama.gguf_name(name)]
    raw = np.fromfile(path, np.uint8, place.length, offset=place.offset)
    expected = gguf.dequantize(raw.reshape(place.size[0], -1) if len(place.size) > 1 else raw, place.stored)
    heads = {"self_attn.q_proj": 9, "self_attn.k_proj": 3}.get(part)
    read = checkpoint.tensor(name)
    np.testing.assert_array_equal(small_llama.permuted(read, heads) if heads else read, expected)


def test_keys_that_are_absent_take_their_defaults(tmp_path: Path) -> None:
    absent = ["llama.vocab_size", "llama.attention.key_length", "llama.attention.value_length"]
    absent += ["llama.rope.freq_base", "llama.rope.dimension_count", "tokenizer.ggml.bos_token_id"]
    absent += ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.chat_template"]
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=dict.fromkeys(absent))
    checkpoint = open_checkpoint(path)
    shape = checkpoint.shape
    assert (shape.vocab, shape.head_dim, shape.rope_theta) == (307, 12, 10000.0)
    assert (shape.bos_id, shape.eos_ids, shape.add_bos) == (None, (), False)
    assert checkpoint.chat_template is None


def test_all_tokens_that_end_an_answer(tmp_path: Path) -> None:
    more: dict[str, object] = {"tokenizer.ggml.eot_token_id": 0, "tokenizer.ggml.eom_token_id": 2}
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=more)
    assert open_checkpoint(path).shape.eos_ids == (2, 0)


def test_text_that_begins_with_a_token(tmp_path: Path) -> None:
    said = small_llama.write_gguf(SMALL, tmp_path / "said.gguf", changes={"tokenizer.ggml.add_bos_token": True})
    changes = {"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}
    implied = small_llama.write_gguf(SMALL, tmp_path / "implied.gguf", changes=changes)
    for path in (said, implied):
        checkpoint = open_checkpoint(path)
        assert checkpoint.shape.add_bos is True
        assert checkpoint.tokenizer.encode("the").ids[:1] == [1]
        assert checkpoint.tokenizer.encode("the", add_special_tokens=False).ids[:1] != [1]


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5], ids=["normal", "unknown", "control", "user-defined", "unused"])
@pytest.mark.parametrize("name", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "[EOS]", "<｜end▁of▁sentence｜>"])
def test_a_token_that_is_known_to_end_a_turn_does_whatever_its_type(kind: int, name: str, tmp_path: Path) -> None:
    tokens = small_llama.vocabulary(SMALL)
    tokens[2] = name
    changes: dict[str, object] = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, kind, kind] + [1] * (len(tokens) - 3),
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": CHAT_TEMPLATE.replace("<|im_end|>", name),
    }
    checkpoint = open_checkpoint(small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=changes))
    chat = ChatTokenizer(checkpoint.tokenizer, checkpoint.chat_template, checkpoint.shape.eos_ids)
    assert chat.stop_ids == {0, 2}
    ids = chat.encode_chat([{"role": "user", "content": f"a{name}b"}])
    assert ids.count(2) == 2  # behind the system's turn and the user's
    assert ids.count(1) == 3  # the mark that begins a turn is the template's, too
    assert chat.decode([2]) == ""


def test_a_token_that_a_key_names_as_an_end_is_a_control_token(tmp_path: Path) -> None:
    model = SmallLlama(layers=1, vocab=308)
    changes: dict[str, object] = {"tokenizer.ggml.token_type": [1] * 308, "tokenizer.ggml.fim_pad_token_id": 307}
    checkpoint = open_checkpoint(small_llama.write_gguf(model, tmp_path / "model.gguf", changes=changes))
    controls = [index for index, token in checkpoint.tokenizer.get_added_tokens_decoder().items() if token.special]
    assert sorted(controls) == [0, 1, 2, 307]
    assert checkpoint.shape.eos_ids == (2, 307)


def test_a_key_may_name_ordinary_text_as_an_end(tmp_path: Path) -> None:
    tokens = small_llama.vocabulary(SMALL)
    for name in ("Ċ", "Ġthe"):
        index = tokens.index(name)
        path = small_llama.write_gguf(SMALL, tmp_path / f"{index}.gguf", changes={"tokenizer.ggml.eom_token_id": index})
        checkpoint = open_checkpoint(path)
        chat = ChatTokenizer(checkpoint.tokenizer, checkpoint.chat_template, checkpoint.shape.eos_ids)
        assert chat.stop_ids == {0, 2, index}
        assert index in chat.encode_chat([{"role": "user", "content": "of the\ncat"}])


def test_the_template_knows_the_special_tokens(tmp_path: Path) -> None:
    changes: dict[str, object] = {"tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.padding_token_id": 5}
    template = open_checkpoint(small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=changes)).chat_template
    assert template is not None
    assert template.tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": small_llama.vocabulary(SMALL)[5],
    }


def test_special_tokens_of_a_sentencepiece_vocabulary_without_keys(tmp_path: Path) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijk"]
    tokens += [f"<unused{index}>" for index in range(SMALL.vocab - len(tokens))]
    changes: dict[str, object] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * 12, *[5] * (SMALL.vocab - 271)],
        "tokenizer.ggml.scores": [0.0] * SMALL.vocab,
        "tokenizer.chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
        **dict.fromkeys(("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token")),
    }
    checkpoint = open_checkpoint(small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=changes))
    assert (checkpoint.shape.bos_id, checkpoint.shape.eos_ids, checkpoint.shape.add_bos) == (1, (2,), True)
    chat = ChatTokenizer(checkpoint.tokenizer, checkpoint.chat_template, checkpoint.shape.eos_ids)
    ids = chat.encode_chat([{"role": "user", "content": "ab</s>"}])
    assert (ids[0], ids[-1], ids.count(2), chat.decode(ids)) == (1, 2, 1, "ab</s>")


@pytest.mark.parametrize("count", [0, 1])
def test_a_file_that_was_merged_from_parts(count: int, tmp_path: Path) -> None:
    changes: dict[str, object] = {"split.no": 0, "split.count": count, "split.tensors.count": 29}
    assert open_checkpoint(small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=changes)).shape.layers == 1


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"general.architecture": "gpt2"}, "architecture is 'gpt2'; only llama models can be shared"),
    ({"llama.expert_count": 8}, "llama.expert_count is 8; only 0 is supported"),
    ({"split.count": 3}, "split.count is 3; only 1 is supported"),
    (
        {"llama.rope.scaling.type": "linear"},
        "llama.rope.scaling.type is 'linear'; only plain rotary positions are run",
    ),
    ({"llama.rope.scaling.factor": 4.0}, "llama.rope.scaling.factor is 4.0; only 1 is supported"),
    ({"llama.rope.dimension_count": 6}, "llama.rope.dimension_count must be the head's width 12"),
    ({"llama.attention.value_length": 8}, "llama.attention.value_length must be the head's width 12"),
    ({"llama.embedding_length": None}, "llama.embedding_length is missing"),
    ({"llama.block_count": 10**6}, "llama.block_count must be an integer from 1 to 1024, not 1000000"),
    ({"llama.block_count": 2}, "tensor model.layers.1.input_layernorm.weight is missing"),
    ({"llama.feed_forward_length": [100]}, "llama.feed_forward_length must be an integer from 1 to 262144, not a list"),
    ({"llama.feed_forward_length": 64}, "tensor model.layers.0.mlp.gate_proj.weight must be 64 x 48, not 100 x 48"),
    ({"llama.attention.head_count_kv": 3}, "4 heads cannot share 3 key heads evenly"),
    (
        {"llama.attention.head_count": 5, "llama.attention.key_length": None},
        "width 48 is not a multiple of its 5 heads",
    ),
    ({"llama.vocab_size": 308}, "tensor model.embed_tokens.weight must be 308 x 48, not 307 x 48"),
    ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is missing"),
    ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens must be a list of strings, not a list"),
    ({"tokenizer.ggml.model": "bert"}, "tokenizer model 'bert' is not supported (gpt2 and llama are)"),
    ({"tokenizer.ggml.bos_token_id": 400}, "tokenizer.ggml.bos_token_id must be a token id below 307, not 400"),
    ({"tokenizer.chat_template": "x" * (1 << 18) + "x"}, "the chat template is longer than 262144 characters"),
]


@pytest.mark.parametrize(("changes", "what"), REFUSED)
def test_files_that_are_refused(changes: dict[str, object], what: str, tmp_path: Path) -> None:
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf", changes=changes)
    assert message(path) == f"{path}: {what}"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("blk.0.attn_q.bias", "tensor model.layers.0.self_attn.q_proj.bias: biases are not supported"),
        ("blk.0.attn_q_norm.weight", "tensor blk.0.attn_q_norm.weight has no place in a LLaMA model"),
        ("blk.9.ffn_up.weight", "tensor model.layers.9.mlp.up_proj.weight has no place in a LLaMA model"),
        ("rope_freqs.weight", "tensor rope_freqs.weight: scaled rotary positions are not supported"),
    ],
)
def test_tensors_too_many(name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = dict(small_llama.tensors(SMALL)) | {name: np.ones(48, np.float32)}
    monkeypatch.setattr(small_llama, "tensors", lambda model: more)
    own_name = small_llama.gguf_name
    monkeypatch.setattr(small_llama, "gguf_name", lambda own: own if own == name else own_name(own))
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf")
    assert message(path) == f"{path}: {what}"


def test_a_storage_type_that_the_gguf_package_cannot_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "quantize", lambda values, stored: values.astype(np.float64))
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf", Stored.F64)
    assert message(path) == f"{path}: tensor token_embd.weight: type F64 is not supported"


def test_truncated_files(tmp_path: Path) -> None:
    path = small_llama.write_gguf(SMALL, tmp_path / "model.gguf")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert "ends beyond the file (truncated?)" in message(path)
    path.write_bytes(content[:3000])
    assert message(path) == f"{path}: the header ends beyond the file (truncated?) (byte 3000)"


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    path = small_llama.write_gguf(ALIGNED, tmp_path / "model.gguf", Stored.Q8_0)
    place = read_header(path).tensors["output.weight"]
    content = bytearray(path.read_bytes())
    content[place.offset : place.offset + 2] = np.float16(np.inf).tobytes()
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path).tensor("lm_head.weight")
    assert str(caught.value) == f"{path}: tensor lm_head.weight holds values that are not finite numbers"


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A file that a test may spoil, and its bytes."""
    path = small_llama.write_gguf(SMALL, tmp_path_factory.mktemp("gguf") / "model.gguf")
    return path, path.read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_only_model_errors_escape_a_spoiled_file(spoiled: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = spoiled
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, 12_000))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed)
    with contextlib.suppress(ModelError):
        checkpoint: Any = open_checkpoint(path)
        for name in checkpoint_shapes(checkpoint.shape):
            checkpoint.tensor(name)
