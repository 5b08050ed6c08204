"""What stands on the screen is what the model hears, and what it does not hear is marked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from app.chat.advice import advised
from app.chat.chat import Chat, Settings
from app.demo.start import Report, Running
from app.window.messages import AnswerWidget, LeftOut, Question
from engine.errors import InputError, LinkError, ProtocolError, TrineError
from tests.app.scripted import ScriptedConversation, tokens_of
from tests.app.window.conftest import MODEL, TOKENIZER, Show, Shown, replies
from tests.app.window.test_start import OpenWindow

WAIT = ScriptedConversation.WAIT
HUNG_UP = LinkError("the other side hung up", "node 2")


def visible(shown: Shown) -> list[str]:
    return [
        message.text if not isinstance(message, AnswerWidget) else message.view.toPlainText()
        for message in shown.window.transcript.messages
        if message.isVisible()
    ]


def heard(shown: Shown) -> str:
    return TOKENIZER.decode(shown.conversation.contexts[-1])


def again(shown: Shown, *, stop: bool = False) -> None:
    shown.window.regenerate()
    if stop:
        shown.qtbot.waitUntil(shown.conversation.waiting.is_set)
        shown.window.stop()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)


@pytest.mark.parametrize("how", ["fails", "is stopped", "says nothing", "is blank"])
def test_another_answer_without_a_word_leaves_the_one_that_was_there(show: Show, how: str) -> None:
    second = {"fails": [HUNG_UP], "is stopped": [WAIT], "says nothing": [1], "is blank": [*tokens_of(" \n"), HUNG_UP]}[how]
    shown = show([*replies("the **good** answer"), second, *replies("ok")])
    shown.answered("question")
    again(shown, stop=how == "is stopped")
    assert visible(shown) == ["question", "the good answer"]
    last = shown.window.transcript.messages[-1]
    assert isinstance(last, AnswerWidget)
    assert last.failure.isVisible() == (how in ("fails", "is blank"))
    if last.failure.isVisible():
        assert "this one stands" in last.failure.accessibleName()
        assert last.failure.again.isVisible()
    shown.answered("next")
    assert "the **good** answer" in heard(shown)
    assert visible(shown)[:2] == ["question", "the good answer"]
    assert not last.failure.again.isVisible()


def test_another_answer_that_breaks_off_stands_in_the_place_of_the_first(show: Show) -> None:
    shown = show([*replies("one"), [*tokens_of("tw"), HUNG_UP], *replies("three")])
    shown.answered("question")
    again(shown)
    assert visible(shown) == ["question", "tw"]
    again(shown)
    assert visible(shown) == ["question", "three"]


def test_another_answer_that_never_comes_can_be_asked_for_again_and_forgotten(show: Show) -> None:
    shown = show([*replies("one"), [HUNG_UP], [HUNG_UP], [WAIT], *replies("fresh")])
    answer = shown.answered("question")
    again(shown)
    again(shown)
    assert visible(shown) == ["question", "one"]
    shown.window.regenerate()
    shown.qtbot.waitUntil(shown.conversation.waiting.is_set)
    assert not answer.isVisible()
    shown.window.new_chat()
    shown.qtbot.waitUntil(lambda: not shown.window.transcript.messages)
    shown.answered("new")
    assert "question" not in heard(shown)
    assert visible(shown) == ["new", "fresh"]


@pytest.mark.parametrize("how", ["fails", "is stopped", "says nothing", "is refused"])
def test_a_question_that_the_model_will_not_hear_is_marked(show: Show, how: str) -> None:
    first = {"fails": [HUNG_UP], "is stopped": [WAIT], "says nothing": [1], "is refused": [InputError("too long")]}[how]
    shown = show([first, *replies("ok", "fine")])
    shown.ask("first question")
    if how == "is stopped":
        shown.qtbot.waitUntil(shown.conversation.waiting.is_set)
        shown.window.stop()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert not any(isinstance(message, LeftOut) for message in shown.window.transcript.messages)  # it can be asked again
    shown.answered("second question")
    shown.answered("third question")
    messages = shown.window.transcript.messages
    asked = [message.text for message in messages if isinstance(message, Question)]
    assert asked == ["second question", "third question"]
    assert [text for text in ("first question", *asked) if text in heard(shown)] == asked
    marked = messages[0]
    assert isinstance(marked, LeftOut)
    assert (marked.text, marked.mark.text()) == ("first question", "Not answered: the model will not hear this question")
    assert marked.mark.isVisible()
    assert visible(shown)[0] == "first question"


def test_a_question_that_is_answered_after_all_or_in_part_is_not_marked(show: Show) -> None:
    shown = show([[HUNG_UP], *replies("yes"), [*tokens_of("ha"), HUNG_UP], *replies("ok")])
    shown.answered("first")
    again(shown)
    shown.answered("second")
    shown.answered("third")
    assert not any(isinstance(message, LeftOut) for message in shown.window.transcript.messages)
    assert [word for word in ("first", "yes", "second", "ha", "third") if word in heard(shown)][-5:] == [
        "first",
        "yes",
        "second",
        "ha",
        "third",
    ]


def test_what_was_said_before_trine_had_to_stop_is_heard_after_it(open_window: OpenWindow, show: Show) -> None:
    """A new start has a new chat; the screen still shows the old one."""
    conversations = [ScriptedConversation([*replies("Paris."), [10**9]]), ScriptedConversation(replies("Two million."))]
    begun = iter(conversations)

    @contextmanager
    def start(_: Report) -> Iterator[Running]:
        conversation = next(begun)
        yield Running(Chat(lambda: conversation, TOKENIZER, Settings(), 20_000), MODEL)

    qtbot = show([]).qtbot
    window = open_window(start)
    qtbot.waitUntil(lambda: window.ready)
    window.send("Capital?")
    qtbot.waitUntil(lambda: not window.busy)
    window.send("lost")  # a fault of our own
    qtbot.waitUntil(window.trouble.isVisible)
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.ready)
    window.send("How many live there?")
    qtbot.waitUntil(lambda: not window.busy)
    said = TOKENIZER.decode(conversations[1].contexts[-1])
    assert [word for word in ("Capital?", "Paris.", "lost", "How many") if word in said] == ["Capital?", "Paris.", "How many"]
    assert [message.text for message in window.transcript.messages if isinstance(message, LeftOut)] == ["lost"]


def test_ctrl_r_that_is_held_down_asks_once(show: Show) -> None:
    shown = show([*replies("one"), [WAIT, *tokens_of("two")], *replies("three")])
    shown.answered("question")
    for _ in range(20):
        QTest.keyClick(shown.window, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    assert len(shown.window.transcript.messages) == 2
    shown.conversation.go.set()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert visible(shown) == ["question", "two"]
    assert len(shown.conversation.contexts) == 2


@pytest.mark.parametrize(
    ("error", "acts"),
    [
        (HUNG_UP, True),
        (LinkError("no sign of life for 3 s", "node 1"), True),
        (LinkError("its certificate is over since May: make a new one", "node 1"), False),
        (LinkError("did not start\nModuleNotFoundError: x", "node 1"), False),
        (LinkError("no listen address: pass --listen HOST:PORT"), False),
        (ProtocolError("busy"), False),
        (InputError("the message is empty"), False),
    ],
)
def test_a_lost_connection_names_the_node_and_the_next_act(error: TrineError, acts: bool) -> None:
    assert advised(error).startswith(str(error))
    assert ("Ask again: " in advised(error)) == acts
