"""The commands of `trine`: private chat, in a window or in a terminal.

Exit code 0; 2 if the question, an option or the model cannot be used; 3 if a node or the network failed; 4 if this machine did
(a file, a directory, a full disk); 128 and a signal's number after that signal (130: Ctrl-C; 141: nobody reads the output).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.chat.chat import Chat, Settings
from app.chat.events import Done, Event, Failed
from app.cli.display import why_no_window
from app.cli.signals import unwinding
from app.cli.terminal_text import as_text, forgive_letters, read_question, shown, writes
from engine.errors import InputError, TrineError
from engine.host.process import DESKTOP_BYTES, tune_process

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

MACHINE_FAILED = 4

Model = Annotated[Path | None, typer.Option("--model", metavar="DIR", help="A shared model (see `trine-model share`).")]
System = Annotated[str | None, typer.Option("--system", help="A system prompt in place of the model's own.")]
Temperature = Annotated[float, typer.Option("--temperature", help="0 always takes the likeliest token.")]
TopK = Annotated[int, typer.Option("--top-k", help="Choose among the K likeliest tokens; 0: all.")]
TopP = Annotated[float, typer.Option("--top-p", help="Choose among the likeliest tokens of this total probability.")]
Penalty = Annotated[float, typer.Option("--repetition-penalty", help="Above 1 avoids what was said before.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed draws alike: the same answer, but for close calls.")]
Drafts = Annotated[
    int,
    typer.Option(
        "--drafts",
        metavar="K",
        help="Guess up to K tokens a step from the conversation's own text: the same answer, sooner where it repeats itself. "
        "Both nodes then see how many were guessed and how many rightly, which can fingerprint a text. 0: off.",
    ),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", help="An answer's length at most.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"trine {version('trine')}")
        raise typer.Exit


@app.callback()
def _trine(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Chat with a language model that three parties compute together and none of them sees."""
    tune_process(DESKTOP_BYTES)  # while there is one thread


@app.command()
def demo(
    terminal: Annotated[bool, typer.Option("--terminal", help="Chat in this terminal, without a window.")] = False,
    model: Model = None,
    system: System = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = None,
    drafts: Drafts = 0,
) -> None:
    """Start two nodes on this machine and chat with them."""
    settings = Settings(max_tokens, temperature, top_k, top_p, repetition_penalty, seed, _system(system), drafts=drafts)
    with telling_errors():
        settings.chooser()
        from app.demo.start import start_demo

        start = partial(start_demo, settings, model)
        if not terminal and (why := why_no_window()) is not None:
            sys.stderr.write(f"No display ({why}): the chat is in this terminal.\n")
            terminal = True
        if terminal:
            from app.cli.terminal import chat_in_terminal

            raise typer.Exit(chat_in_terminal(start))
        from app.window.run import run

        raise typer.Exit(run(start))


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help='The question; "-" reads it from standard input.')],
    stats: Annotated[bool, typer.Option("--stats", help="Print speed, rounds and bytes behind the answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object in place of the text.")] = False,
    model: Model = None,
    system: System = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = None,
    drafts: Drafts = 0,
) -> None:
    """Ask one question of two nodes on this machine; the answer comes as it is computed."""
    settings = Settings(max_tokens, temperature, top_k, top_p, repetition_penalty, seed, _system(system), drafts=drafts)
    began = time.monotonic()
    with telling_errors():
        settings.chooser()
        text = read_question(sys.stdin, line=False) if prompt == "-" else as_text(prompt)
        if not text.strip():
            raise InputError("there is nothing to answer: the question is empty")
        from app.cli.terminal import answer, cut_note, say_notices, showing_progress, writing
        from app.demo.start import start_demo

        with ExitStack() as stack:
            with showing_progress() as report:
                running = stack.enter_context(start_demo(settings, model, report, text))
                report("connecting to both nodes", 0, 0)
                notices = running.chat.open().status.notices
                cold = time.monotonic() - began
                show = show_nothing if as_json else writing(report)
                last, interrupted = answer(running.chat, lambda chat, emit: chat.send(text, emit), show)
            say_notices(notices)
            if not as_json and (stats or not interrupted):
                sys.stdout.write("\n")
            if isinstance(last, Done):
                if not as_json:
                    sys.stdout.flush()  # before what is said about it
                    sys.stderr.write(cut_note(last, running.chat))
                _print_figures(running.chat, last, cold, stats=stats, as_json=as_json)
            if interrupted:
                raise KeyboardInterrupt
            if isinstance(last, Failed):
                raise last.error


def _system(prompt: str | None) -> str | None:
    return None if prompt is None else as_text(prompt)


def _print_figures(chat: Chat, last: Done, cold: float, *, stats: bool, as_json: bool) -> None:
    from app.cli.figures import as_lines, as_object

    if as_json:
        found = json.dumps(as_object(chat, last, cold), ensure_ascii=False)
        if not writes(found, sys.stdout):
            found = json.dumps(as_object(chat, last, cold))
        sys.stdout.write(found + "\n")
    elif stats:
        sys.stdout.write("\n" + "\n".join(as_lines(chat, last, cold)) + "\n")


def show_nothing(_: Event) -> None:
    """With --json nothing is shown before the end."""


@contextmanager
def telling_errors() -> Iterator[None]:
    """One clear sentence on stderr and the exit code; signals that end a program unwind it first."""
    forgive_letters()
    try:
        with unwinding():
            yield
            sys.stdout.flush()  # here, where a full disk is still told
    except TrineError as error:
        _complain(f"trine: {error}\n", error.exit_code)
    except BrokenPipeError:  # of stdout: links have errors of their own
        _complain("", 128 + signal.SIGPIPE)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        _complain(f"trine: {where}{error.strerror or error}\n", MACHINE_FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise


def _complain(text: str, exit_code: int) -> NoReturn:
    with suppress(OSError):
        sys.stderr.write(shown(text, sys.stderr))
    try:
        sys.stdout.flush()
    except OSError:  # nor will it go at the very end, where Python would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(exit_code) from None
