"""What of a Hugging Face directory's text is refused, and what of it is mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from engine.checkpoint import huggingface_text
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.open import open_checkpoint
from engine.errors import ModelError
from engine.generate.tokenizer import ChatTokenizer
from tests.models import small_llama
from tests.models import tokenizers_made as made
from tests.models.chat_templates import TEMPLATES

CHATML = TEMPLATES["chatml"]
QUESTION = [{"role": "user", "content": "the boats"}]


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return made.pieces()


def message(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    small_llama.write_json(path, value)


def chat_of(checkpoint: Checkpoint) -> ChatTokenizer:
    return ChatTokenizer(checkpoint.tokenizer, checkpoint.chat_template, checkpoint.shape.eos_ids)


def small(path: Path, rows: int = 320) -> Path:
    return small_llama.write_huggingface(small_llama.SmallLlama(vocab=rows, layers=1), path)


def added(text: str, index: int, *, special: bool = True) -> dict[str, Any]:
    return made.entry(text, special=special) | {"id": index}


def test_transformers_is_not_imported_to_chat_and_never_reaches_out(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    source = (
        "import os, socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('reaches out')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import app.demo.start, app.demo.demo, engine.generate.tokenizer, engine.provision.pack, app.cli.model\n"
        "assert 'transformers' not in sys.modules\n"
        "from pathlib import Path\n"
        "from engine.checkpoint.open import open_checkpoint\n"
        "open_checkpoint(Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)), os.environ['HF_HUB_OFFLINE'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", source, path], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['transformers'] 1\n", "")


def test_what_clients_load_is_not_the_directory_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers sees checked copies: no key that names a file, no file beside those that count, and nothing is left."""
    path = small(tmp_path / "model")
    keys = {"tokenizer_file": "/etc/passwd", "vocab_file": "/etc/passwd", "merges_file": "/etc/passwd", "name_or_path": "x/y"}
    edit(path / "tokenizer_config.json", lambda value: value.update(keys, tokenizer_class="../Tokenizer"))
    (path / "tokenizer.py").write_text("raise SystemExit(9)")
    seen: dict[str, str] = {}
    theirs = transformers.AutoTokenizer.from_pretrained

    def watched(directory: Path, **options: Any) -> Any:
        seen.update(
            {file.name: file.read_text() for file in Path(directory).iterdir()}, where=str(directory), options=str(options)
        )
        return theirs(directory, **options)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", watched)
    open_checkpoint(path)
    assert seen.keys() == {"tokenizer.json", "tokenizer_config.json", "config.json", "where", "options"}
    assert "passwd" not in "".join(seen.values())
    assert seen["config.json"] == '{"model_type": "llama"}'
    assert seen["options"] == "{'local_files_only': True}"
    assert not Path(seen["where"]).exists()


@pytest.mark.parametrize("code", [["tokenization_x.X", None], {"AutoTokenizer": ["tokenization_x.X", None]}])
def test_code_of_the_models_own_is_refused(code: object, tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    edit(path / "tokenizer_config.json", lambda value: value.update(auto_map=code))
    where = path / "tokenizer_config.json"
    assert message(path) == f"{where}: auto_map: the tokenizer is code of the model's own, which is never run"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"byte_fallback": False, "vocab_size": 80}, "only sentencepiece BPE models with byte fallback are supported"),
        ({"model_type": "unigram", "vocab_size": 320}, "only sentencepiece BPE models with byte fallback are supported"),
        ({"normalization_rule_name": "nmt_nfkc"}, "a sentencepiece model that rewrites its text is not supported"),
        ({"remove_extra_whitespaces": True}, "a sentencepiece model that rewrites its text is not supported"),
        ({"user_defined_symbols": ["x" * 513]}, "a token is longer than 512 characters"),
    ],
)
def test_sentencepiece_models_that_are_refused(more: dict[str, object], what: str, tmp_path: Path) -> None:
    path = made.directory(tmp_path / "model", 400, {}, {"tokenizer.model": made.pieces(**more)})
    assert message(path) == f"{path / 'tokenizer.model'}: {what}"


def test_files_that_are_no_sentencepiece_model(pieces: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.directory(tmp_path / "model", 400, {}, {"tokenizer.model": b""})
    source = path / "tokenizer.model"
    for content in (b"", b"no model", pieces[:-9], b"\xff" * 99):
        source.write_bytes(content)
        assert message(path) == f"{source}: not a sentencepiece model that can be read"
    monkeypatch.setattr(huggingface_text, "MAX_TOKENIZER", 1000)
    source.write_bytes(pieces)
    assert message(path) == f"{source}: longer than 1000 bytes"


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json"])
def test_files_that_are_not_what_they_are_called(name: str, tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    for content in (b"[]", b"{", b"\xff", b"[" * 99999, b'{"a": ' * 99999):
        (path / name).write_bytes(content)
        assert message(path).startswith(f"{path / name}: not ")
    (path / name).unlink()
    (path / name).symlink_to("/dev/zero")
    assert message(path) == f"{path / name}: is not a file"


WORDS: list[dict[str, Any]] = [
    {"bos_token": 7},
    {"bos_token": {"content": 7}},
    {"eos_token": {"content": "x", "what": True}},
    {"additional_special_tokens": 3},
    {"extra_special_tokens": {"a": {"b": [1]}}},
    {"added_tokens_decoder": {"0": "x"}},
    {"added_tokens_decoder": {"0": {"content": "x", "special": 1}}},
    {"chat_template": {"default": "x"}},
    {"tokenizer_class": "AutoTokenizer"},
    {"tokenizer_class": "LlamaForCausalLMTokenizer"},
    {"legacy": "maybe", "tokenizer_class": "LlamaTokenizer"},
    {"bos_token": "x" * 100_000},
    {"add_bos_token": True, "bos_token": None},
    {"add_prefix_space": [], "tokenizer_class": "LlamaTokenizer"},
]


@pytest.mark.parametrize("words", WORDS, ids=str)
def test_whatever_tokenizer_config_says_is_read_or_refused(words: dict[str, Any], pieces: bytes, tmp_path: Path) -> None:
    for files in ({"tokenizer.model": pieces}, {"tokenizer.json": made.gpt2().to_str().encode()}):
        path = made.directory(tmp_path / next(iter(files)), 420, words, files)
        said = None
        try:
            open_checkpoint(path)
        except ModelError as error:
            said = str(error)
        assert said is None or (said.startswith(str(path)) and said.isprintable())


# Added tokens: where they stand, and whether the model has them


def test_added_tokens_stand_where_the_checkpoint_says(pieces: bytes, tmp_path: Path) -> None:
    decoder = {"398": made.entry("<|im_start|>"), "399": made.entry("<|im_end|>"), "410": made.entry("<x>", special=False)}
    config = {"chat_template": CHATML, "added_tokens_decoder": decoder}
    tokenizer = open_checkpoint(made.directory(tmp_path / "model", 420, config, {"tokenizer.model": pieces})).tokenizer
    assert {name: tokenizer.token_to_id(name) for name in ("<|im_start|>", "<|im_end|>", "<x>")} == {
        "<|im_start|>": 398,
        "<|im_end|>": 399,
        "<x>": 410,
    }
    assert tokenizer.encode("a<x><|im_end|>").ids[-2:] == [410, 399]
    for wrong, what in (
        ({"x": 1}, "added_tokens_decoder.x must be an object, not 1"),
        ({"x": {}}, "added_tokens_decoder must map token ids to objects"),
        ({"340": {}}, "added_tokens_decoder.340.content is missing"),
    ):
        path = made.directory(tmp_path / what[:28], 420, {"added_tokens_decoder": wrong}, {"tokenizer.model": pieces})
        assert what in message(path) or "not a tokenizer that can be built" in message(path)


def test_an_added_token_without_a_row_is_left_out(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    edit(path / "tokenizer.json", lambda value: value["added_tokens"].extend([added("<pad>", 320), added("<image>", 321)]))
    edit(path / "tokenizer_config.json", lambda value: value.update(pad_token="<pad>"))
    chat = chat_of(open_checkpoint(path))
    assert max(chat.encode_chat([{"role": "user", "content": "<pad><image>"}])) < 320
    assert chat.decode(chat.encode_chat(QUESTION)) == chat_of(open_checkpoint(small(tmp_path / "other"))).decode(
        chat.encode_chat(QUESTION)
    )


def mergeable(value: dict[str, Any], index: int) -> None:
    """An added token that ordinary text becomes."""
    value["model"]["vocab"]["zq"] = index
    value["model"]["merges"].append(["z", "q"])
    value["added_tokens"].append(added("zq", index))


@pytest.mark.parametrize(
    ("change", "template"),
    [
        (lambda value: value["added_tokens"].append(added("<pad>", 320)), "<pad>{{ messages[0].content }}"),
        (lambda value: value["model"]["vocab"].update(more=320), CHATML),
        (lambda value: mergeable(value, 320), CHATML),
    ],
    ids=["the template writes it", "a piece of text", "merges make it"],
)
def test_a_token_without_a_row_that_may_come_is_refused(
    change: Callable[[dict[str, Any]], None], template: str, tmp_path: Path
) -> None:
    path = small(tmp_path / "model")
    edit(path / "tokenizer.json", change)
    edit(path / "tokenizer_config.json", lambda value: value.update(chat_template=template))
    assert message(path) == f"{path}: the tokenizer knows token 320, the model only 320 tokens"


def test_an_end_without_a_row_is_refused_where_the_template_names_it(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    edit(path / "tokenizer.json", lambda value: value["added_tokens"].append(added("<end>", 320)))
    words = {"eos_token": "<end>", "chat_template": "{{ messages[0].content }}{{ eos_token }}"}
    edit(path / "tokenizer_config.json", lambda value: value.update(words))
    assert message(path) == f"{path}: the tokenizer knows token 320, the model only 320 tokens"


def test_marks_of_turns_are_control_tokens_whatever_the_file_says(tmp_path: Path) -> None:
    path = small(tmp_path / "model")

    def ordinary(value: dict[str, Any]) -> None:
        for token in value["added_tokens"]:
            token["special"] = False
        value["added_tokens"].append(added("<think>", 319, special=False))
        del value["model"]["vocab"]["<|unused_319|>"]

    edit(path / "tokenizer.json", ordinary)
    chat = chat_of(open_checkpoint(path))
    ids = chat.encode_chat([{"role": "user", "content": "<|im_end|><think><|im_start|><|endoftext|>"}])
    assert [index for index in ids if index in (0, 1, 2, 319)] == [1, 2, 1, 319, 2, 1]
    assert chat.stop_ids == {0, 2}
    assert chat.decode([2, 319, 1]) == "<think>"


def test_no_merge_makes_a_control_token(tmp_path: Path) -> None:
    path = small(tmp_path / "model")

    def merging(value: dict[str, Any]) -> None:
        value["model"]["vocab"] |= {"<a": 317, "a>": 318}
        value["model"]["vocab"] = {k: v for k, v in value["model"]["vocab"].items() if not k.startswith("<|unused_31")}
        value["model"]["vocab"]["<a>"] = 319
        value["model"]["merges"] += [["<", "a"], ["a", ">"], ["<a", ">"], ["<", "a>"]]
        value["added_tokens"].append(added("<a>", 319))

    edit(path / "tokenizer.json", merging)
    edit(path / "tokenizer_config.json", lambda value: value.update(chat_template="<a>{{ messages[0].content }}"))
    chat = chat_of(open_checkpoint(path))
    ids = chat.encode_chat([{"role": "user", "content": "x<a>y"}])
    assert ids.count(319) == 1
    assert ids[0] == 319
    assert chat.decode(ids[1:]) == "x<a>y"


def test_special_tokens_of_every_form_reach_the_template(tmp_path: Path) -> None:
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}{{ image_token }}"
    for bos in ("<|im_start|>", made.entry("<|im_start|>"), made.entry("<|im_start|>") | {"__type": "AddedToken"}):
        path = small(tmp_path / f"{len(str(bos))}")
        words = {"bos_token": bos, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template}
        edit(path / "tokenizer_config.json", lambda value, words=words: value.update(words, image_token="<|im_end|>"))
        ids = chat_of(open_checkpoint(path)).encode_chat(QUESTION)
        assert (ids[0], ids[-3:]) == (1, [2, 0, 2])
    named = {"model_specific_special_tokens": {"image_token": "<|endoftext|>"}, "image_token": None}
    edit(path / "tokenizer_config.json", lambda value: value.update(named))
    assert chat_of(open_checkpoint(path)).encode_chat(QUESTION)[-1] == 0
    edit(path / "tokenizer_config.json", lambda value: value.update(bos_token=None, eos_token=None, pad_token=None))
    assert 1 not in chat_of(open_checkpoint(path)).encode_chat(QUESTION)


def test_a_text_has_the_same_tokens_each_time(tmp_path: Path) -> None:
    path, calm = small(tmp_path / "model"), chat_of(open_checkpoint(small(tmp_path / "calm")))
    edit(path / "tokenizer.json", lambda value: value["model"].update(dropout=0.9))
    assert chat_of(open_checkpoint(path)).encode_chat(QUESTION) == calm.encode_chat(QUESTION)


def test_a_tokenizer_model_that_another_class_reads(tmp_path: Path) -> None:
    path = made.directory(tmp_path / "model", 420, {"tokenizer_class": "XLNetTokenizer"}, {"tokenizer.model": made.pieces()})
    theirs = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    assert open_checkpoint(path).tokenizer.encode("the boats").ids == theirs("the boats").input_ids
