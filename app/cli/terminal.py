"""Chat in a terminal: the answer on stdout as it comes, everything else on stderr."""

from __future__ import annotations

import importlib
import re
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOWrapper
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from app.chat.advice import advised
from app.chat.chat import Chat
from app.chat.events import Computing, Done, Emit, Event, Failed, Reason, Stands, Text, Waiting
from app.cli.terminal_text import read_question, shown, visible
from app.demo.start import Report, Running, Start
from engine.errors import InputError

__all__ = ["answer", "chat_in_terminal", "cut_note", "say_notices", "showing_progress", "writing"]

_ONE_MACHINE = (
    "In this demo all three run on this one machine. That shows how it works;\n"
    "it protects nothing from whoever owns the machine.\n"
)
_STOPPING_SECONDS = 10
_HELP = (
    "Ctrl-C stops an answer, twice at the prompt ends the chat, as /quit and Ctrl-D do;\n"
    "/again answers anew, /new forgets the chat, /help says this. Alone on a line they are commands,\n"
    "everything else is a question; //quit asks what /quit would do.\n"
)


def answer(chat: Chat, job: Callable[[Chat, Emit], None], show: Callable[[Event], None]) -> tuple[Event | None, bool]:
    """Run one answer and show its events; returns the last, `Done` or `Failed`, and whether Ctrl-C ended it.

    The chat blocks in sockets, so it has a thread of its own and Ctrl-C is felt here: the answer is then stopped at both nodes,
    and what came of it is shown (None: nothing has in ten seconds).
    """
    events: SimpleQueue[Event | BaseException] = SimpleQueue()
    thread = Thread(target=_guarded, args=(chat, job, events.put), name="trine-chat", daemon=True)
    try:
        thread.start()
        return _shown(events, show), False
    except KeyboardInterrupt:

        def stopping(event: Event) -> None:
            if not isinstance(event, Done | Failed):
                chat.stop()  # again: an answer forgets what was asked before it began
            show(event)

        chat.stop()
        try:
            return _shown(events, stopping, _STOPPING_SECONDS), True
        except Empty:
            return None, True
    except BaseException:
        chat.stop()
        raise
    finally:
        if thread.ident is not None:
            thread.join(_STOPPING_SECONDS)


def _shown(events: SimpleQueue[Event | BaseException], show: Callable[[Event], None], patience: float | None = None) -> Event:
    """The last event, once all are shown; Empty if none came for so many seconds."""
    while True:
        event = events.get(timeout=patience)
        if isinstance(event, BaseException):
            raise event
        show(event)
        if isinstance(event, Done | Failed):
            return event


def _guarded(chat: Chat, job: Callable[[Chat, Emit], None], put: Callable[[Any], None]) -> None:
    try:
        job(chat, put)
    except BaseException as error:  # shown where the user is
        put(error)


def chat_in_terminal(start: Start) -> int:
    """Questions from stdin, answers to stdout, until the input ends; returns the exit code."""
    with suppress(ImportError):
        importlib.import_module("readline")  # `input` then takes a paste of many lines as one, and knows the questions before
    with ExitStack() as stack:
        with showing_progress() as report:
            running = stack.enter_context(start(report))
            report("connecting to both nodes", 0, 0)
            notices = running.chat.open().status.notices
        _say(f"You chat with {running.model}, computed by three parties: no party alone can read along.\n{_ONE_MACHINE}{_HELP}")
        say_notices(notices)
        while (text := next_question()) is not None and text != "/quit":
            job = command(running, text)
            if job is not None:
                try:
                    _one_answer(running.chat, job)
                except KeyboardInterrupt:  # before the answer began, or behind it
                    _say("\nStopped.\n")
    return 0


def command(running: Running, text: str) -> Callable[[Chat, Emit], None] | None:
    """What a line asks for; None if nothing is to be answered. A command is a line of its own, spelled as in `_HELP`."""
    if text == "/new":
        running.chat.new()
        _say("A new chat.\n")
    elif text == "/again":
        return lambda chat, emit: chat.regenerate(emit)
    elif text == "/help":
        _say(_HELP)
    elif text:
        return lambda chat, emit: chat.send(_unescaped(text), emit)
    return None


def _unescaped(text: str) -> str:
    """Without its first slash, a question of one line that begins with two and no space: it said that this is no command."""
    return text[1:] if re.match(r"//\S.*\Z", text) else text


def _one_answer(chat: Chat, job: Callable[[Chat, Emit], None]) -> None:
    with unheard_keys(), showing_progress() as report:
        last, interrupted = answer(chat, job, writing(report))
    sys.stdout.write("\n" if interrupted else "\n\n")
    sys.stdout.flush()
    if interrupted:
        _say("Stopped.\n")
    elif isinstance(last, Failed):
        _say(f"trine: {advised(last.error)}\n")
    elif isinstance(last, Done):
        _say(cut_note(last, chat))
    _say(standing_note(last))


def standing_note(last: Event | None) -> str:
    """A line that says what the model hears with the next question, where that is not what the screen shows; "" if it is."""
    if not isinstance(last, Done | Failed):
        return ""
    if last.stands is Stands.FORMER:
        return "The answer before this one stands.\n"
    if last.stands is Stands.NOTHING:
        again = "." if isinstance(last, Failed) and isinstance(last.error, InputError) else ": /again asks it once more."
        return f"Not a word came, so the model will not hear this question{again}\n"
    return ""


def say_notices(notices: Sequence[str]) -> None:
    """A line each, on stderr."""
    for notice in notices:
        _say(f"{notice[:1].upper()}{notice[1:]}.\n")


def cut_note(done: Done, chat: Chat) -> str:
    """A line that says which limit cut the answer; "" if none did."""
    if done.reason is Reason.LENGTH:
        return f"The answer was cut after {done.speed.answer_tokens:,} tokens: --max-tokens.\n"
    if done.reason is Reason.CONTEXT:
        return f"The answer was cut after {done.speed.answer_tokens:,} tokens: the model takes {chat.context:,} in all.\n"
    return ""


@contextmanager
def unheard_keys() -> Iterator[None]:
    """Keys that are pressed meanwhile are neither shown nor kept; Ctrl-C and its like still work."""
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def writing(report: Report) -> Callable[[Event], None]:
    """Shows events: text as it comes, the prompt's progress before."""

    def show(event: Event) -> None:
        if isinstance(event, Text):
            report("", 0, 0)  # clears the bar before the first word
            sys.stdout.write(shown(event.text, sys.stdout))
            sys.stdout.flush()
        elif isinstance(event, Waiting):
            report(event.what, 0, 0)
        elif isinstance(event, Computing) and event.step.rows > 1:
            what = "preparing" if event.step.preparing else "computing the prompt"
            report(what, int(1000 * event.step.fraction), 1000)

    return show


@contextmanager
def showing_progress() -> Iterator[Report]:
    """A bar on stderr if that is a terminal; reporting "" takes it away for good."""
    if not sys.stderr.isatty():
        yield lambda what, done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
        task = bars.add_task("", total=None)

        def report(what: str, done: int, of: int) -> None:
            if what:
                bars.update(task, description=visible(what), completed=done, total=of or None)
            elif bars.live.is_started:
                bars.stop()

        yield report


def next_question() -> str | None:
    """The next question; None at the end of the input or at a second Ctrl-C: the first may have been meant for the answer."""
    for warning in ("\nCtrl-C again or /quit ends the chat.\n", "\n"):
        try:
            text = _line()
            return text.rstrip() if "\n" in text.strip() else text.strip()  # the first line of code may be indented, too
        except EOFError:
            _say("\n")
            return None
        except KeyboardInterrupt:
            _say(warning)
    return None


def _line() -> str:
    """A line, or a paste of several; EOFError at the end of the input."""
    if sys.stdin.isatty() or not isinstance(sys.stdin, TextIOWrapper):
        return input("> " if sys.stdin.isatty() else "")
    if not (text := read_question(sys.stdin, line=True)):
        raise EOFError
    return text


def _say(text: str) -> None:
    sys.stderr.write(shown(text, sys.stderr))
    sys.stderr.flush()
