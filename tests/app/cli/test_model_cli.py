"""`trine-model` as its user meets it: a real process, exit codes, one clear line."""

import json
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from app.cli.model import print_table
from app.sharing.share import checkpoint_name
from engine.link import load_identity
from engine.provision.check import Accuracy
from tests.models import small_llama


def trine_model(*arguments: str | Path, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Run the program, behind the words `before` if there are any."""
    command = [*before, sys.executable, "-m", "app.cli.model", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def refusal(code: int, *arguments: str | Path, before: tuple[str, ...] = ()) -> str:
    """The one line with which the program refuses."""
    refused = trine_model(*arguments, before=before)
    assert refused.returncode == code, refused.stderr
    assert refused.stdout == ""
    assert refused.stderr.startswith("trine-model: ")
    assert refused.stderr.count("\n") == 1
    return refused.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.write_gguf(small_llama.UNTIED, tmp_path_factory.mktemp("model") / "model.gguf")


def test_share_then_check_a_small_model(tmp_path: Path) -> None:
    model = small_llama.write_huggingface(small_llama.UNTIED, tmp_path / "Small-1.5")
    done = trine_model("share", model, "--out", tmp_path / "shared", "--context", "256")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Shared Small-1.5: {tmp_path}/shared/node1")
    assert "2^-" in done.stdout
    checked = trine_model("check", tmp_path / "shared", model, "--tokens", "60", "--json")
    figures = json.loads(checked.stdout)
    assert figures["tokens"] >= 50
    assert figures["logit_error"] < 0.01
    assert abs(figures["perplexity"] / figures["plain_perplexity"] - 1) < 0.02
    assert checked.returncode == (1 if figures["beyond"] else 0)


def test_check_says_which_window_is_nearly_left_and_what_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = Accuracy(90, 0.001, 0.001, 1.0, 5.0, 5.0, 2.0**-18, 0, 0.002)
    print_table(accuracy, {"3.silu": 0.82, "logit": 1.04}, 1.04)
    said = capsys.readouterr().out
    assert "layer 3's arguments of SiLU: 82% of the window used" in said
    assert "the logits: 104% of the window used; a value beyond 100 % is computed wrongly, and nothing tells" in said
    assert "nothing tells that a value has left one, unless its step is garbled three times" in said


def test_check_refuses_what_does_not_belong_together(model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert trine_model("share", model, "--out", tmp_path / name).returncode == 0
    wider = small_llama.write_gguf(small_llama.ALIGNED, tmp_path / "wider.gguf")
    assert "another shape than the shared model" in refusal(2, "check", tmp_path / "one", wider)
    tied = small_llama.write_gguf(small_llama.TIED, tmp_path / "tied.gguf")  # the same shape, another head
    far = trine_model("check", tmp_path / "one", tied, "--tokens", "20")
    assert far.returncode == 1
    assert "is this the checkpoint that was shared?" in far.stdout
    two = tmp_path / "one" / "node2"
    for other in (tmp_path / "two" / "node2", tmp_path / "one" / "node1"):
        shutil.rmtree(two)
        shutil.copytree(other, two)
        assert "this is not node 2's pack of the sharing" in refusal(2, "check", tmp_path / "one", model)


def test_a_model_that_cannot_be_run_gets_one_line_and_exit_code_2(tmp_path: Path) -> None:
    model = small_llama.write_gguf(small_llama.UNTIED, tmp_path / "model.gguf")
    data = model.read_bytes()
    model.write_bytes(data[: len(data) // 2])
    refused = trine_model("share", model, "--out", tmp_path / "shared")
    assert refused.returncode == 2
    assert str(model) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "shared").exists()
    assert trine_model("share", tmp_path / "nothing", "--out", tmp_path / "shared").returncode == 2


def limited(kilobytes: int) -> tuple[str, ...]:
    """No file may grow longer than that: a disk that is full, without one."""
    return ("bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash")


LONG = pytest.mark.long  # one real process a kind of fault is enough each time


@pytest.mark.parametrize(
    "kilobytes", [400, pytest.param(700, marks=LONG), pytest.param(760, marks=LONG)]
)  # in the first node's masked words, in its tables
def test_an_output_that_cannot_be_written_gets_one_line_and_exit_code_4(kilobytes: int, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "shared"
    said = refusal(4, "share", model, "--out", out, before=limited(kilobytes))
    assert said == f"trine-model: {out}: cannot be written (File too large); nothing was left there\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["/proc/x", pytest.param("/etc/passwd/x", marks=LONG), pytest.param("/etc/passwd", marks=LONG)])
def test_a_place_where_nothing_can_be_written(out: str, model: Path) -> None:
    assert f"{out}: cannot be written (" in refusal(4, "share", model, "--out", out)


def test_a_directory_that_is_there_is_filled_and_given_back_empty(model: Path, tmp_path: Path) -> None:
    said = refusal(4, "share", model, "--out", tmp_path, before=limited(400))
    assert "File too large" in said
    assert list(tmp_path.iterdir()) == []


def test_a_sharing_that_is_ended_leaves_nothing(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    command = [sys.executable, "-m", "app.cli.model", "share", model, "--out", out]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while not out.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_context_is_never_another_one_without_a_word(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    said = refusal(2, "share", model, "--out", out, "--context", "513")
    assert said == f"trine-model: {model}: a context of 513 tokens is too long: the model was made for 512 at most\n"
    assert "too short: 65 are needed, 33 with which" in refusal(2, "share", model, "--out", out, "--context", "64")
    assert list(tmp_path.iterdir()) == []
    assert trine_model("share", model, "--out", out).returncode == 0
    assert json.loads((out / "client" / "spec.json").read_text())["context"] == 512


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("Llama-3.2-1B-Instruct", "Llama-3.2-1B-Instruct"),
        ("v1.0.gguf.d/", "v1.0.gguf.d"),
        ("a/../b-1.5", "b-1.5"),
        ("Llama-3.2-1B.Q4_K_M.gguf", "Llama-3.2-1B.Q4_K_M"),
        ("MODEL.GGUF", "MODEL"),
        ("model.bin", "model.bin"),
        ("hub/models--meta-llama--Llama-3.2-1B/snapshots/0123abcd", "Llama-3.2-1B"),
        ("hub/models--gpt2/snapshots/0123abcd/", "gpt2"),
        ("hub/models--a--b--c/snapshots/0123abcd", "b--c"),
        ("hub/models--a--b/snapshots/0123abcd/b.Q8_0.gguf", "b.Q8_0"),
        ("hub/models--a--b/snapshots/0123abcd/original", "original"),
    ],
)
def test_a_model_is_called_what_its_checkpoint_is(place: str, name: str, tmp_path: Path) -> None:
    assert checkpoint_name(tmp_path / place) == name


def test_a_folder_is_called_by_its_name_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("Model-1.5", "dotted.gguf"):
        (tmp_path / folder).mkdir()
        assert checkpoint_name(tmp_path / folder) == folder
        monkeypatch.chdir(tmp_path / folder)
        assert checkpoint_name(Path()) == checkpoint_name(Path("../") / folder) == folder
    (tmp_path / "blob").touch()
    (tmp_path / "Named-2.0.gguf").symlink_to("blob")
    assert checkpoint_name(tmp_path / "Named-2.0.gguf") == "Named-2.0"


@pytest.mark.parametrize("name", [pytest.param("x" * 201, marks=LONG), "\x1b[2Jred", pytest.param("two\nlines", marks=LONG)])
def test_a_name_that_cannot_be_shown(name: str, model: Path, tmp_path: Path) -> None:
    assert "choose another with --name" in refusal(2, "share", model, "--out", tmp_path / "shared", "--name", name)


def test_inputs_that_are_no_models(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path, what in ((Path("/dev/null"), "is not a file"), (tmp_path / ("x" * 300), "File name too long")):
        assert what in refusal(2, "share", path, "--out", out)
    for path, what in ((tmp_path, "no shared model: name the directory"), (Path("/dev/null"), "no shared model: name the")):
        assert what in refusal(2, "check", path, model)
    assert not out.exists()


def test_weights_that_overflow_are_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = {name: np.full_like(values, 3e38) for name, values in small_llama.tensors(small_llama.UNTIED).items()}
    monkeypatch.setattr(small_llama, "tensors", lambda model: huge)
    model = small_llama.write_gguf(small_llama.UNTIED, tmp_path / "model.gguf")
    assert "no look-up windows fit what this model computes on text" in refusal(2, "share", model, "--out", tmp_path / "out")


def test_the_version() -> None:
    assert trine_model("--version").stdout == f"trine-model {version('trine')}\n"


def test_an_identity_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    directory = tmp_path / "identities" / "node 1"
    made = trine_model("identity", directory)
    assert made.returncode == 0, made.stderr
    assert load_identity(directory).fingerprint in made.stdout
    assert directory.stat().st_mode & 0o777 == 0o700
    files = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert files == {"certificate.pem": 0o600, "key.pem": 0o600}
    (directory / "certificate.pem").unlink()
    key = (directory / "key.pem").read_bytes()
    assert "holds 'key.pem' already" in refusal(2, "identity", directory)
    assert (directory / "key.pem").read_bytes() == key
    assert [path.name for path in directory.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("name", ["é" * 21, "x" * 41, "two\nlines"])
def test_a_name_that_no_certificate_takes(name: str, tmp_path: Path) -> None:
    assert "choose another with --name" in refusal(2, "identity", tmp_path / "own", "--name", name)
    assert list(tmp_path.iterdir()) == []


def test_an_identity_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    said = refusal(4, "identity", tmp_path / "new" / "own", before=limited(0))
    assert "cannot be written (File too large)" in said
    assert list(tmp_path.iterdir()) == []
