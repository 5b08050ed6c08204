"""What is written, pasted and composed reaches the model as it was meant, or a line says why not."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QImage, QInputMethodEvent, QTextCursor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.window.composer import MAX_CHARACTERS
from app.window.messages import Question
from engine.errors import LinkError
from tests.app.scripted import END, ScriptedConversation, tokens_of
from tests.app.window.conftest import TOKENIZER, Show, Shown, replies

WAIT = ScriptedConversation.WAIT


def compose(shown: Shown, text: str) -> None:
    QApplication.sendEvent(shown.window.composer.field, QInputMethodEvent(text, []))


def press_send(shown: Shown) -> None:
    QTest.mouseClick(shown.window.composer.button, Qt.MouseButton.LeftButton)


def paste(shown: Shown, text: str) -> None:
    source = QMimeData()
    source.setText(text)
    shown.window.composer.field.insertFromMimeData(source)


def asked(shown: Shown) -> list[str]:
    return [message.text for message in shown.window.transcript.messages if isinstance(message, Question)]


@pytest.mark.parametrize(("written", "composed"), [("안녕하세", "요"), ("", "네"), ("日本", "ご"), ("two\nlines", "é")])
def test_the_button_sends_what_is_composed_as_well(show: Show, written: str, composed: str) -> None:
    shown = show(replies("ok", "ok"))
    composer = shown.window.composer
    composer.field.setPlainText(written)
    composer.field.moveCursor(QTextCursor.MoveOperation.End)
    compose(shown, composed)
    assert composer.button.isEnabled()
    press_send(shown)
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert asked(shown) == [written + composed]
    assert (composer.text(), composer.field.composing) == ("", "")
    assert not composer.button.isEnabled()
    QTest.keyClicks(composer.field, "next")
    QTest.keyClick(composer.field, Qt.Key.Key_Return)
    assert asked(shown)[1:] == ["next"]


def test_what_is_composed_in_the_middle_is_sent_in_the_middle(show: Show) -> None:
    shown = show(replies("ok"))
    field = shown.window.composer.field
    field.setPlainText("ab")
    field.moveCursor(QTextCursor.MoveOperation.Start)
    field.moveCursor(QTextCursor.MoveOperation.Right)
    compose(shown, "に")
    press_send(shown)
    assert asked(shown) == ["aにb"]


def test_what_is_composed_and_taken_back_cannot_be_sent(show: Show) -> None:
    shown = show([])
    compose(shown, "に")
    compose(shown, "")
    assert not shown.window.composer.button.isEnabled()
    compose(shown, "  ")
    assert not shown.window.composer.button.isEnabled()


def test_return_while_composing_does_not_send_and_does_after_the_field_was_left(show: Show) -> None:
    shown = show(replies("ok"))
    field = shown.window.composer.field
    compose(shown, "に")
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert not asked(shown)
    compose(shown, "")
    QTest.keyClicks(field, "x")
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert asked(shown) == ["x"]


@pytest.mark.parametrize(
    ("there", "selected", "pasted", "fits"),
    [
        (30_000, 30_000, 30_000, True),
        (40_000, 10_000, 20_000, True),
        (40_000, 9_999, 20_000, False),
        (0, 0, 50_000, True),
        (0, 0, 50_001, False),
    ],
)
def test_a_paste_over_a_selection_counts_what_it_replaces(
    show: Show, there: int, selected: int, pasted: int, fits: bool
) -> None:
    shown = show([])
    field = shown.window.composer.field
    field.setPlainText("a " * (there // 2))
    cursor = field.textCursor()
    cursor.setPosition(0)
    cursor.setPosition(selected, QTextCursor.MoveMode.KeepAnchor)
    field.setTextCursor(cursor)
    paste(shown, "b" * pasted)
    assert field.toPlainText().count("b") == (pasted if fits else 0)
    assert len(field.toPlainText()) == (there - selected + pasted if fits else there)
    assert ("Not pasted" in shown.window.composer.hint.text()) == (not fits)
    assert MAX_CHARACTERS == 50_000


def test_a_picture_that_is_pasted_or_dropped_is_refused_in_words(show: Show) -> None:
    shown = show([])
    composer = shown.window.composer
    for source in (QMimeData(), QMimeData(), QMimeData()):
        QTest.keyClicks(composer.field, "x")
        assert "Not pasted" not in composer.hint.text()
        source.setData("image/png", b"x")
        assert composer.field.canInsertFromMimeData(source)
        composer.field.insertFromMimeData(source)
        assert composer.hint.text() == "Not pasted: only text can be sent, no pictures or files"
        assert composer.hint.property("warning")
    QApplication.clipboard().setImage(QImage(2, 2, QImage.Format.Format_RGB32))
    QTest.keyClicks(composer.field, "y")
    composer.field.paste()
    assert "Not pasted" in composer.hint.text()
    assert composer.text() == "xxxy"


def test_the_address_of_a_file_is_pasted_as_text(show: Show) -> None:
    shown = show([])
    source = QMimeData()
    source.setUrls([QUrl("file:///home/me/notes.txt")])
    shown.window.composer.field.insertFromMimeData(source)
    assert "notes.txt" in shown.window.composer.text()


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("a\ud83d b", "a\ufffd b"),
        ("a\x00b", "a\ufffdb"),
        ("a\u2028b\u2029c", "a\nb\nc"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\xa0b", "a\xa0b"),
        ("\u202edlrow", "\u202edlrow"),
        ("x\ufeffy", "x\ufeffy"),
        ("😀\U0010fffd", "😀\U0010fffd"),
        ("a\ufffcb\ufdd0c\ufdd1d", "a\ufffdb\ufffdc\ufffdd"),
    ],
)
@pytest.mark.parametrize("way", ["written", "pasted"])
def test_the_model_hears_the_letters_that_were_written(show: Show, text: str, heard: str, way: str) -> None:
    shown = show([[*tokens_of("ok"), END]])
    field = shown.window.composer.field
    if way == "written":
        field.setPlainText(text)
    elif "\ud83d" in text:
        return  # a clipboard holds whole letters
    else:
        paste(shown, text)
    QTest.keyClick(field, Qt.Key.Key_Return)
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert shown.window.ready
    assert asked(shown) == [heard]
    assert f"user\n{heard}\n" in TOKENIZER.decode(shown.conversation.contexts[-1])


def test_a_draft_survives_whatever_the_answers_do(show: Show) -> None:
    shown = show([[*tokens_of("a"), WAIT], [LinkError("x", "node 1")], *replies("b")])
    field = shown.window.composer.field
    shown.ask("q1")
    shown.qtbot.waitUntil(shown.conversation.waiting.is_set)
    field.setPlainText("draft")
    shown.window.stop()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    assert field.toPlainText() == "draft"
    for question in ("q2", "q3"):
        shown.answered(question)
        assert field.toPlainText() == "draft"


def test_a_low_window_leaves_room_for_the_conversation(show: Show) -> None:
    shown = show([])
    shown.window.setMinimumHeight(0)
    heights = []
    for height in (300, 420, 700):
        shown.window.resize(700, height)
        shown.window.composer.field.setPlainText("line\n" * 30)
        QApplication.processEvents()
        heights.append(shown.window.composer.field.height())
        assert shown.window.transcript.height() >= 60
    assert heights == sorted(set(heights))
