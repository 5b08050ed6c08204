"""`trine-model`: share a checkpoint to two nodes, and check what was shared."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine.errors import TrineError

if TYPE_CHECKING:
    from engine.models.config import ModelSpec
    from engine.provision.check import Accuracy
    from engine.provision.checkpoint import Checkpoint
    from engine.provision.share import Report

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
EDGE = 0.75  #: a value beyond this part of its window is reported


@app.callback()
def _model() -> None:
    """Prepare a model for private chat: share it to two nodes, check it."""


def share_model(source: Path, out: Path, name: str, context: int, report: "Report") -> "ModelSpec":
    """Share the checkpoint at `source` (a Hugging Face directory or a GGUF file) into `out`.

    Raises:
        ModelError: it cannot be used; nothing is left behind.
    """
    from engine.provision.checkpoint import open_checkpoint
    from engine.provision.share import Options, share

    checkpoint = open_checkpoint(source)
    return share(checkpoint, out, Options(name, context, *_chat(checkpoint)), report)


def _chat(checkpoint: "Checkpoint") -> tuple[list[list[int]], list[int], list[int]]:
    """(calibration texts, public prefix, tokens that end an answer)."""
    from app import texts
    from engine.generate.tokenizer import ChatTokenizer

    shape = checkpoint.shape
    chat = ChatTokenizer(checkpoint.tokenizer, checkpoint.chat_template, shape.eos_ids)
    return texts.calibration(checkpoint.tokenizer), chat.public_prefix(), sorted(chat.stop_ids)


@app.command()
def share(
    model: Annotated[Path, typer.Argument(help="A LLaMA checkpoint directory (Hugging Face) or a GGUF file.")],
    out: Annotated[Path, typer.Option(help="An empty or new directory for node1, node2 and client.")],
    name: Annotated[str, typer.Option(help="What users see; the file's name by default.")] = "",
    context: Annotated[int, typer.Option(min=32, help="The longest conversation, in tokens.")] = 2048,
) -> None:
    """Write a pack for each node and the clients' file. Give each to its party only: two of the three are the model."""
    with _errors(), _progress() as report:
        spec = share_model(model, out, name or model.stem, context, report)
    Console().print(
        f"Shared {spec.name}: {out}/node1, {out}/node2 and {out}/client. "
        f"A token is garbled (and redone) with probability 2^{math.log2(spec.wrap_budget):.1f}.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def check(
    shared: Annotated[Path, typer.Argument(help="The directory that `trine-model share` wrote.")],
    model: Annotated[Path, typer.Argument(help="The checkpoint it was made from.")],
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of text to run.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the engine's next-token distributions with the plaintext's, on text that calibration did not see."""
    with _errors(), _progress() as report:
        accuracy, use = check_model(shared, model, tokens, report)
    beyond = {f"{section}.{name}": value for (section, name), value in use.items() if value > EDGE}
    if as_json:
        sys.stdout.write(json.dumps(asdict(accuracy) | {"beyond": beyond, "largest_use": max(use.values())}) + "\n")
    else:
        _print_table(accuracy, beyond, max(use.values()))
    if beyond:
        raise typer.Exit(1)


def check_model(shared: Path, model: Path, tokens: int, report: "Report") -> "tuple[Accuracy, dict[tuple[int, str], float]]":
    """(the accuracy, how much of each window was used) of a shared model, all three parties in this process."""
    from app import texts
    from engine.parties.trio import Trio
    from engine.provision import check as checking
    from engine.provision.checkpoint import open_checkpoint
    from engine.provision.pack import load_client_model, load_node_pack
    from engine.provision.weights import WeightSource

    checkpoint = open_checkpoint(model)
    client = load_client_model(shared / "client")
    packs = [load_node_pack(shared / f"node{role}") for role in (1, 2)]
    spec = client.spec

    def trio(context: int) -> Trio:
        return Trio(spec, client.seeds, packs, prefix=len(spec.prefix), context=context)

    pieces = texts.checking(checkpoint.tokenizer, tokens)
    weights = WeightSource(checkpoint)
    total = sum(map(len, pieces))
    accuracy, seen = checking.check(trio, weights, spec, pieces, lambda done: report("comparing", done, total))
    return accuracy, checking.window_use(spec, seen)


def _print_table(accuracy: "Accuracy", beyond: dict[str, float], largest: float) -> None:
    table = Table(title=f"Engine beside plaintext, {accuracy.tokens} tokens", show_header=False)
    table.add_row("logit error, rms / spread", f"{accuracy.logit_error:.3%}")
    table.add_row("total variation of the next token, mean", f"{accuracy.total_variation:.5f}")
    table.add_row("equal argmax", f"{accuracy.argmax:.2%}")
    change = accuracy.perplexity / accuracy.plain_perplexity - 1
    table.add_row("perplexity (plaintext)", f"{accuracy.perplexity:.3f} ({accuracy.plain_perplexity:.3f}, {change:+.3%})")
    table.add_row("wrap budget a token", f"2^{math.log2(accuracy.wrap_budget):.1f}")
    table.add_row("steps redone after a wrap", str(accuracy.redone))
    table.add_row("largest use of a window", f"{largest:.0%}")
    console = Console()
    console.print(table)
    for name, value in beyond.items():
        console.print(f"window {name}: used to {value:.0%}; beyond 100 % a value wraps into a wrong cell", highlight=False)


@contextmanager
def _errors() -> Iterator[None]:
    """One clear line on stderr and the error's exit code."""
    try:
        yield
    except TrineError as error:
        sys.stderr.write(f"trine-model: {error}\n")
        raise typer.Exit(error.exit_code) from None


@contextmanager
def _progress() -> "Iterator[Report]":
    """A bar for each kind of work, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, object] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=of)
            progress.update(tasks[what], completed=done)  # type: ignore[arg-type]  # a task's id

        yield report


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
