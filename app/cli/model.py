"""`trine-model`: share a checkpoint to two nodes, check what was shared, make the identities that parties show each other.

Exit code 0; 1 if `check` finds a window used beyond its edge, or logits far from the plaintext's; 2 if the model, a pack
or an option cannot be used; 4 if something cannot be written; 130 after Ctrl-C. After every other code than 0 and 1
nothing is left of what was begun.
"""

import sys

if __name__ == "__main__":  # as a program, this begins before what takes long to import
    from app.cli.main import model as program

    program()
    sys.exit()

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.main import INTERRUPTED
from app.cli.signals import unwinding
from app.cli.terminal_text import shown, visible
from app.sharing.share import check_model, checkpoint_name, share_model
from engine.errors import InputError, TrineError

if TYPE_CHECKING:
    from engine.provision.check import Accuracy
    from engine.provision.share import Report

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
EDGE = 0.75  #: a value beyond this part of its window is reported
FAR = 0.05  #: and logits that are off by more than this part of their spread: thirty times what the demo model has
COVERED = (
    "look-up windows hold every row of the embedding and what calibration saw on text and on unusual tokens, with margins; "
    "at run time nothing tells that a value has left one, unless its step is garbled three times in a row and given up"
)
MAX_IDENTITY = 40  #: bytes of an identity's name; a certificate has room for 64, some of them ours


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"trine-model {version('trine')}\n")
        raise typer.Exit


@app.callback()
def _model(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Prepare a private chat: share a model to two nodes, check it, make the parties' identities."""


@app.command()
def share(
    model: Annotated[Path, typer.Argument(help="A LLaMA checkpoint directory (Hugging Face) or a GGUF file.")],
    out: Annotated[Path, typer.Option(help="An empty or new directory for node1, node2 and client.")],
    name: Annotated[str, typer.Option(help="What users see; the checkpoint's name by default.")] = "",
    context: Annotated[
        int | None,
        typer.Option(help="The longest conversation, in tokens; 2048 by default, or fewer if the model was made for fewer."),
    ] = None,
) -> None:
    """Write a pack for each node and the clients' file. Give each to its party only: two of the three are the model."""
    notes: list[str] = []
    with _errors(), _progress() as report:
        spec = share_model(model, out, name or checkpoint_name(model), context, report, notes.append)
    console = Console(markup=False)
    text = (
        f"Shared {spec.name}: {out}/node1, {out}/node2 and {out}/client. "
        f"A token is garbled (and redone) with probability 2^{math.log2(spec.wrap_budget):.1f}."
    )
    console.print(shown(text, sys.stdout), highlight=False, soft_wrap=True)
    for note in (*notes, COVERED):
        console.print(shown(f"{note[0].upper()}{note[1:]}.", sys.stdout), highlight=False, soft_wrap=True)


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
    beyond = {name: value for name, value in use.items() if value > EDGE}
    if as_json:
        sys.stdout.write(json.dumps(asdict(accuracy) | {"beyond": beyond, "largest_use": max(use.values())}) + "\n")
    else:
        print_table(accuracy, beyond, max(use.values()))
    if beyond or not accuracy.logit_error <= FAR:  # nor is NaN
        raise typer.Exit(1)


@app.command()
def identity(
    directory: Annotated[Path, typer.Argument(help="A new or empty directory for certificate.pem and key.pem.")],
    name: Annotated[str, typer.Option(help="What the certificate says; the directory's name by default.")] = "",
) -> None:
    """Make what a node or a client shows to the others: a certificate for them to have, and its key, for nobody else."""
    from engine.link import make_identity
    from engine.link.tls import validity
    from engine.provision.output import PRIVATE, make_directory, writing_to

    name = name or directory.resolve().name
    with _errors():
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_IDENTITY:
            raise InputError(f"an identity's name is 1 to {MAX_IDENTITY} bytes of printable text; choose another with --name")
        made = make_identity(name)
        with ExitStack() as undo, writing_to(directory):
            make_directory(directory, undo)
            directory.chmod(PRIVATE)
            made.save(directory)
            undo.pop_all()
    sys.stdout.write(
        f"Made {directory}/certificate.pem, for the other parties, and {directory}/key.pem, for nobody else.\n"
        f"SHA-256 of the certificate: {made.fingerprint}\n"
        f"It holds until {validity(made.certificate).until:%Y-%m-%d}; all parties are told a month before.\n"
    )


def print_table(accuracy: "Accuracy", beyond: dict[str, float], largest: float) -> None:
    """What `check` says: the figures, and each window that is nearly left, by the names that a step's error has."""
    from engine.parties.retry import place

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
    if not accuracy.logit_error <= FAR:
        console.print("the logits are far from the plaintext's: is this the checkpoint that was shared?", highlight=False)
    console.print(f"{COVERED}.", highlight=False, soft_wrap=True)
    for name, value in beyond.items():
        what = f"{place(name)}: {value:.0%} of the window used; a value beyond 100 % is computed wrongly, and nothing tells"
        console.print(what, highlight=False, soft_wrap=True)


@contextmanager
def _errors() -> Iterator[None]:
    """One clear line on stderr and the error's exit code; signals that end a program unwind it first."""
    try:
        with unwinding():
            yield
    except TrineError as error:
        sys.stderr.write(shown(f"trine-model: {error}\n", sys.stderr))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _progress() -> "Iterator[Report]":
    """A bar for each kind of work, on stderr if that is a terminal; nothing before the first work."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, of: int) -> None:
        if what not in tasks:
            progress.start()
            tasks[what] = progress.add_task(visible(what), total=of)
        progress.update(tasks[what], completed=done)

    try:
        yield report
    finally:
        if tasks:
            progress.stop()
