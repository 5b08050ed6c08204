"""`trine-model` as its user meets it: a real process, exit codes, one clear line."""

import json
import subprocess
import sys
from pathlib import Path

from tests.models import small_llama


def trine_model(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run the program."""
    command = [sys.executable, "-m", "app.model_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_share_then_check_a_small_model(tmp_path: Path) -> None:
    model = small_llama.write_gguf(small_llama.UNTIED, tmp_path / "model.gguf")
    done = trine_model("share", model, "--out", tmp_path / "shared", "--context", "256")
    assert done.returncode == 0, done.stderr
    assert "node1" in done.stdout
    assert "2^-" in done.stdout
    checked = trine_model("check", tmp_path / "shared", model, "--tokens", "60", "--json")
    figures = json.loads(checked.stdout)
    assert figures["tokens"] >= 50
    assert figures["logit_error"] < 0.01
    assert abs(figures["perplexity"] / figures["plain_perplexity"] - 1) < 0.02
    assert checked.returncode == (1 if figures["beyond"] else 0)


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
