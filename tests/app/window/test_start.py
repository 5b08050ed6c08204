"""Before the nodes are ready, and when they do not come: nothing that was written is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.chat.chat import Chat, Settings
from app.demo.start import Report, Running
from app.window.main import MainWindow
from app.window.messages import AnswerWidget
from app.window.status import StatusLine
from app.window.theme import LIGHT
from engine.errors import LinkError
from tests.app.scripted import ScriptedConversation, tokens_of
from tests.app.window.conftest import MODEL, TOKENIZER, Show, replies

Start = Callable[[Report], object]
OpenWindow = Callable[[Start], MainWindow]


class SlowStart:
    """Nodes that come once `come` is set, and then answer."""

    def __init__(self, *answers: str) -> None:
        self.come = Event()
        self.conversation = ScriptedConversation(replies(*answers))

    @contextmanager
    def __call__(self, report: Report) -> Iterator[Running]:
        while not self.come.wait(0.002):
            report("starting two nodes", 1, 2)
        yield Running(Chat(lambda: self.conversation, TOKENIZER, Settings(), 1000), MODEL)


def type_and_enter(window: MainWindow, text: str) -> None:
    QTest.keyClicks(window.composer.field, text)
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return)


def test_a_question_waits_for_the_nodes_and_then_is_answered(open_window: OpenWindow, qtbot: QtBot) -> None:
    start = SlowStart("Paris.")
    window = open_window(start)
    type_and_enter(window, "Capital?")
    question, answer = window.transcript.messages
    assert (question.text, window.composer.text()) == ("Capital?", "")
    assert isinstance(answer, AnswerWidget)
    qtbot.waitUntil(lambda: answer.progress.label.text() == "Waiting for the nodes: starting two nodes…")
    assert not window.waiting.isVisible()
    assert "Esc takes it back" in window.composer.hint.text()
    type_and_enter(window, "another")
    assert window.composer.text() == "another"
    start.come.set()
    qtbot.waitUntil(lambda: answer.view.toPlainText() == "Paris." and not window.busy)
    assert answer.view.accessibleName() == f"Answer of {MODEL}"


def test_a_waiting_question_is_taken_back_before_what_was_written_since(open_window: OpenWindow, qtbot: QtBot) -> None:
    start = SlowStart("fresh")
    window = open_window(start)
    type_and_enter(window, "Capital?")
    QTest.keyClicks(window.composer.field, "of France")
    QTest.mouseClick(window.composer.button, Qt.MouseButton.LeftButton)
    assert window.composer.text() == "Capital?\n\nof France"
    assert not window.busy
    assert window.transcript.welcome.isVisible()
    assert window.waiting.isVisible()
    start.come.set()
    qtbot.waitUntil(lambda: window.ready)
    assert not start.conversation.contexts
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not window.busy)
    assert len(window.transcript.messages) == 2


def test_a_start_that_fails_gives_the_waiting_question_back(open_window: OpenWindow, qtbot: QtBot) -> None:
    come = Event()

    @contextmanager
    def start(_: Report) -> Iterator[Running]:
        come.wait()
        raise LinkError("did not start", "node 1")
        yield

    window = open_window(start)
    type_and_enter(window, "Capital?")
    come.set()
    qtbot.waitUntil(window.trouble.isVisible)
    assert window.composer.text() == "Capital?"
    assert not window.transcript.messages
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return)
    assert window.composer.text() == "Capital?"
    assert window.composer.hint.text() == "The nodes are not running: nothing can be sent"
    assert window.composer.hint.property("warning")


def test_a_fault_of_our_own_ends_the_answer_and_can_be_tried_again(show: Show) -> None:
    shown = show([[*tokens_of("half"), 10**9]])  # no such token
    answer = shown.answered("question")
    assert "fault of its own" in answer.failure.label.text()
    shown.qtbot.waitUntil(shown.window.trouble.isVisible)
    assert not shown.window.busy
    assert shown.window.status.parties["node1"].accessibleName() == "Node 1: not running"


@pytest.mark.parametrize("lost", ["node1", "node2"])
def test_the_node_that_is_lost_is_the_one_that_is_named(show: Show, lost: str) -> None:
    shown = show([])
    states = {"node1": "connected", "node2": "connected"} | {lost: "lost"}
    told = SimpleNamespace(states=states, prepared_rows=0, notices=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedConversation, "status", told)
        parties = shown.window.status.parties
        shown.qtbot.waitUntil(lambda: parties[lost].accessibleName().endswith("lost"))
        assert [parties[node].accessibleName().rpartition(" ")[2] for node in states] == [*states.values()]


def test_a_node_that_stays_away_gets_a_word_on_what_to_do(show: Show) -> None:
    shown = show([[LinkError("cannot be reached", "node 2")]] * 2)
    first = shown.answered("question").failure.label.text()
    assert "start it again" not in first
    second = shown.answered("question").failure.label.text()
    assert second.startswith(first)
    assert "quit Trine and start it again" in second


def test_stop_at_once_is_not_lost(show: Show) -> None:
    """An answer that begins forgets what was asked of the chat before."""
    shown = show([[*tokens_of("word " * 2000)]], pace=0.005)
    answer = shown.ask("question")
    shown.window.stop()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert "stopped" in answer.foot.note.text()


def test_closing_right_after_a_question_is_prompt(show: Show) -> None:
    shown = show([[*tokens_of("word " * 2000)]], pace=0.005)
    shown.ask("question")
    began = time.monotonic()
    with shown.qtbot.waitSignal(shown.window.closed):
        shown.window.close()
    assert time.monotonic() - began < 5  # the answer takes ten


def test_a_question_that_brings_a_dead_node_back_says_so(open_window: OpenWindow, qtbot: QtBot) -> None:
    """Rather than look as if nothing happened."""
    go = Event()
    conversation = ScriptedConversation(replies("Yes."))

    def revive(tick: Callable[[], None]) -> None:
        while not go.wait(0.01):
            tick()

    @contextmanager
    def start(_: Report) -> Iterator[Running]:
        yield Running(Chat(lambda: conversation, TOKENIZER, Settings(), 20_000, revive), MODEL)

    window = open_window(start)
    qtbot.waitUntil(lambda: window.ready)
    window.send("Are you there?")
    answer = window.transcript.messages[-1]
    assert isinstance(answer, AnswerWidget)
    qtbot.waitUntil(lambda: "starting it again" in answer.progress.label.text())
    go.set()
    qtbot.waitUntil(lambda: not window.busy)
    assert answer.text == "Yes."


def states(window: MainWindow) -> list[str]:
    return [window.status.parties[node].accessibleName().partition(": ")[2] for node in ("node1", "node2")]


def test_the_status_line_says_connecting_only_while_somebody_connects(open_window: OpenWindow, qtbot: QtBot) -> None:
    alone = StatusLine(LIGHT)
    assert alone.parties["node1"].accessibleName() == "Node 1: not connected"
    start = SlowStart()
    start.conversation.script.put([ScriptedConversation.WAIT, *tokens_of("x")])
    told = SimpleNamespace(states={"node1": "connected", "node2": "connected"}, prepared_rows=131, notices=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedConversation, "status", told)
        window = open_window(start)
        assert states(window) == ["starting", "starting"]
        start.come.set()
        qtbot.waitUntil(lambda: states(window) == ["connected", "connected"])
        assert "131 tokens prepared" in window.status.figures.text()
        told.states = {"node1": "connecting", "node2": "lost"}  # what is left of a session that has ended
        qtbot.waitUntil(lambda: states(window) == ["not connected", "lost"])
        assert "prepared" not in window.status.figures.text()
        assert "the next question connects" in window.status.parties["node1"].toolTip()
        told.states = {"node1": "connecting", "node2": "connecting"}
        qtbot.waitUntil(lambda: states(window) == ["not connected", "not connected"])
        window.send("question")
        qtbot.waitUntil(lambda: states(window) == ["connecting", "connecting"])
        start.conversation.go.set()
        qtbot.waitUntil(lambda: states(window) == ["not connected", "not connected"])
