"""Processor time a token of all three parties, of two checkouts in turns: ``python -m benchmarks.processor BEFORE AFTER``.

Each checkout runs its own demo, by the Python of its own .venv, in a process of its own. A turn is a fresh conversation: the
queue is dealt and prepared, then a question is asked and `TOKENS` tokens are computed. Both parts end when the parties are at
rest, so that all the work a turn causes is its own: `ahead` for each row that is dealt and prepared, `answer` for each token
of the answer, with the rows that are dealt again behind it. Turns alternate, because a shared machine's speed does not stay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

PARTIES = ("D", "E1", "E2")
TURNS, TOKENS, QUESTION = 10, 40, 12
ALLOWED = 1.05  #: how much more than before

Turn = dict[str, list[float]]  #: of each part, seconds a row or a token of each party


def choose(logits: Any, context: Sequence[int]) -> int:
    """The likeliest token that is none of the first thousand, some of which end an answer."""
    del context
    return int(logits[1000:].argmax()) + 1000


def turn(parties: Any, tokens: int) -> Turn:
    """One conversation."""
    from benchmarks.processes import processor_seconds, wait_until_idle

    pids = (os.getpid(), *parties.pids)

    def spent() -> list[float]:
        wait_until_idle(pids)
        return [processor_seconds(pid) for pid in pids]

    def each(before: Sequence[float], after: Sequence[float], count: int) -> list[float]:
        return [(late - early) / count for early, late in zip(before, after, strict=True)]

    start = spent()
    with parties.open_conversation() as conversation:
        ready = spent()
        rows = conversation.status.prepared_rows
        prompt = [*parties.model.spec.prefix, *range(100, 100 + QUESTION)]
        answer = conversation.generate(prompt, max_tokens=tokens, choose=choose)
        made = sum(1 for _ in answer)
        if made != tokens:
            raise RuntimeError(f"{made} tokens came, not {tokens}")
        return {"ahead": each(start, ready, rows), "answer": each(ready, spent(), tokens)}


def serve() -> None:
    """In a checkout's own process: the demo; a turn for each line of stdin, as a line of JSON."""
    names = ("engine.host.process", "app.demo.demo", "app.demo.demo_model")
    if find_spec("engine.host") is None:  # a checkout of before December 2026
        names = ("engine.ring.process", "app.demo", "app.demo_model")
    process, demo, model = (import_module(name) for name in names)
    process.tune_process(process.DESKTOP_BYTES)

    with demo.demo(model.ensure_demo_model()) as parties:
        for line in sys.stdin:
            print(json.dumps(turn(parties, int(line))), flush=True)


@contextmanager
def checkout(place: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo of a checkout, by this file."""
    command = [str(place / ".venv" / "bin" / "python"), "-P", str(Path(__file__).resolve()), "--serve"]
    environment = os.environ | {"PYTHONPATH": str(place)}
    with subprocess.Popen(
        command, cwd=place, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def ask(process: subprocess.Popen[str], tokens: int) -> Turn:
    """A turn of a checkout that runs."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(f"{tokens}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended early")
    answer: Turn = json.loads(line)
    return answer


def lines(turns: Mapping[str, Sequence[Turn]]) -> list[str]:
    """A table of medians in milliseconds, and of the ratios of the medians and of the turns."""
    out = ["| processor time, ms | before | after | after / before | of the turns, median |", "|---|---|---|---|---|"]
    before, after = (turns[name] for name in ("before", "after"))
    for part, what in (("ahead", "a row ahead of time"), ("answer", "a token of the answer")):
        for i, party in enumerate(PARTIES):
            old, new = ([made[part][i] for made in found] for found in (before, after))
            ratio, paired = median(new) / median(old), median(b / a for a, b in zip(old, new, strict=True))
            kept = "" if ratio <= ALLOWED else " **over**"
            out.append(
                f"| {what}, {party} | {1e3 * median(old):.1f} | {1e3 * median(new):.1f} | {ratio:.3f}{kept} | {paired:.3f} |"
            )
    return out


def main() -> None:
    """Run the turns and print the table."""
    if sys.argv[1:] == ["--serve"]:
        serve()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processor")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    options = parser.parse_args()
    turns: dict[str, list[Turn]] = {"before": [], "after": []}
    with ExitStack() as stack:
        running = {name: stack.enter_context(checkout(getattr(options, name).resolve())) for name in turns}
        for process in running.values():  # compiled, mapped, warm
            ask(process, options.tokens)
        for number in range(options.turns):
            for name in sorted(running, reverse=number % 2 == 0):
                turns[name].append(ask(running[name], options.tokens))
            print("\n".join(lines(turns)) if number + 1 == options.turns else f"turn {number + 1}", flush=True)


if __name__ == "__main__":
    main()
