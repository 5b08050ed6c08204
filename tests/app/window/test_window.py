from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QInputMethodEvent, QKeyEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QWidget
from pytestqt.qtbot import QtBot

from app.chat.chat import Chat, Settings
from app.demo.start import Report, Running
from app.window.about import PrivacyDialog
from app.window.main import MainWindow
from app.window.messages import AnswerWidget, Question
from app.window.theme import DARK
from engine.errors import InputError, LinkError, ModelError
from tests.app.scripted import END, ScriptedConversation, tokens_of
from tests.app.window.conftest import TOKENIZER, Show, replies

WAIT = ScriptedConversation.WAIT


def shown_text(answer: AnswerWidget) -> str:
    return answer.view.toPlainText()


def test_enter_sends_and_the_answer_streams(show: Show) -> None:
    shown = show([[*tokens_of("The capital is "), WAIT, *tokens_of("**Paris**."), END]])
    window = shown.window
    QTest.keyClicks(window.composer.field, "Capital?")
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return)
    question, answer = window.transcript.messages
    assert isinstance(question, Question)
    assert question.text == "Capital?"
    assert isinstance(answer, AnswerWidget)
    shown.qtbot.waitUntil(lambda: shown_text(answer) == "The capital is")
    assert window.busy
    shown.conversation.go.set()
    shown.qtbot.waitUntil(lambda: shown_text(answer) == "The capital is Paris.")
    shown.qtbot.waitUntil(lambda: not window.busy)
    assert "tokens" in answer.foot.note.text()
    assert window.composer.text() == ""


def test_shift_enter_breaks_the_line_and_does_not_send(show: Show) -> None:
    window = show([]).window
    QTest.keyClicks(window.composer.field, "a")
    height = window.composer.field.height()
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(window.composer.field, "b")
    assert window.composer.text() == "a\nb"
    assert window.composer.field.height() > height
    assert not window.transcript.messages


def test_return_while_an_input_method_composes_does_not_send(show: Show) -> None:
    shown = show(replies("ok"))
    field = shown.window.composer.field
    field.setPlainText("に")
    QApplication.sendEvent(field, QInputMethodEvent("ほん", []))
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert not shown.window.transcript.messages
    commit = QInputMethodEvent("", [])
    commit.setCommitString("日本")
    QApplication.sendEvent(field, commit)
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert len(shown.window.transcript.messages) == 2


def test_progress_is_shown_layer_by_layer_until_the_first_word(show: Show) -> None:
    shown = show([[WAIT, *tokens_of("x"), END]])
    answer = shown.ask("question")
    shown.qtbot.waitUntil(lambda: "layer 1 of 1" in answer.progress.label.text())
    assert answer.progress.bar.value() == 1000
    assert answer.progress.isVisible()
    assert "tokens" in shown.window.status.figures.text()
    shown.conversation.go.set()
    shown.qtbot.waitUntil(lambda: not answer.progress.isVisible())


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_says_stopping_then_stopped_and_keeps_the_text(show: Show, way: str) -> None:
    shown = show([[*tokens_of("half"), WAIT, *tokens_of(" more"), END], *replies("next")])
    window = shown.window
    answer = shown.ask("question")
    shown.qtbot.waitUntil(lambda: shown_text(answer) == "half")
    if way == "button":
        QTest.mouseClick(window.composer.button, Qt.MouseButton.LeftButton)
    else:
        QTest.keyClick(window.composer.field, Qt.Key.Key_Escape)
    assert window.composer.hint.text() == "Stopping…"
    shown.qtbot.waitUntil(lambda: not window.busy)
    assert "stopped" in answer.foot.note.text()
    assert shown_text(answer) == "half"
    assert shown_text(shown.answered("again")) == "next"


def test_the_window_lives_while_stopping_blocks(show: Show) -> None:
    shown = show([[*tokens_of("half"), WAIT]])
    release = Event()
    real = shown.conversation.stop

    def slow() -> None:
        release.wait()
        real()

    shown.conversation.stop = slow  # type: ignore[method-assign]
    answer = shown.ask("question")
    shown.qtbot.waitUntil(lambda: shown_text(answer) == "half")
    shown.window.stop()
    QTest.keyClicks(shown.window.composer.field, "typed meanwhile")
    assert shown.window.composer.text() == "typed meanwhile"
    release.set()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)


def test_a_lost_node_is_read_where_the_answer_would_be_and_tried_again(show: Show) -> None:
    error = LinkError("the connection was closed", "node 2")
    shown = show([[*tokens_of("Par"), error], *replies("Paris")])
    answer = shown.answered("Capital?")
    assert answer.failure.isVisible()
    assert answer.failure.label.text().startswith("node 2: the connection was closed. Ask again: ")
    assert shown_text(answer) == "Par"
    QTest.mouseClick(answer.failure.again, Qt.MouseButton.LeftButton)
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    last = shown.window.transcript.messages[-1]
    assert isinstance(last, AnswerWidget)
    assert shown_text(last) == "Paris"
    assert len(shown.window.transcript.messages) == 2


def test_what_cannot_be_sent_comes_back_to_be_changed(show: Show) -> None:
    shown = show([[InputError("too long by 3")]])
    answer = shown.answered("a long question")
    assert "too long by 3" in answer.failure.label.text()
    assert not answer.failure.again.isVisible()
    assert shown.window.composer.text() == "a long question"


def test_answering_again_replaces_the_last_answer_only(show: Show) -> None:
    shown = show(replies("one", "two", "three"))
    first = shown.answered("a")
    second = shown.answered("b")
    assert not first.foot.again.isVisible()
    QTest.mouseClick(second.foot.again, Qt.MouseButton.LeftButton)
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    texts = [message.text for message in shown.window.transcript.messages]
    assert texts == ["a", "one", "b", "three"]


def test_copy_puts_the_markdown_on_the_clipboard(show: Show) -> None:
    shown = show(replies("**bold** `x`"))
    answer = shown.answered("q")
    QTest.mouseClick(answer.foot.copy, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "**bold** `x`"


def test_new_chat_during_an_answer_stops_it_and_forgets(show: Show) -> None:
    shown = show([[*tokens_of("half"), WAIT], *replies("fresh")])
    answer = shown.ask("old question")
    shown.qtbot.waitUntil(lambda: shown_text(answer) == "half")
    QTest.mouseClick(shown.window.header.new, Qt.MouseButton.LeftButton)
    shown.qtbot.waitUntil(lambda: not shown.window.transcript.messages)
    shown.answered("new question")
    assert "old" not in TOKENIZER.decode(shown.conversation.contexts[-1])


def test_a_suggestion_is_sent(show: Show) -> None:
    shown = show(replies("Paris."))
    button = shown.window.transcript.welcome.buttons[0]
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    shown.qtbot.waitUntil(lambda: not shown.window.busy and len(shown.window.transcript.messages) == 2)
    assert not shown.window.transcript.welcome.isVisible()


def test_closing_during_an_answer_leaves_nothing(show: Show) -> None:
    shown = show([[*tokens_of("half"), WAIT, *tokens_of("more")]])
    answer = shown.ask("question")
    shown.qtbot.waitUntil(lambda: shown_text(answer) == "half")
    with shown.qtbot.waitSignal(shown.window.closed):
        shown.window.close()
        assert not shown.window.isVisible()
    assert shown.conversation.closed


def test_closing_during_the_start_gives_it_up(open_window: Callable[..., MainWindow], qtbot: QtBot) -> None:
    reached, left = Event(), Event()

    @contextmanager
    def start(report: Report) -> Iterator[Running]:
        try:
            while True:
                report("sharing the model", 1, 3)
                reached.set()
                Event().wait(0.002)
        finally:
            left.set()
        yield  # type: ignore[misc]

    window = open_window(start)
    qtbot.waitUntil(lambda: window.waiting.label.text() == "Sharing the model…")
    assert window.waiting.bar.value() == 333
    with qtbot.waitSignal(window.closed):
        window.close()
    assert left.is_set()


def test_a_start_that_fails_says_why_and_can_be_tried_again(open_window: Callable[..., MainWindow], qtbot: QtBot) -> None:
    errors = iter([ModelError("truncated", "model.gguf")])

    @contextmanager
    def start(_: Report) -> Iterator[Running]:
        for error in errors:
            raise error
        yield Running(Chat(lambda: ScriptedConversation([]), TOKENIZER, Settings(), 100), "m")

    window = open_window(start)
    qtbot.waitUntil(window.trouble.isVisible)
    assert window.trouble.label.text() == "model.gguf: truncated"
    assert not window.composer.button.isEnabled()
    QTest.mouseClick(window.trouble.again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.ready)
    assert not window.trouble.isVisible()


def focusable(window: QWidget) -> list[QWidget]:
    return [
        widget
        for widget in window.findChildren(QWidget)
        if widget.isVisible() and widget.isEnabled() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
    ]


def test_every_control_has_a_name(show: Show) -> None:
    shown = show(replies("some [link](http://127.0.0.1/) text"))
    before = focusable(shown.window)
    shown.answered("question")
    for widget in {*before, *focusable(shown.window)}:
        text = getattr(widget, "text", str)()
        assert widget.accessibleName() or (isinstance(text, str) and text), widget


def test_tab_reaches_every_control(show: Show) -> None:
    shown = show(replies("an answer"))
    shown.answered("question")
    shown.window.activateWindow()
    shown.window.composer.button.setEnabled(True)
    shown.window.composer.setFocus()
    wanted = set(focusable(shown.window))
    reached = set()
    for _ in range(3 * len(wanted)):
        focus = QApplication.focusWidget()
        assert focus is not None
        reached.add(focus)
        QTest.keyClick(focus, Qt.Key.Key_Tab)
    assert not wanted - reached


def test_the_privacy_page_opens_and_closes(show: Show) -> None:
    window = show([]).window
    QTest.mouseClick(window.header.privacy, Qt.MouseButton.LeftButton)
    dialog = window.findChild(PrivacyDialog)
    assert isinstance(dialog, QDialog)
    words = " ".join(label.text() for label in dialog.findChildren(QWidget) if hasattr(label, "text"))
    assert "work together can read everything" in words
    dialog.reject()


def test_another_appearance_repaints_what_is_there(show: Show) -> None:
    shown = show(replies("`code`"))
    answer = shown.answered("q")
    before = shown.window.grab().toImage().pixelColor(5, 300)
    shown.window.set_colors(DARK)
    assert shown.window.grab().toImage().pixelColor(5, 300).lightness() < before.lightness()
    assert shown_text(answer) == "code"


def test_a_key_held_by_nobody_does_nothing(show: Show) -> None:
    window = show([]).window
    for key in (Qt.Key.Key_Escape, Qt.Key.Key_Return):
        QTest.keyClick(window.composer.field, key)
    QApplication.sendEvent(window, QKeyEvent(QKeyEvent.Type.KeyPress, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier))
    window.regenerate()
    window.copy_last()
    assert not window.transcript.messages


def test_calls_without_a_result_cost_no_reference_to_none(show: Show) -> None:
    """PySide6 6.12.0 took one from None at every such call under Python 3.11: fatal after some thousand."""
    import sys

    field = show([]).window.composer.field
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(500):
        field.setToolTip("")
    assert sys.getrefcount(None) > before - 250
