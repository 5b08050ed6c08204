"""Which tests run one after the other, with nothing beside them and unmeasured; `make test` runs the others in pairs."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent

ALONE = {  # a file or a folder of tests: the reason
    "app/chat/test_certificates.py": "runs the demo",
    "app/cli/test_ask_demo.py": "runs the demo, whose nodes use every core, and measures how soon it ends",
    "app/cli/test_loading.py": "measures how soon a program that loads ends",
    "app/cli/test_surroundings.py": "runs the demo, and damages a copy of the kernels' cache",
    "app/local_party/test_slow_line.py": "measures how long lines of a limited rate take",
    "app/test_window_demo.py": "runs the demo, and measures how late its window's loop is",
    "app/window/test_fluent.py": "measures how long the window's thread is held up",
    "app/window/test_run.py": "measures how soon a window's process ends",
    "app/window/test_transcript.py": "measures how late the window's loop is",
    "benchmarks/test_bench.py": "runs the benchmark",
    "benchmarks/test_demo.py": "runs the demo's benchmark",
    "end_to_end": "runs nodes as processes, and measures how soon their failures are noticed",
    "engine/link/test_watch.py": "measures who is silent, and for how long",
    "party_node/test_processes.py": "measures the time and the processor that real nodes take",
    "party_node/test_server.py": "measures how soon a stranger is let go, and the processor that a node takes",
    "party_node/test_silence.py": "measures how soon a silence is noticed",
    "privacy/test_real_session.py": "measures the pace of what is sent",
}


def runs_alone(path: Path) -> bool:
    """Whether the table names this file of tests, or a folder that it lies in."""
    within = path.relative_to(TESTS)
    return any(place.as_posix() in ALONE for place in (within, *within.parents))
