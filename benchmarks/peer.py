"""The peer: SecretFlow-SPU in a virtual environment of its own, run on the same shapes by ``spu_llama.py``.

Three processes on two cores oversubscribe its spinning threads, so both its settings are measured and its better one is quoted.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import platformdirs

from benchmarks.relay import relays
from benchmarks.shapes import SHAPES, Work

VERSION = "0.9.5"
SETTINGS: dict[str, dict[str, str]] = {"stock": {}, "OMP_THREAD_LIMIT=1": {"OMP_THREAD_LIMIT": "1"}}
FEW_ROWS = 32  #: longer prompts take SPU minutes: they run once
SCRIPT = Path(__file__).with_name("spu_llama.py")


class Peer:
    """SPU, installed on first use, under the Python that we run under: it links to that one."""

    def __init__(self) -> None:
        place = Path(platformdirs.user_cache_dir("trine")) / f"bench-spu-{VERSION}-python-{platform.python_version()}"
        self._python = place / "bin" / "python"
        if not (place / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run([self._python, "-m", "pip", "install", "--quiet", f"spu=={VERSION}"], check=True)
            (place / "installed").touch()

    def measure(self, work: Work) -> dict[str, Any] | None:
        """Both settings' figures, and the name of the better one; None if SPU could do it in neither.

        SPU has one kind of link: a row whose links differ is compared with SPU on the desktop's on all of them.
        """
        figures: dict[str, Any] = {}
        for name, extra in SETTINGS.items():
            try:
                figures[name] = self._run(work, extra)
            except subprocess.CalledProcessError as error:  # memory, mostly: the other rows are wanted all the same
                print(f"SPU, {work.title}, {name}: {error}\n{error.stderr[-2000:]}", file=sys.stderr)
        if not figures:
            return None
        better = min(figures, key=lambda name: figures[name]["median_s"])
        return figures | {"better": better, "seconds": figures[better]["median_s"]}

    def _run(self, work: Work, extra: dict[str, str]) -> dict[str, Any]:
        mode = ["decode", "1", str(work.past)] if work.decode else ["prefill", str(work.rows)]
        command = [str(self._python), str(SCRIPT), SHAPES[work.shape].peer, *mode]
        with TemporaryDirectory(prefix="trine-bench-spu-") as place, ExitStack() as stack:
            environment = os.environ | extra | {"SPU_TMP": place, "REPS": "1" if work.rows > FEW_ROWS else "3"}
            if work.desktop is not None:
                environment |= {"SPU_PORTS": stack.enter_context(relays(work.desktop))}
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=place)
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return figures | sent(done.stdout)


def sent(log: str) -> dict[str, int]:
    """Bytes and messages that rank 0 sent in its first run, from SPU's own profile: its Python interface counts none."""
    found = re.search(r"Link details: total send bytes (\d+), recv bytes \d+, send actions (\d+)", log)
    return {"bytes": int(found[1]), "sends": int(found[2])} if found else {}
