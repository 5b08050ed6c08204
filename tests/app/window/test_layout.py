"""Nothing is cut off: on small screens, at the smallest size, and whatever is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QMimeData, QPoint, QSize, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialogButtonBox, QLabel, QScrollArea, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from app.window.about import PrivacyDialog
from app.window.composer import MAX_CHARACTERS
from app.window.main import MainWindow
from app.window.theme import application_font
from app.window.widgets import FittingLabel, fit_to_screen
from tests.app.scripted import ScriptedConversation, tokens_of
from tests.app.window.conftest import Show, replies
from tests.app.window.test_start import SlowStart

WAIT = ScriptedConversation.WAIT
WORD = "a" * 3000


@pytest.fixture(autouse=True)
def type_of_the_application(qapp: QApplication) -> Iterator[None]:
    before = qapp.font()
    qapp.setFont(application_font())
    yield
    qapp.setFont(before)


def room() -> QSize:
    return QGuiApplication.primaryScreen().availableSize()


def cut(window: QWidget) -> list[str]:
    """The texts that are wider or higher than their place."""
    QApplication.processEvents()
    shown = [widget for widget in window.findChildren(QWidget) if widget.isVisible() and hasattr(widget, "text")]
    found = []
    for widget in shown:
        if isinstance(widget, QLabel) and widget.wordWrap():
            fits = widget.height() >= widget.heightForWidth(widget.width())
        elif isinstance(widget, FittingLabel):
            fits = widget.fontMetrics().horizontalAdvance(widget.text()) <= widget.width()
        else:
            fits = isinstance(widget, QToolButton) or widget.width() >= widget.minimumSizeHint().width()
        place = widget.rect().translated(widget.mapTo(window, QPoint(0, 0)))
        if not fits or place.left() < 0 or place.right() >= window.width():
            found.append(widget.text() or widget.objectName())
    return found


def test_a_window_is_no_larger_than_its_screen(qtbot: QtBot) -> None:
    window = MainWindow(SlowStart())
    try:
        assert window.width() < room().width()  # there is a frame around it
        assert window.height() < room().height()
    finally:
        with qtbot.waitSignal(window.closed):
            window.close()
        window.deleteLater()


def test_what_fits_keeps_its_size_and_what_does_not_leaves_room_for_a_title_bar(qtbot: QtBot) -> None:
    widget = QWidget()
    qtbot.addWidget(widget)
    fit_to_screen(widget, QSize(300, 200))
    assert widget.size() == QSize(300, 200)
    fit_to_screen(widget, QSize(5000, 5000))
    assert widget.height() <= room().height() - 30


@pytest.mark.parametrize("size", [(440, 420), (1000, 700)], ids=["smallest", "usual"])
def test_no_text_is_cut(show: Show, size: tuple[int, int]) -> None:
    shown = show([[WAIT, *tokens_of("word " * 20), WAIT], *replies(WORD)])
    shown.window.resize(*size)
    shown.qtbot.waitUntil(lambda: not cut(shown.window))
    answer = shown.ask("question")
    shown.qtbot.waitUntil(lambda: "layer" in answer.progress.label.text())
    shown.qtbot.waitUntil(lambda: not cut(shown.window))
    shown.conversation.go.set()
    shown.qtbot.waitUntil(lambda: "tokens/s" in shown.window.status.figures.text())
    shown.qtbot.waitUntil(lambda: not cut(shown.window))
    shown.conversation.stop()
    shown.qtbot.waitUntil(lambda: not shown.window.busy)
    shown.window.status.set_states({"node1": "connecting", "node2": "not running"})
    shown.answered(WORD)
    shown.qtbot.waitUntil(lambda: not cut(shown.window))


def test_a_narrow_header_says_the_same_more_shortly(show: Show) -> None:
    header = show([]).window.header
    assert header.privacy.text() == "How private is this?"
    header.window().setMinimumWidth(0)
    for width, text in ((390, "Privacy"), (260, "")):
        header.resize(width, header.height())
        assert header.privacy.text() == text
        assert header.privacy.accessibleName() == "How private is this?"


def test_the_privacy_page_fits_and_scrolls(show: Show) -> None:
    window = show([]).window
    QTest.mouseClick(window.header.privacy, Qt.MouseButton.LeftButton)
    dialog = window.findChild(PrivacyDialog)
    assert isinstance(dialog, PrivacyDialog)
    fit_to_screen(dialog, QSize(10_000, 10_000))
    assert dialog.height() < room().height()
    dialog.resize(dialog.minimumSize())
    QApplication.processEvents()
    close = dialog.findChild(QDialogButtonBox)
    assert dialog.rect().contains(close.geometry())
    area = dialog.focusWidget()
    assert isinstance(area, QScrollArea)
    QTest.keyClick(area, Qt.Key.Key_PageDown)
    assert area.verticalScrollBar().value() > 0
    assert not cut(dialog)
    dialog.reject()


def test_a_privacy_page_is_no_larger_than_its_screen(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("app.window.about.fit_to_screen", lambda window, wanted: asked.append(wanted))
    qtbot.addWidget(PrivacyDialog())
    assert asked


def test_a_long_word_is_broken_and_never_scrolled_sideways(show: Show) -> None:
    field = show([]).window.composer.field
    for text in ("a" * 300, "a" * 3000):
        field.setPlainText(text)
        QApplication.processEvents()
        assert not field.horizontalScrollBar().isVisible()
        assert field.document().size().height() > 1
    assert field.verticalScrollBar().isVisible()
    field.setPlainText("line\n" * 7)
    QApplication.processEvents()
    assert field.verticalScrollBar().maximum() == 0


def test_a_click_anywhere_in_the_frame_begins_to_write(show: Show) -> None:
    window = show([]).window
    for place in (QPoint(3, 3), window.composer.hint.geometry().center()):
        window.header.new.setFocus()
        QTest.mouseClick(window.composer, Qt.MouseButton.LeftButton, pos=place)
        assert window.focusWidget() is window.composer.field


def test_a_text_that_is_too_long_is_refused_in_words(show: Show) -> None:
    composer = show([]).window.composer
    QTest.keyClicks(composer.field, "begun ")
    source = QMimeData()
    source.setText("x" * 1_200_000)
    composer.field.insertFromMimeData(source)
    assert composer.text() == "begun "
    assert composer.hint.text() == f"Not pasted: 1,200,000 characters, and a message takes {MAX_CHARACTERS:,}"
    QTest.keyClicks(composer.field, "x")
    assert "Enter sends" in composer.hint.text()
    source.setText("y" * 1000)
    composer.field.insertFromMimeData(source)
    assert len(composer.text()) == 1007


def test_a_new_chat_looks_like_the_first_one(show: Show) -> None:
    shown = show(replies("answer"))
    window = shown.window
    welcome = window.transcript.welcome
    window.resize(900, 780)
    QApplication.processEvents()
    before = welcome.geometry()
    shown.answered("question")
    window.new_chat()
    QApplication.processEvents()
    assert welcome.isVisible()
    assert welcome.geometry() == before


def test_a_welcome_that_does_not_fit_begins_at_its_beginning(show: Show) -> None:
    window = show([]).window
    window.resize(440, 420)
    QApplication.processEvents()
    bar = window.transcript.verticalScrollBar()
    assert bar.maximum() > 0
    assert bar.value() == 0
    words = " ".join(label.text() for label in window.transcript.welcome.findChildren(QLabel))
    assert "all three run on this one computer" in words
    assert "protects nothing from its owner" in words


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space], ids=["return", "enter", "space"])
def test_enter_presses_the_button_that_has_the_focus(show: Show, key: Qt.Key) -> None:
    shown = show(replies("Paris."))
    button = shown.window.transcript.welcome.buttons[0]
    button.setFocus()
    QTest.keyClick(button, key)
    shown.qtbot.waitUntil(lambda: len(shown.window.transcript.messages) == 2 and not shown.window.busy)
    assert len(shown.conversation.contexts) == 1


def test_page_keys_turn_the_conversation_from_wherever_one_is(show: Show) -> None:
    shown = show(replies("A paragraph.\n\n" * 60))
    view = shown.answered("question").view
    bar = shown.window.transcript.verticalScrollBar()
    shown.qtbot.waitUntil(lambda: bar.value() == bar.maximum() > 0)
    for widget in (shown.window.composer.field, view):
        widget.setFocus()
        QTest.keyClick(widget, Qt.Key.Key_PageUp)
        shown.qtbot.waitUntil(lambda: bar.value() < bar.maximum())
        assert not shown.window.transcript.following
        QTest.keyClick(widget, Qt.Key.Key_PageDown)
        QTest.keyClick(widget, Qt.Key.Key_PageDown)
        shown.qtbot.waitUntil(lambda: bar.value() == bar.maximum())


def test_what_is_typed_over_an_answer_goes_where_one_writes(show: Show) -> None:
    shown = show(replies("Paris."))
    view = shown.answered("question").view
    composer = shown.window.composer
    view.setFocus()
    QTest.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert composer.text() == ""
    QTest.keyClick(view, "A")
    assert composer.text() == "A"
    assert shown.window.focusWidget() is composer.field
