"""Starts what a row needs: the shape's model, three processes with relays between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import SHAPES, Work
from engine.host.process import keep_apart
from engine.link import make_identity

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
CHECKED_PREFIX = 16


@dataclass(frozen=True, slots=True)
class Driver:
    """The desktop's process, which answers commands."""

    process: subprocess.Popen[str]

    def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Run a command; RuntimeError if the process ended instead of answering."""
        _write(self.process, {"do": what} | arguments)
        answer: dict[str, Any] = json.loads(_line(self.process))
        return answer


def make_model(name: str, prefix: int, directory: Path) -> dict[str, float]:
    """Write the shape's model into a new directory; returns the seconds and the peak of memory that making it took.

    Raises:
        SystemExit: the disk has no room for it.
    """
    needed, free = SHAPES[name].stored_bytes, shutil.disk_usage(directory.parent).free
    if needed > free // 10 * 9:
        raise SystemExit(f"{name} needs {needed / 1e9:.1f} GB in {directory.parent}, {free / 1e9:.1f} are free: set TMPDIR")
    directory.mkdir()
    command = [sys.executable, "-m", "benchmarks.model", name, str(prefix), str(directory)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    made = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(made.stdout)
    return figures


@contextmanager
def parties(work: Work, model: Path, directory: Path) -> Iterator[Driver]:
    """The three processes of a row, connected."""
    configs = _configure(work, model, directory)
    with ExitStack() as stack:
        nodes = [stack.enter_context(_running("node", directory / f"node{role}.json")) for role in (1, 2)]
        keep_apart([node.pid for node in nodes])
        desktop = stack.enter_context(_running("desktop", directory / "desktop.json"))
        ports = [int(_line(node)) for node in nodes]
        _line(desktop)
        between = _relayed(stack, work.nodes, [ports[1]])
        _write(nodes[1], {})
        _write(nodes[0], {"peer": between[0]})
        driver = Driver(desktop)
        driver.do("connect", ports=_relayed(stack, work.desktop, ports))
        yield driver
    for config in configs:
        config.unlink()


def _configure(work: Work, model: Path, directory: Path) -> list[Path]:
    """Certificates, keys and one configuration file a process."""
    keys = [os.urandom(32).hex() for _ in range(2)]
    for name in ("desktop", "node1", "node2"):
        if not (directory / name).exists():
            make_identity(name).save(directory / name)
    certificate = {name: str(directory / name / "certificate.pem") for name in ("desktop", "node1", "node2")}
    shape = SHAPES[work.shape]
    shared = {"model": str(model), "layer": shape.layer, "drawn": shape.drawn, "past": work.given, "context": work.capacity}
    written = []
    for role in (1, 2):
        own = {"role": role, "key": keys[role - 1], "identity": str(directory / f"node{role}")}
        own |= {"dealer": certificate["desktop"], "peer": certificate[f"node{3 - role}"]}
        written.append(_config(directory / f"node{role}.json", shared | own))
    desktop = {"keys": keys, "identity": str(directory / "desktop"), "nodes": [certificate["node1"], certificate["node2"]]}
    return [*written, _config(directory / "desktop.json", shared | desktop)]


def _config(path: Path, content: dict[str, Any]) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
    return path


def _relayed(stack: ExitStack, link: tuple[float, float] | None, ports: list[int]) -> list[int]:
    if link is None:
        return ports
    arguments = [str(value) for value in (*link, *ports)]
    relay = stack.enter_context(_process([sys.executable, "-m", "benchmarks.relay", *arguments]))
    return [int(port) for port in _line(relay).split()]


def _running(module: str, config: Path) -> Any:
    return _process([sys.executable, "-m", f"benchmarks.{module}", str(config)])


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when its stdin closes, and is killed if it does not."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
    try:
        yield process
    finally:
        if process.stdin is not None and process.stdout is not None:
            process.stdin.close()
            process.stdout.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _write(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    if process.stdin is None:
        raise RuntimeError("the process has no stdin")
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError(f"{process.args!r} ended early")
    return line
