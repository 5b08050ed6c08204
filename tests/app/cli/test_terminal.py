"""The terminal's own ways: keys that are pressed while an answer comes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from types import SimpleNamespace
from typing import cast

import pytest

from app.chat.chat import Chat
from app.chat.events import Done, Emit, Reason, Speed, Text
from app.cli import terminal
from app.demo.start import Running


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written to it is typed into the terminal that stdin is; what is read from it is shown there."""
    master, slave = os.openpty()
    with open(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


def echoes() -> bool:
    return bool(termios.tcgetattr(sys.stdin.fileno())[3] & termios.ECHO)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SystemExit])
def test_keys_pressed_during_an_answer_are_neither_shown_nor_kept(keyboard: int, error: type[BaseException] | None) -> None:
    with suppress(KeyboardInterrupt, SystemExit), terminal.unheard_keys():
        assert not echoes()
        os.write(keyboard, b"typed meanwhile\n")
        assert select.select([sys.stdin], [], [], 10)[0]  # the kernel hands it over in its own time
        if error is not None:
            raise error
    assert echoes()
    shown = select.select([keyboard], [], [], 0)[0]
    assert not shown
    os.write(keyboard, b"typed later\n")
    assert sys.stdin.readline() == "typed later\n"


def test_what_is_no_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with terminal.unheard_keys():
            assert not stdin.closed


def interrupted(times: int) -> Callable[[str], str]:
    left = [times]

    def read(prompt: str) -> str:
        if left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        return "a question"

    return read


@pytest.mark.parametrize(("times", "read"), [(0, "a question"), (1, "a question"), (2, None)])
def test_one_ctrl_c_at_the_prompt_may_have_been_meant_for_the_answer(
    times: int, read: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", interrupted(times))
    assert terminal.next_question() == read
    assert ("Ctrl-C again or /quit ends the chat." in capsys.readouterr().err) == bool(times)


PASTE = """
from app.cli import terminal
import contextlib, readline
print(repr(terminal.next_question()))
"""


def test_a_paste_of_many_lines_is_one_question() -> None:
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PASTE], stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "xterm"}
    )
    os.close(slave)
    shown = b""
    while b"> " not in shown:
        shown += os.read(master, 4096)
    os.write(master, b"\x1b[200~line one\nline two\x1b[201~\r")
    while b"'" not in shown.rpartition(b"'line")[2]:
        shown += os.read(master, 4096)
    assert b"'line one\\nline two'" in shown
    assert process.wait(20) == 0
    os.close(master)


def test_ctrl_c_before_the_answer_listens_still_stops_it() -> None:
    """The chat's thread forgets stops when it begins: it is told again with each sign of the answer."""
    stopped, step = Event(), Text("a", 1, 0.0)
    chat = cast(Chat, SimpleNamespace(stop=stopped.set))
    speed = Speed(1, 1, 0.0, 0.0)

    def job(_: Chat, emit: Emit) -> None:
        emit(step)
        assert stopped.wait(10)
        stopped.clear()  # as `Chat` does when it begins
        emit(step)
        emit(Done(Reason.STOPPED if stopped.wait(10) else Reason.END, speed))

    shown: list[object] = []

    def show(event: object) -> None:
        shown.append(event)
        if len(shown) == 1:
            raise KeyboardInterrupt

    assert terminal.answer(chat, job, show) == (Done(Reason.STOPPED, speed), True)
    assert shown == [step, step, Done(Reason.STOPPED, speed)]


def asked(text: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What the chat is asked when this is typed; None if it is a command."""
    questions: list[str] = []
    chat = SimpleNamespace(new=lambda: None, send=lambda text, emit: questions.append(text), regenerate=lambda emit: None)
    monkeypatch.setattr("builtins.input", lambda prompt: text)
    read = terminal.next_question()
    assert read is not None
    if read == "/quit":
        return None
    job = terminal.command(cast(Running, SimpleNamespace(chat=chat)), read)
    if job is not None:
        job(cast(Chat, chat), lambda event: None)
    return questions[0] if questions else None


@pytest.mark.parametrize("command", ["/quit", "/new", "/again", "/help", " /new\t"])
def test_known_commands_alone_on_a_line_are_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(command, monkeypatch) is None


QUESTIONS = [
    "/etc/fstab: what does noatime mean here?",
    "/* why does this not compile? */\nint main() {}",
    "// a comment, explain it",
    "/s in a regular expression means what?",
    "/QUIT",
    "/new chat ideas for dinner?",
    "/quit\nis what I typed",
    "what does\n/new\ndo?",
    "//usr/bin is the same as\n/usr/bin?",
    "/",
    "//",
    "/unknown",
    "    indented = code\n    why = this",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_all_else_is_a_question(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(question, monkeypatch) == question


@pytest.mark.parametrize("text", ["//quit", "//new", "//x", "//etc/fstab?", "///", "  //help me "])
def test_two_slashes_ask_what_one_would_have_done(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(text, monkeypatch) == text.strip()[1:]
