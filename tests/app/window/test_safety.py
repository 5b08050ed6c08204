"""An answer touches neither network nor disk, and an address opens only after the user has read it."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PySide6.QtCore import QObject, Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMessageBox, QTextBrowser
from pytestqt.qtbot import QtBot

from app.window.markdown import AnswerDocument
from app.window.theme import DARK, LIGHT, Colors
from tests.app.window.conftest import Show, replies

IN_OPEN = 0x20


@contextmanager
def watching(path: Path) -> Iterator[int]:
    """An inotify descriptor that tells whether anything opens the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(path), IN_OPEN) >= 0
        yield descriptor
    finally:
        os.close(descriptor)


def opened(descriptor: int) -> bool:
    try:
        return bool(os.read(descriptor, 4096))
    except BlockingIOError:
        return False


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    image = QImage(40, 40, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.red)
    assert image.save(str(path))
    return path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_the_watch_notices_what_a_plain_browser_does(qtbot: QtBot, picture: Path) -> None:
    browser = QTextBrowser()
    qtbot.addWidget(browser)
    browser.show()
    with watching(picture) as descriptor:
        browser.setMarkdown(f"![x]({picture.as_uri()})")
        browser.grab()
        assert opened(descriptor)


def test_an_answer_opens_no_connection_and_no_file(show: Show, picture: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    web, file = f"http://127.0.0.1:{port}/?q", picture.as_uri()
    answer = "\n\n".join(
        [
            f"![secret]({web})",
            f"![{file}]({file})",
            f"![plain]({picture})",
            f"![ref]\n\n[ref]: {file}",
            f'<img src="{web}"> <img src="{file}"> <link rel="stylesheet" href="{file}"> <iframe src="{web}"></iframe>',
            f"[![in a link]({file})]({web})",
            f"| a |\n|---|\n| ![cell]({file}) |",
            f"- ![item]({web})",
            f"```\n![code]({file})\n```",
            f"> ![quoted]({file})",
        ]
    )
    with watching(picture) as descriptor:
        shown = show(replies(answer))
        shown.answered(f"my own ![x]({file}) too")
        view = shown.window.transcript.messages[-1].view
        shown.window.grab()
        shown.window.set_colors(DARK)
        shown.window.grab()
        view.selectAll()
        view.copy()
        QApplication.processEvents()
        assert not opened(descriptor)
    with pytest.raises(BlockingIOError):
        listener.accept()
    text = view.toPlainText()
    assert text.count("[image not loaded") == 8
    assert "[image not loaded: secret]" in text
    assert '<img src="http' in text
    assert "\ufffc" not in text


class Opened(QObject):
    """Stands where the browser would be started."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    @Slot(QUrl)
    def take(self, address: QUrl) -> None:
        self.addresses.append(address.toString())


@pytest.fixture
def browser() -> Iterator[Opened]:
    taken = Opened()
    schemes = ("http", "https", "file", "mailto")
    for scheme in schemes:
        QDesktopServices.setUrlHandler(scheme, taken, "take")
    yield taken
    for scheme in schemes:
        QDesktopServices.unsetUrlHandler(scheme)


def dialog() -> QMessageBox:
    box = QApplication.activeModalWidget()
    assert isinstance(box, QMessageBox)
    return box


@pytest.mark.parametrize("yes", [True, False])
def test_a_web_address_opens_after_it_was_read_whole(show: Show, browser: Opened, yes: bool) -> None:
    address = "http://127.0.0.1/" + "path/" * 40 + "?q=what-i-asked"
    shown = show(replies(f"[innocent]({address})"))
    view = shown.answered("q").view
    view.anchorClicked.emit(QUrl(address))
    box = dialog()
    assert box.informativeText().replace("\n", "") == address
    wanted = QMessageBox.ButtonRole.AcceptRole if yes else QMessageBox.ButtonRole.RejectRole
    button = next(button for button in box.buttons() if box.buttonRole(button) == wanted)
    assert box.defaultButton() is not button or not yes
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert browser.addresses == ([address] if yes else [])


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "mailto:x@y", "javascript:alert(1)", "/etc/hostname", "http:///x", "#top"]
)
def test_no_other_address_ever_opens(show: Show, browser: Opened, address: str) -> None:
    shown = show(replies("text"))
    view = shown.answered("q").view
    view.anchorClicked.emit(QUrl(address))
    box = dialog()
    for button in box.buttons():
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert not browser.addresses
    assert view.toPlainText() == "text"


def test_formulas_keep_their_backslashes_and_code_stays_as_it_is(qtbot: QtBot) -> None:
    document = AnswerDocument()
    document.show_markdown("\\(x^2\\) and \\[y\\], `\\(c\\)`\n\n```\n\\[d\\]\n```", LIGHT)
    assert document.toPlainText().split() == ["\\(x^2\\)", "and", "\\[y\\],", "\\(c\\)", "\\[d\\]"]


@pytest.mark.parametrize(
    "text", ["", "```", "```py\nx", "|a|\n|-|", "# ", "- ", "![", "![x](", "[x](", "> ", "~~~\n```\n~~~", "1." * 50]
)
def test_an_unfinished_answer_can_be_shown(qtbot: QtBot, text: str) -> None:
    AnswerDocument().show_markdown(text, LIGHT)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_contrast(colors: Colors) -> None:
    pairs = {(colors.text, ground) for ground in (colors.ground, colors.surface, colors.question, colors.code)} | {
        (colors.muted, colors.ground),
        (colors.muted, colors.surface),
        (colors.accent, colors.ground),
        (colors.on_accent, colors.accent),
        (colors.error_text, colors.error_ground),
        (colors.lost, colors.ground),
    }
    for text, ground in pairs:
        high, low = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
