"""No act holds the window up: long questions, long words, another appearance, answers that are made to be slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QTextOption
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.window.markdown import AnswerDocument
from app.window.messages import AnswerWidget, Question
from app.window.question import FOLD_CHARACTERS, FOLD_LINES, beginning
from app.window.theme import DARK, LIGHT
from tests.app.window.conftest import TOKENIZER, Show, Shown, replies

ANYWHERE = QTextOption.WrapMode.WrapAnywhere


def work(act: Callable[[], object]) -> float:
    """Processor seconds of this thread in an act and in what it leaves for the next turn."""
    began = time.thread_time()
    act()
    QApplication.processEvents()
    return time.thread_time() - began


def with_answers(shown: Shown, count: int) -> list[AnswerWidget]:
    transcript = shown.window.transcript
    answers = []
    for number in range(count):
        transcript.ask(f"question {number}")
        answers.append(transcript.answer("m"))
        answers[-1].append("A paragraph with **bold** words.\n\n```python\nx = 1\n```\n" * 3)
        answers[-1].finish("figures")
    QApplication.processEvents()
    return answers


def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The appearances in which answers are rendered from now on."""
    seen: list[str] = []
    real = AnswerDocument.show_markdown

    def noted(document: AnswerDocument, text: str, colors: object, **options: bool) -> None:
        seen.append("dark" if colors == DARK else "light")
        real(document, text, colors, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(AnswerDocument, "show_markdown", noted)
    return seen


def test_another_appearance_renders_what_is_in_view_and_the_rest_when_it_is_scrolled_to(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show([])
    answers = with_answers(shown, 24)
    seen = rendered(monkeypatch)
    shown.window.set_colors(DARK)
    assert 1 <= len(seen) <= 12
    assert {*seen} == {"dark"}
    code = answers[0].view.document().rootFrame().childFrames()[0]
    assert code.frameFormat().background().color().name() == LIGHT.code
    first = len(seen)
    bar = shown.window.transcript.verticalScrollBar()
    bar.setValue(0)
    assert len(seen) > first
    code = answers[0].view.document().rootFrame().childFrames()[0]
    assert code.frameFormat().background().color().name() == DARK.code
    bar.setValue(1)
    assert len(seen) < 24
    for value in range(0, bar.maximum(), 100):
        bar.setValue(value)
    assert len(seen) == 24
    shown.window.set_colors(LIGHT)
    shown.window.set_colors(DARK)
    assert len(seen) < 40


def test_an_answer_that_grows_out_of_view_takes_the_new_appearance(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show([])
    with_answers(shown, 8)
    shown.window.transcript.verticalScrollBar().setValue(0)
    growing = shown.window.transcript.answer("m")
    growing.append("`old`")
    shown.window.set_colors(DARK)
    seen = rendered(monkeypatch)
    growing.append("\n\n`new`")
    growing.finish("figures")
    assert seen[-1] == "dark"
    assert growing.view.toPlainText() == "old\nnew"


@pytest.mark.timeout(60)
def test_another_appearance_of_many_answers_is_one_short_turn(show: Show) -> None:
    shown = show([])
    with_answers(shown, 30)
    assert min(work(lambda: shown.window.set_colors(DARK)), work(lambda: shown.window.set_colors(LIGHT))) < 0.25


LONG = {
    "word": "x" * 49_000,
    "lines": "l\n" * 20_000,
    "han": "漢" * 49_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=[*LONG])
def test_the_longest_question_is_sent_shown_and_resized_in_short_turns(show: Show, text: str) -> None:
    shown = show(replies("ok"))
    window = shown.window
    window.composer.field.setPlainText(text)
    QApplication.processEvents()
    assert work(lambda: window.send(text)) < 0.6
    shown.qtbot.waitUntil(lambda: not window.busy, timeout=20_000)
    assert work(lambda: window.resize(731, 600)) < 0.6
    question = window.transcript.messages[0]
    assert isinstance(question, Question)
    assert question.text == text
    assert len(question.view.toPlainText()) <= FOLD_CHARACTERS + 1
    assert question.unfold.isVisible()
    assert question.unfold.text() == f"Show all {len(text):,} characters"


def test_a_folded_question_unfolds(show: Show) -> None:
    shown = show(replies("ok"))
    text = "A line of a long question.\n" * 300 + "its end"
    shown.answered(text)
    question = shown.window.transcript.messages[0]
    assert isinstance(question, Question)
    assert question.view.toPlainText().endswith("question.…")
    height = question.height()
    QTest.mouseClick(question.unfold, Qt.MouseButton.LeftButton)
    assert question.view.toPlainText() == text
    assert not question.unfold.isVisible()
    shown.qtbot.waitUntil(lambda: question.height() > 2 * height)
    assert "its end" in TOKENIZER.decode(shown.conversation.contexts[-1])


def test_short_questions_are_shown_whole_and_long_ones_are_cut_between_lines() -> None:
    for text in ("", "short", "a line\n" * FOLD_LINES, "x" * FOLD_CHARACTERS):
        assert beginning(text) == text
    assert beginning("a line\n" * 200) == "\n".join(["a line"] * FOLD_LINES) + "…"
    assert beginning("x" * (FOLD_CHARACTERS + 1)) == "x" * FOLD_CHARACTERS + "…"


def test_a_long_word_is_wrapped_anywhere_and_other_text_between_words(show: Show) -> None:
    shown = show(replies("word " * 20 + "x" * 3000, "a b"))
    field = shown.window.composer.field
    for text, anywhere in (("x" * 3000, True), ("word " * 600, False), ("a " + "漢" * 2000, True), ("", False)):
        field.setPlainText(text)
        assert (field.wordWrapMode() is ANYWHERE) == anywhere
        document = AnswerDocument()
        document.show_markdown(text, LIGHT)
        assert (document.defaultTextOption().wrapMode() is ANYWHERE) == anywhere
        document.show_plain(text)
        assert (document.defaultTextOption().wrapMode() is ANYWHERE) == anywhere


def test_a_paste_of_fifty_thousand_characters_stays_fluent(show: Show) -> None:
    field = show([]).window.composer.field
    for text in ("word " * 9_900, "x" * 49_000, "\n" * 49_000):
        field.setPlainText("")
        source = QMimeData()
        source.setText(text)
        assert work(lambda source=source: field.insertFromMimeData(source)) < 0.8
        assert work(lambda: QTest.keyClicks(field, "abc")) < 0.8
