"""What surrounds a program must not end it, slow it down or get at what it knows: settings, the current directory, its cache,
core files.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.ring.kernels import jit, kernel_cache
from tests.app.cli.test_ask_demo import children

TRINE = [sys.executable, "-P", "-m", "app.cli.main"]
MODEL = [sys.executable, "-P", "-m", "app.cli.model"]
NODE = [sys.executable, "-P", "-m", "party_node.main"]
NO_NODE = [
    *NODE,
    "--model",
    "m",
    "--role",
    "1",
    "--peer",
    "127.0.0.1:1",
    "--identity",
    "i",
    "--peer-cert",
    "p",
    "--client-cert",
    "c",
]

PROGRAMS = pytest.mark.parametrize(
    "words",
    [[*TRINE, "ask", "hello", "--model", "m"], [*MODEL, "check", "m", "c"], [*NO_NODE, "--listen", "127.0.0.1:0"]],
    ids=["trine", "trine-model", "trine-node"],
)

SETTINGS = {
    "NUMBA_NUM_THREADS": "0",
    "NUMBA_CPU_NAME": "no-such-cpu",
    "NUMBA_CPU_FEATURES": "+no-such-feature",
    "NUMBA_OPT": "9",
    "NUMBA_DEBUG": "1",
    "NUMBA_DEBUG_CACHE": "1",
    "NUMBA_DUMP_OPTIMIZED": "1",
    "NUMBA_BOUNDSCHECK": "1",
    "NUMBA_CAPTURED_ERRORS": "no-such-style",
    "NUMBA_CACHE_DIR": "/dev/null",
    "NUMBA_CACHE_LOCATOR_CLASSES": "no.such.Locator",
    "NUMBA_DISABLE_JIT": "",
    "OMP_NUM_THREADS": "abc",
    "OPENBLAS_NUM_THREADS": "-1",
    "OPENBLAS_CORETYPE": "no-such-core",
    "MKL_NUM_THREADS": "abc",
    "KMP_AFFINITY": "abc",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "MALLOC_PERTURB_": "165",
}
"""Each ends a program, has all kernels compiled anew, or writes among the answer, where it is heard."""


def run(
    words: list[str], directory: Path | None = None, without: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in (os.environ | variables).items() if name != without}
    return subprocess.run(words, env=environment, cwd=directory, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.timeout(300)
def test_no_setting_and_no_file_of_the_current_directory_is_heard(small_shared: Path, tmp_path: Path) -> None:
    """Nor by the nodes: a module that lies there is not theirs."""
    words = [*TRINE, "ask", "hello", "--model", str(small_shared), "--max-tokens", "3"]
    usual = run(words)
    assert usual.returncode == 0, usual.stderr
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1\nnum_threads: 0\n")
    for module in ("numpy", "secrets", "party_node", "app"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('run from the current directory')\n")
    found = run(words, tmp_path, **SETTINGS)
    assert (found.returncode, found.stdout, found.stderr) == (0, usual.stdout, usual.stderr)


# A kernel that is in the cache already is read from there, whatever is set.
HITS = """
import numpy as np
from engine.ring.kernels.words import mix
mix(np.int64(7))
print(sum(mix.stats.cache_hits.values()), sum(mix.stats.cache_misses.values()))
"""


@pytest.mark.long
def test_no_setting_costs_compiling(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-c", HITS]
    run(words)
    for settings in ({}, SETTINGS):
        assert run(words, tmp_path, **settings).stdout == "1 0\n"


@PROGRAMS
def test_a_disabled_compiler_is_refused_by_name(words: list[str]) -> None:
    done = run(words, NUMBA_DISABLE_JIT="1")
    program = "trine-" + {"app.cli.main": "", "app.cli.model": "model", "party_node.main": "node"}[words[3]]
    said = "NUMBA_DISABLE_JIT switches off the compiler that Trine computes with: unset it"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{program.rstrip('-')}: {said}\n")


@PROGRAMS
def test_a_cache_that_cannot_be_made_is_one_sentence_and_exit_code_4(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(words, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 4
    assert done.stderr.endswith("name another place with XDG_CACHE_HOME\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_damaged_cache_is_compiled_anew(small_shared: Path, tmp_path: Path) -> None:
    """In whole programs; a quarter of the kernels, as all of them take a minute."""
    cache = tmp_path / "trine" / "numba"
    words = [*TRINE, "ask", "hello", "--model", str(small_shared), "--max-tokens", "3"]
    usual = run(words)
    shutil.copytree(jit.cache_directory(), cache / jit.cache_directory().name)
    damaged = sorted(cache.rglob("*.nbi"))[::4] + sorted(cache.rglob("*.nbc"))[::4]
    for file in damaged:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    done = run(words, XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, usual.stdout, usual.stderr)
    assert any(kernel_cache.is_whole(str(file)) for file in damaged)  # those that this model needs


DUMPABLE = """
import ctypes, resource, runpy, sys
sys.argv = ["program", "--version"]
try:
    runpy.run_module(MODULE, run_name="__main__")
except SystemExit:
    pass
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl and /proc are Linux's")


@linux
@pytest.mark.parametrize("module", ["app.cli.main", "app.cli.model", "party_node.main"])
def test_no_program_is_dumpable(module: str) -> None:
    done = run([sys.executable, "-c", f"MODULE = {module!r}\n{DUMPABLE}"])
    assert done.stdout.splitlines()[-1] == "0 (0, 0)"


@linux
@pytest.mark.timeout(300)
def test_no_process_leaves_a_core_file(small_shared: Path, tmp_path: Path) -> None:
    """Whatever the shell allows, and however it ends."""
    allowing = ["sh", "-c", 'ulimit -c unlimited 2>/dev/null || ulimit -c "$(ulimit -H -c)"; exec "$@"', "sh"]
    words = [*allowing, *TRINE, "ask", "hello", "--model", str(small_shared), "--max-tokens", "400"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path) as trine:
        try:
            assert trine.stdout is not None
            assert trine.stdout.read(1)
            nodes = children(trine.pid)
            assert len(nodes) == 2
            for pid in {trine.pid, *nodes}:
                limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
                assert next(line for line in limits if line.startswith("Max core file")).split()[4:6] == ["0", "0"]
            for pid in [*nodes, trine.pid]:
                os.kill(pid, signal.SIGABRT)
            _, status = os.waitpid(trine.pid, 0)
        finally:
            trine.kill()
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    assert not list(tmp_path.iterdir())
