"""Awkward moments: what people do exactly while Trine has to stop, starts again, or is leaving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.chat.chat import Chat, Settings
from app.demo.start import Report, Running
from app.window.main import MainWindow
from app.window.messages import AnswerWidget, LeftOut
from app.window.presenter import ACTS
from app.window.states import Act
from app.window.worker import Worker
from engine.errors import InputError, SessionStopped
from tests.app.scripted import ScriptedConversation, tokens_of
from tests.app.window.conftest import MODEL, TOKENIZER, Show, replies
from tests.app.window.test_start import OpenWindow

FAULT = [10**9]
"""No such token: a fault of our own, and Trine has to stop."""


class Starts:
    """Nodes that can be started several times; each start has a script of its own and waits until `come` is set."""

    def __init__(self, *scripts: list[list[object]]) -> None:
        self.come = Event()
        self.come.set()
        self.conversations = [ScriptedConversation(script) for script in scripts]
        self._next = iter(self.conversations)

    @contextmanager
    def __call__(self, report: Report) -> Iterator[Running]:
        conversation = next(self._next)
        while not self.come.wait(0.002):
            report("starting two nodes", 1, 2)
        yield Running(Chat(lambda: conversation, TOKENIZER, Settings(), 20_000), MODEL)

    def heard(self, at: int) -> str:
        """The last prompt of a start."""
        return TOKENIZER.decode(self.conversations[at].contexts[-1])


@pytest.fixture
def open_ready(open_window: OpenWindow, qtbot: QtBot) -> Callable[[Starts], MainWindow]:
    def make(starts: Starts) -> MainWindow:
        window = open_window(starts)
        qtbot.waitUntil(lambda: window.ready)
        return window

    return make


def answered(window: MainWindow, text: str, qtbot: QtBot) -> None:
    window.send(text)
    qtbot.waitUntil(lambda: not window.busy)


def ended(window: MainWindow, conversation: ScriptedConversation) -> None:
    """Wait until the worker has left the chat, while nothing of it has reached the window."""
    while not conversation.closed:
        Event().wait(0.001)
    assert window.busy


def test_every_act_of_the_table_is_carried_out() -> None:
    assert {*ACTS} == {*Act}


def test_a_chat_that_is_given_up_while_trine_has_to_stop_is_not_heard_again(
    open_ready: Callable[[Starts], MainWindow], qtbot: QtBot
) -> None:
    starts = Starts([*replies("Paris."), FAULT], replies("ok"))
    window = open_ready(starts)
    answered(window, "old question", qtbot)
    window.send("lost")
    ended(window, starts.conversations[0])
    window.new_chat()
    qtbot.waitUntil(window.trouble.isVisible)
    assert not window.transcript.messages
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.ready)
    answered(window, "new question", qtbot)
    assert "new question" in starts.heard(1)
    assert "old question" not in starts.heard(1)


def test_a_chat_can_be_given_up_while_nothing_runs(open_ready: Callable[[Starts], MainWindow], qtbot: QtBot) -> None:
    starts = Starts([*replies("Paris."), FAULT], replies("ok"))
    window = open_ready(starts)
    answered(window, "old question", qtbot)
    window.send("lost")
    qtbot.waitUntil(window.trouble.isVisible)
    QTest.mouseClick(window.header.new, Qt.MouseButton.LeftButton)
    assert not window.transcript.messages
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.ready)
    answered(window, "new question", qtbot)
    assert "old question" not in starts.heard(1)


def test_trying_again_at_once_is_not_undone_by_what_has_ended(open_ready: Callable[[Starts], MainWindow], qtbot: QtBot) -> None:
    starts = Starts([FAULT], replies("ok"))
    window = open_ready(starts)
    worker = window.findChild(Worker)
    assert isinstance(worker, Worker)
    worker.broken.connect(lambda _: window.trouble.again.click())  # before anything more can come from that worker
    window.send("lost")
    qtbot.waitUntil(lambda: len(window.findChildren(Worker)) == 2)
    qtbot.waitUntil(lambda: window.ready)
    answered(window, "question", qtbot)
    assert window.transcript.messages[-1].text == "ok"
    with qtbot.waitSignal(window.closed):
        window.close()
        assert not window.gone  # there is a worker to wait for
    assert starts.conversations[1].closed


def test_buttons_that_can_do_nothing_say_why(open_ready: Callable[[Starts], MainWindow], qtbot: QtBot) -> None:
    starts = Starts([FAULT], [])
    window = open_ready(starts)
    window.send("lost")
    answer = window.transcript.messages[-1]
    assert isinstance(answer, AnswerWidget)
    qtbot.waitUntil(window.trouble.isVisible)
    hint = window.composer.hint
    assert not hint.property("warning")
    QTest.mouseClick(answer.failure.again, Qt.MouseButton.LeftButton)
    assert (hint.text(), hint.property("warning")) == ("The nodes are not running: nothing can be sent", True)
    window.new_chat()
    QTest.keyClicks(window.composer.field, "x")
    assert not hint.property("warning")
    QTest.mouseClick(window.transcript.welcome.buttons[0], Qt.MouseButton.LeftButton)
    assert hint.property("warning")
    assert not window.transcript.messages


def test_asking_again_while_nodes_are_started_says_why_not(open_ready: Callable[[Starts], MainWindow], qtbot: QtBot) -> None:
    starts = Starts([FAULT], [])
    window = open_ready(starts)
    window.send("lost")
    qtbot.waitUntil(window.trouble.isVisible)
    starts.come.clear()
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    window.regenerate()
    assert window.composer.hint.text() == "Not asked again: the nodes are being started"
    starts.come.set()
    qtbot.waitUntil(lambda: window.ready)
    assert not window.composer.hint.property("warning")


def with_a_second_question_waiting(open_ready: Callable[[Starts], MainWindow], qtbot: QtBot) -> tuple[Starts, MainWindow]:
    """Trine had to stop at "first" and is being started again; "second" waits for the nodes."""
    starts = Starts([FAULT], replies("late", "ok"))
    window = open_ready(starts)
    window.send("first")
    qtbot.waitUntil(window.trouble.isVisible)
    starts.come.clear()
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    window.send("second")
    return starts, window


def test_a_question_that_is_taken_back_leaves_no_other_one_out(
    open_ready: Callable[[Starts], MainWindow], qtbot: QtBot
) -> None:
    starts, window = with_a_second_question_waiting(open_ready, qtbot)
    QTest.keyClick(window.composer.field, Qt.Key.Key_Escape)
    assert window.composer.text() == "second"
    starts.come.set()
    qtbot.waitUntil(lambda: window.ready)
    QTest.keyClick(window, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not window.busy)
    assert [message.text for message in window.transcript.messages] == ["first", "late"]
    assert not any(isinstance(message, LeftOut) for message in window.transcript.messages)
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not window.busy)
    assert all(word in starts.heard(1) for word in ("first", "late", "second"))


def test_a_question_that_is_taken_back_leaves_the_last_answer_its_button(
    open_ready: Callable[[Starts], MainWindow], qtbot: QtBot
) -> None:
    starts, window = with_a_second_question_waiting(open_ready, qtbot)
    window.stop()
    starts.come.set()
    qtbot.waitUntil(lambda: window.ready)
    failed = window.transcript.messages[-1]
    assert isinstance(failed, AnswerWidget)
    assert failed.failure.again.isVisible()
    QTest.mouseClick(failed.failure.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not window.busy)
    late = window.transcript.messages[-1]
    assert isinstance(late, AnswerWidget)
    assert (late.text, late.foot.again.isVisible()) == ("late", True)
    answered(window, "second", qtbot)
    assert not late.foot.again.isVisible()


def test_a_question_that_waits_and_is_sent_leaves_the_one_before_it_out(
    open_ready: Callable[[Starts], MainWindow], qtbot: QtBot
) -> None:
    starts = Starts([FAULT], replies("ok"))
    window = open_ready(starts)
    window.send("first")
    qtbot.waitUntil(window.trouble.isVisible)
    starts.come.clear()
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    window.send("second")
    starts.come.set()
    qtbot.waitUntil(lambda: not window.busy)
    assert [message.text for message in window.transcript.messages if isinstance(message, LeftOut)] == ["first"]
    assert "first" not in starts.heard(1)


def test_a_question_that_was_refused_comes_back_also_in_a_new_chat(show: Show) -> None:
    wait = ScriptedConversation.WAIT
    shown = show([[wait, InputError("too long by 3")]])
    answer = shown.ask("a long question")
    shown.qtbot.waitUntil(shown.conversation.waiting.is_set)
    shown.conversation.stop = lambda: shown.conversation.go.set()  # type: ignore[method-assign]  # too late to stop it
    shown.window.new_chat()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert isinstance(answer, AnswerWidget)
    assert not shown.window.transcript.messages
    assert shown.window.composer.text() == "a long question"


def test_a_start_that_ends_by_itself_is_told(open_window: OpenWindow, qtbot: QtBot) -> None:
    """Nobody asked it to leave, so a window that only waited for it would wait for ever."""

    @contextmanager
    def start(_: Report) -> Iterator[Running]:
        raise SessionStopped
        yield

    window = open_window(start)
    qtbot.waitUntil(window.trouble.isVisible)
    assert "ended by itself" in window.trouble.label.text()


def test_closing_again_waits_for_the_same_end(open_ready: Callable[[Starts], MainWindow], qtbot: QtBot) -> None:
    starts = Starts([[*tokens_of("half"), ScriptedConversation.WAIT]])
    window = open_ready(starts)
    window.send("question")
    qtbot.waitUntil(starts.conversations[0].waiting.is_set)
    told: list[bool] = []
    window.closed.connect(lambda: told.append(starts.conversations[0].closed))
    assert not window.close()
    assert not window.close()
    window.new_chat()
    window.stop()
    window.send("another")
    qtbot.waitUntil(lambda: window.gone)
    assert told == [True]
