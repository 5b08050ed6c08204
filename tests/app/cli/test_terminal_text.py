"""Controls are shown on a terminal and nowhere else, and no letter ends a program."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress

import pytest
import typer

from app.cli import commands
from app.cli.terminal_text import MAX_QUESTION, as_text, read_question, shown, visible
from engine.errors import InputError, LinkError
from engine.models.config import ModelSpec

CONTROLS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_control_but_newline_and_tab_is_shown() -> None:
    assert {c for c in CONTROLS if visible(c) == c} == {"\n", "\t"}
    for control in set(CONTROLS) - {"\n", "\t"}:
        assert visible(f"a{control}b").isprintable()
    assert visible("\x1b]52;c;\x07\x9b31m\u202e\r\x7f") == r"\x1b]52;c;\x07\x9b31m\u202e\r\x7f"


def test_letters_of_every_script_stay() -> None:
    """Direction marks and joiners of zero width are part of them."""
    text = "Füße, 你好, مرحبا\u200f, שלום\u200e, न\u094dम\u200d, 👩\u200d🚀, e\u0301, \u00a0\ufeff\u200b"
    assert visible(text) == text
    others = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp", "Cs")]
    assert visible("".join(others)) == "".join(others)


def test_only_a_terminal_gets_another_text() -> None:
    assert shown("\x1b[2J", Terminal()) == r"\x1b[2J"
    assert shown("\x1b[2J", io.StringIO()) == "\x1b[2J"


# What `trine` does with a scripted answer in place of the parties'.
SCRIPTED = """
import sys
from contextlib import contextmanager
import app.demo.start
from app.chat.chat import Chat
from tests.app.scripted import END, ScriptedConversation, chat_tokenizer, tokens_of
answer, name = eval(sys.argv.pop(1)), eval(sys.argv.pop(1))
@contextmanager
def start(settings, model, report, question=None):
    report(name, 0, 0)
    chat = Chat(lambda: ScriptedConversation([[*tokens_of(answer), END]] * 9), chat_tokenizer(), settings, 1000)
    if question is not None:
        chat.check(question)
    yield app.demo.start.Running(chat, name)
app.demo.start.start_demo = start
from app.cli.main import main
sys.argv[0] = "trine"
main()
"""
STEERING = "safe\x1b]52;c;cm0=\x07 \x1b]0;pwned\x07\x1b[2J\x1b[8mhidden\x9b31m a\rb\x08\x00 \u202egnp.exe\u2066\n\tend"


def trine(
    *words: str, answer: str = "ok", name: str = "small", text: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", SCRIPTED, ascii(answer), ascii(name), *words]
    return subprocess.run(command, input=text, capture_output=True, env=os.environ | variables, check=False, timeout=60)


def test_an_answer_goes_unchanged_into_a_pipe_and_into_json() -> None:
    assert trine("ask", "hi", answer=STEERING).stdout.decode() == STEERING + "\n"
    assert json.loads(trine("ask", "hi", "--json", answer=STEERING).stdout)["answer"] == STEERING


def on_a_terminal(*words: str, answer: str, name: str, typed: Sequence[bytes]) -> bytes:
    """What a terminal gets that stdin, stdout and stderr are; at each prompt the next line is typed."""
    master, slave = os.openpty()
    command = [sys.executable, "-c", SCRIPTED, ascii(answer), ascii(name), *words]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "dumb"})
    os.close(slave)
    written, lines = b"", iter(typed)
    try:
        with open(master, "r+b", buffering=0) as terminal, suppress(OSError):  # all that had it open are gone
            while piece := terminal.read(4096):
                written += piece
                if written.endswith(b"> "):
                    terminal.write(next(lines))
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    return written


@pytest.mark.parametrize("words", [("ask", "hi"), ("demo", "--terminal")], ids=["ask", "chat"])
def test_a_terminal_obeys_nothing_in_an_answer_or_a_name(words: tuple[str, ...]) -> None:
    name, typed = "model\x1b]0;owned\x07[red]", [b"hello\n", b"/quit\n"]
    written = on_a_terminal(*words, answer=STEERING, name=name, typed=typed).replace(b"\r\n", b"\n").decode()
    assert visible(STEERING) in written
    if words[0] == "demo":
        assert r"You chat with model\x1b]0;owned\x07[red]" in written
    for steering in ("\x1b]", "\x07", "\x9b", "\x1b[8m", "\u202e", "\u2066", "\x00"):
        assert steering not in written


def test_an_error_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr := Terminal())
    with pytest.raises(typer.Exit), commands.telling_errors():
        raise LinkError("closed by\x1b]0;x\x07", "node\u202e 1")
    assert stderr.getvalue() == "trine: node\\u202e 1: closed by\\x1b]0;x\\x07\n"


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCALES = [
    C_LOCALE,
    pytest.param({"PYTHONIOENCODING": "ascii:strict"}, marks=pytest.mark.long),
    pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.long),
]


@pytest.mark.parametrize("locale", LOCALES, ids=["C", "ascii", "latin-1"])
def test_letters_that_stdout_cannot_write_are_replaced(locale: dict[str, str]) -> None:
    answer, question = "naïve 你好 👍", "wie heißt 你?"
    for words in (["ask", question], ["demo", "--terminal"]):
        done = trine(*words, answer=answer, name="Modell Größe", text=question.encode(), **locale)
        if locale.get("PYTHONIOENCODING") == "latin-1":
            assert done.stdout.rstrip().decode("latin-1") == "naïve ?? ?", (words, done.stderr)
        else:
            assert done.stdout.rstrip() == b"na?ve ?? ?", (words, done.stderr)
        assert done.returncode == 0
    as_json = trine("ask", question, "--json", answer=answer, **locale)
    assert json.loads(as_json.stdout)["answer"] == answer
    assert (as_json.returncode, as_json.stderr) == (0, b"")


@pytest.mark.long
def test_help_is_written_in_every_locale() -> None:
    for locale in ({"PYTHONIOENCODING": "ascii:strict"}, C_LOCALE):
        assert trine("ask", "--help", **locale).returncode == 0


def test_input_that_is_no_utf_8_is_one_sentence() -> None:
    done = trine("demo", "--terminal", text=b"wie hei\xdft das?\nhello\n", **C_LOCALE)
    assert (done.returncode, done.stdout) == (0, b"\n\nok\n\n")
    assert b"trine: a message holds bytes that are no UTF-8 text\n" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux")
def test_a_word_of_the_command_line_is_utf_8_whatever_the_locale_says() -> None:
    assert as_text("ß".encode().decode("ascii", "surrogateescape")) == "ß"
    assert as_text("ß 你") == "ß 你"
    assert as_text("\udcdf") == "\udcdf"


def flood(*words: str, source: bytes) -> tuple[int, str]:
    """`trine` at the end of an endless stream, with little memory to read it into; the exit code and stderr."""
    program = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))\n"
        "sys.argv[0] = 'trine'; runpy.run_module('app.cli.main', run_name='__main__')\n"
    )
    reader, writer = os.pipe()
    trine = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(reader)
    try:
        while True:
            os.write(writer, source)
    except BrokenPipeError:
        pass
    finally:
        os.close(writer)
    _, said = trine.communicate(timeout=60)
    return trine.returncode, said.decode()


ENDLESS = [b"word word word\n", *(pytest.param(source, marks=pytest.mark.long) for source in (b"a", b"\0", b"\xff"))]


@pytest.mark.parametrize("source", ENDLESS, ids=["words", "a", "NUL", "no text"])
def test_an_endless_question_is_refused_while_it_is_read(source: bytes) -> None:
    code, said = flood("ask", "-", source=source * 4096)
    assert code == 2
    assert said == f"trine: the question is longer than {MAX_QUESTION:,} characters, which no model takes: shorten it\n"


def test_a_question_may_be_as_long_as_is_said() -> None:
    for line in (True, False):
        assert read_question(io.StringIO("a" * MAX_QUESTION + "\n"), line=line) == "a" * MAX_QUESTION + "\n"
        with pytest.raises(InputError):
            read_question(io.StringIO("a" * (MAX_QUESTION + 1)), line=line)
        rest = io.StringIO("a" * (3 * MAX_QUESTION))
        with pytest.raises(InputError):
            read_question(rest, line=line)
        assert rest.tell() < MAX_QUESTION + 10


def test_an_endless_line_ends_a_chat_from_a_pipe() -> None:
    done = trine("demo", "--terminal", text=b"hello\n" + b"a" * (MAX_QUESTION + 1))
    assert (done.returncode, done.stdout) == (2, b"ok\n\n")
    assert done.stderr.endswith(b"which no model takes: shorten it\n")


def test_the_longest_context_is_within_a_question() -> None:
    longest = next(bound.le for bound in ModelSpec.model_fields["context"].metadata if hasattr(bound, "le"))
    assert 8 * longest <= MAX_QUESTION
