"""The command line on a scripted conversation: what goes where, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.chat.chat import Chat, Settings
from app.cli import commands, terminal
from app.demo.start import Report, Running
from engine.errors import InputError, LinkError, ModelError, ProtocolError, TrineError
from engine.host.process import DESKTOP_BYTES
from tests.app.scripted import END, ScriptedConversation, chat_tokenizer, tokens_of

Script = list[list[object]]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Settings]]:
    """Puts a scripted conversation (or an error) where the demo would start; returns the settings it was started with."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def prepare(script: Script, error: TrineError | None = None) -> list[Settings]:
        seen: list[Settings] = []

        @contextmanager
        def start(settings: Settings, model: Path | None, report: Report, question: str = "") -> Iterator[Running]:
            seen.append(settings)
            report("starting", 0, 0)
            if error:
                raise error
            conversation = ScriptedConversation(script)
            chat = Chat(lambda: conversation, chat_tokenizer(), settings, 1000)
            yield Running(chat, "Testmodel")
            chat.close()
            assert conversation.closed

        monkeypatch.setattr("app.demo.start.start_demo", start)
        return seen

    return prepare


def trine(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(commands.app, arguments, input=text)


def test_the_process_is_tuned_before_it_has_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads than the one that is tuned would keep their arenas and their slices."""
    tuned: list[tuple[int, str]] = []
    monkeypatch.setattr(commands, "tune_process", lambda kept: tuned.append((kept, threading.current_thread().name)))
    assert trine("ask", " ").exit_code == 2
    assert tuned == [(DESKTOP_BYTES, "MainThread")]


def as_process(*arguments: str, environment: dict[str, str] | None = None, **streams: Any) -> subprocess.Popen[str]:
    """The command as a process of its own, before any node is started."""
    words = [sys.executable, "-m", "app.cli.main", *arguments]
    return subprocess.Popen(words, text=True, env=environment, **{"stderr": subprocess.PIPE} | streams)


def replies(*texts: str) -> Script:
    return [[*tokens_of(text), END] for text in texts]


def test_ask_writes_the_answer_and_nothing_else_to_stdout(given: Callable[..., list[Settings]]) -> None:
    given(replies("Paris. 👍"))
    result = trine("ask", "Capital of France?")
    assert (result.stdout, result.stderr, result.exit_code) == ("Paris. 👍\n", "", 0)


def test_ask_reads_a_question_from_stdin(given: Callable[..., list[Settings]]) -> None:
    given(replies("yes"))
    assert trine("ask", "-", text="Is it?\n").stdout == "yes\n"


def test_options_arrive(given: Callable[..., list[Settings]]) -> None:
    seen = given(replies("x"))
    options = {
        "max-tokens": 7,
        "temperature": 0.5,
        "top-k": 3,
        "top-p": 0.8,
        "repetition-penalty": 1.2,
        "seed": 11,
        "drafts": 4,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    trine("ask", "q", *words, "--system", "Be brief.")
    assert seen == [Settings(7, 0.5, 3, 0.8, 1.2, 11, "Be brief.", drafts=4)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("too long"), 2),
        (ModelError("truncated", "x.gguf"), 2),
        (LinkError("closed", "node 1"), 3),
        (ProtocolError("out-of-order"), 3),
    ],
    ids=["input", "model", "link", "protocol"],
)
@pytest.mark.parametrize("when", ["start", "answer"])
def test_an_error_is_one_sentence_and_an_exit_code(
    given: Callable[..., list[Settings]], error: TrineError, code: int, when: str
) -> None:
    given([[*tokens_of("Pa"), error]], error if when == "start" else None)
    result = trine("ask", "q")
    assert result.exit_code == code
    assert result.stderr == f"trine: {error}\n"
    assert result.stdout == ("" if when == "start" else "Pa\n")


@pytest.mark.parametrize(
    "words", [["--temperature", "-1"], ["--top-p", "0"], ["--max-tokens", "0"], ["--seed", "-3"], ["--drafts", "17"]]
)
def test_wrong_options_are_refused_before_anything_starts(given: Callable[..., list[Settings]], words: list[str]) -> None:
    seen = given(replies("x"))
    result = trine("ask", "q", *words)
    assert result.exit_code == 2
    assert words[0][2:] in result.stderr
    assert not seen


def test_an_empty_question_is_refused(given: Callable[..., list[Settings]]) -> None:
    seen = given([])
    assert trine("ask", " \n").exit_code == 2
    assert not seen


@pytest.mark.parametrize("option", ["", "--stats", "--json"])
def test_ctrl_c_stops_the_answer_and_is_130(
    given: Callable[..., list[Settings]], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """The figures that were asked for are those of what came."""
    given([[*tokens_of("half"), ScriptedConversation.WAIT]])
    stopped = []
    stop = Chat.stop
    monkeypatch.setattr(Chat, "stop", lambda self: (stopped.append(1), stop(self)))

    def interrupted(report: Report) -> Callable[[object], None]:
        return partial(interrupting, writing(report))

    def interrupting(show: Callable[[object], None], event: object) -> None:
        show(event)
        if getattr(event, "text", "") == "f":
            raise KeyboardInterrupt

    writing = terminal.writing
    monkeypatch.setattr(terminal, "writing", interrupted)
    monkeypatch.setattr(commands, "show_nothing", partial(interrupting, commands.show_nothing))
    result = trine("ask", "q", *option.split())
    assert result.exit_code == 130
    assert stopped
    if option == "--json":
        found = json.loads(result.stdout)
        assert (found["answer"], found["reason"], found["answer_tokens"]) == ("half", "stopped", 4)
    else:
        first, *figures = result.stdout.splitlines()
        assert first == "half"
        assert ("(4 tokens in" in "".join(figures[:2])) == (option == "--stats")


def test_the_demo_without_a_display_says_so_and_chats_in_the_terminal(given: Callable[..., list[Settings]]) -> None:
    seen = given(replies("one", "two", "three"))
    result = trine("demo", text="first\n\n/again\n/new\nsecond\n/help\n")
    assert result.exit_code == 0
    assert "No display" in result.stderr
    assert result.stdout == "one\n\ntwo\n\nthree\n\n"
    assert seen[0].temperature == 0


def test_quit_leaves_the_terminal_chat(given: Callable[..., list[Settings]]) -> None:
    given(replies("one", "two"))
    result = trine("demo", "--terminal", text="first\n/quit\nsecond\n")
    assert (result.exit_code, result.stdout) == (0, "one\n\n")


@pytest.mark.parametrize("as_argument", [True, False])
def test_a_question_that_is_no_text_is_refused_in_a_sentence(given: Callable[..., list[Settings]], as_argument: bool) -> None:
    given(replies("never"))
    if as_argument:
        result = trine("ask", b"bad \xff".decode("utf-8", "surrogateescape"))
    else:
        result = CliRunner().invoke(commands.app, ["ask", "-"], input=b"bad \xff\n")
    assert result.exit_code == 2
    assert "trine: a message holds bytes that are no UTF-8 text\n" in result.stderr


def test_the_terminal_goes_on_after_an_error(given: Callable[..., list[Settings]]) -> None:
    given([[LinkError("closed", "node 2")], *replies("back")])
    result = trine("demo", "--terminal", text="one\ntwo\n")
    assert "trine: node 2: closed. Ask again: Trine then connects anew" in result.stderr
    assert "\nNot a word came, so the model will not hear this question: /again asks" in result.stderr
    assert "No display" not in result.stderr
    assert result.stdout.endswith("back\n\n")


def test_the_terminal_says_that_the_answer_before_stands(given: Callable[..., list[Settings]]) -> None:
    given([*replies("one"), [LinkError("closed", "node 2")], *replies("other")])
    result = trine("demo", "--terminal", text="first\n/again\n/again\n")
    assert "trine: node 2: closed. Ask again: " in result.stderr
    assert "\nThe answer before this one stands.\n" in result.stderr
    assert result.stdout.endswith("other\n\n")


def test_ctrl_c_before_an_answer_begins_stops_it_and_not_the_chat(
    given: Callable[..., list[Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is drawn then; only at the prompt does Ctrl-C end the chat."""
    given(replies("back"))
    calls, showing_progress = count(), terminal.showing_progress

    def interrupted() -> Any:
        if next(calls) == 1:  # behind the one of the start
            raise KeyboardInterrupt
        return showing_progress()

    monkeypatch.setattr(terminal, "showing_progress", interrupted)
    result = trine("demo", "--terminal", text="one\ntwo\n")
    assert result.exit_code == 0
    assert result.stderr.count("Stopped.") == 1
    assert result.stdout == "back\n\n"


def test_with_a_display_the_demo_opens_the_window(
    given: Callable[..., list[Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given([])
    monkeypatch.setattr(commands, "why_no_window", lambda: None)
    opened = []
    monkeypatch.setattr("app.window.run.run", lambda start: opened.append(start) or 0)
    assert trine("demo").exit_code == 0
    assert len(opened) == 1


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.showing_progress() as report:
            report("sharing the model", 1, 2)
            report("", 0, 0)
            report("", 0, 0)
        assert ("sharing the model" in stream.getvalue()) is shown


def test_json_is_one_object(given: Callable[..., list[Settings]]) -> None:
    given(replies("Paris."))
    result = trine("ask", "q", "--json")
    found = json.loads(result.stdout)
    assert found["answer"] == "Paris."
    assert found["reason"] == "end"
    assert found["answer_tokens"] == 6
    assert (found["drafted"], found["accepted"]) == (9, 7)


def test_figures_tell_of_drafts(given: Callable[..., list[Settings]]) -> None:
    given(replies("Paris."))
    assert "drafted 9 tokens, 7 of them accepted\n" in trine("ask", "q", "--stats", "--drafts", "4").stdout


@pytest.mark.parametrize("command", ["ask", "demo"])
def test_drafts_are_off_and_their_help_says_what_the_nodes_see(given: Callable[..., list[Settings]], command: str) -> None:
    seen = given(replies("x"))
    trine(command, *(["q"] if command == "ask" else []), text="q\n")
    assert seen[0].drafts == 0
    assert "Both nodes then see how many" in " ".join(trine(command, "--help").stdout.replace("│", " ").split())


def test_the_command_line_starts_without_qt_transformers_or_numba() -> None:
    heavy = (
        "import sys, app.cli.main, app.demo.start, app.cli.terminal\n"
        "print(sorted({'PySide6', 'transformers', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_display_that_cannot_be_used_is_named_and_the_chat_is_in_the_terminal(
    given: Callable[..., list[Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given(replies("one"))
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("QT_QPA_PLATFORM")
    result = trine("demo", text="first\n")
    assert (result.exit_code, result.stdout) == (0, "one\n\n")
    assert "No display (DISPLAY=:77 cannot be used): the chat is in this terminal.\n" in result.stderr


def test_the_terminal_says_that_all_three_are_on_this_machine(given: Callable[..., list[Settings]]) -> None:
    given([])
    said = " ".join(trine("demo", "--terminal", text="").stderr.split())
    assert "all three run on this one machine" in said
    assert "protects nothing from whoever owns the machine" in said


@pytest.mark.parametrize("command", [["ask", "q"], ["demo", "--terminal"]], ids=["ask", "demo"])
def test_a_cut_answer_says_so(given: Callable[..., list[Settings]], command: list[str]) -> None:
    given(replies("Paris."))
    result = trine(*command, "--max-tokens", "3", text="q\n")
    assert result.stdout.rstrip("\n") == "Par"
    assert result.stderr.endswith("The answer was cut after 3 tokens: --max-tokens.\n" + ("\n" if "demo" in command else ""))


def test_json_says_in_a_field_that_the_answer_was_cut(given: Callable[..., list[Settings]]) -> None:
    given(replies("Paris."))
    result = trine("ask", "q", "--max-tokens", "3", "--json")
    assert (json.loads(result.stdout)["reason"], result.stderr) == ("length", "")


def test_a_file_that_cannot_be_used_is_one_sentence_and_exit_code_4(given: Callable[..., list[Settings]]) -> None:
    given([], OSError(13, "Permission denied", "/cache/trine"))  # type: ignore[arg-type]
    result = trine("ask", "q")
    assert (result.stderr, result.exit_code) == ("trine: /cache/trine: Permission denied\n", 4)


def test_a_cache_that_cannot_be_written_is_one_sentence() -> None:
    nowhere = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"} | {"HOME": "/proc/1"}
    with as_process("ask", "hi", environment=nowhere) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.startswith("trine: /proc/1/")
    assert err.count("\n") == 1


def test_the_version_is_one_line() -> None:
    assert trine("--version").stdout == f"trine {version('trine')}\n"


def test_ctrl_c_while_it_is_being_imported_is_quiet() -> None:
    program = """
import sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from app.cli.main import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_file_is_as_good_as_dev_null(closed: str, tmp_path: Path) -> None:
    """A socket or a pipe that took its number would be taken for it."""
    program = "import os, app.cli.main; app.cli.main.open_standard_files(); os._exit(0 if os.pipe()[0] > 2 else 1)"
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "{program}" {closed}', sys.executable], check=False)
    assert done.returncode == 0


def test_the_version_goes_nowhere_where_stdout_is_closed() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m app.cli.main --version >&-', sys.executable], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
