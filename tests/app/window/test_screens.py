"""Small screens and high scales: the window and its dialogs fit, and one can write in all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QSize, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMessageBox, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from app.demo.start import Report, Running
from app.window import links, widgets
from app.window.about import PrivacyDialog
from app.window.main import MainWindow
from app.window.theme import LIGHT, application_font
from engine.errors import LinkError, ModelError
from tests.app.window.conftest import Show
from tests.app.window.test_layout import cut
from tests.app.window.test_start import SlowStart

SCREENS = {
    "1280x720 at 2": (640, 360),
    "1280x720 at 3": (427, 240),
    "1024x600": (1024, 600),
    "800x480 at 2": (400, 240),
}


@pytest.fixture(params=SCREENS.values(), ids=[*SCREENS])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, qapp: QApplication) -> Iterator[QSize]:
    """A screen with so little room."""
    size = QSize(*request.param) - QSize(16, 44)
    monkeypatch.setattr(widgets, "room", lambda window: size)
    monkeypatch.setattr(links, "room", lambda window: size)
    before = qapp.font()
    qapp.setFont(application_font())
    yield size
    qapp.setFont(before)


@pytest.fixture
def opened(qtbot: QtBot) -> Iterator[Callable[..., MainWindow]]:
    windows = []

    def make(start: Callable[[Report], object]) -> MainWindow:
        window = MainWindow(start, LIGHT)  # type: ignore[arg-type]
        windows.append(window)
        window.show()
        QApplication.processEvents()
        return window

    yield make
    for window in windows:
        with qtbot.waitSignal(window.closed):
            window.close()
        window.deleteLater()


def within(widget: QWidget, window: QWidget) -> bool:
    return window.rect().contains(widget.rect().translated(widget.mapTo(window, QPoint(0, 0))))


def fits(window: QWidget, size: QSize) -> bool:
    return window.width() <= size.width() and window.height() <= size.height()


def test_the_window_fits_and_its_text_field_is_seen_whatever_is_written(
    small: QSize, opened: Callable[..., MainWindow]
) -> None:
    window = opened(SlowStart())
    assert fits(window, small)
    for text in ("", "a line", "line\n" * 20):
        window.composer.field.setPlainText(text)
        QApplication.processEvents()
        assert fits(window, small)
        assert within(window.composer.field, window)
        assert within(window.composer.button, window)
        assert window.composer.field.height() >= window.composer.field.fontMetrics().height()
        assert window.composer.rect().contains(window.composer.hint.geometry())
        assert window.composer.field.geometry().bottom() <= window.composer.hint.geometry().top()


def test_a_start_error_is_read_whole_and_leaves_the_text_field(
    small: QSize, opened: Callable[..., MainWindow], qtbot: QtBot
) -> None:
    @contextmanager
    def start(_: Report) -> Iterator[Running]:
        raise ModelError("a reason that goes on and on, " * 20 + "to its end", "/a/long/path/to/model.gguf")
        yield

    window = opened(start)
    qtbot.waitUntil(window.trouble.isVisible)
    QApplication.processEvents()
    assert fits(window, small)
    assert within(window.composer.field, window)
    assert window.trouble.height() >= window.trouble.heightForWidth(window.trouble.width())
    area = window.trouble.parentWidget().parentWidget()
    assert isinstance(area, QScrollArea)
    area.verticalScrollBar().setValue(area.verticalScrollBar().maximum())
    QApplication.processEvents()
    assert not window.trouble.again.visibleRegion().isEmpty()


def test_the_dialogs_fit(small: QSize, show: Show) -> None:
    window = show([]).window
    QTest.mouseClick(window.header.privacy, Qt.MouseButton.LeftButton)
    dialog = window.findChild(PrivacyDialog)
    assert isinstance(dialog, PrivacyDialog)
    assert fits(dialog, small)
    dialog.reject()
    for address in ("http://127.0.0.1/" + "x" * 1550, "http://127.0.0.1/" + "x" * 4000, "http://127.0.0.1/x"):
        links.confirm_and_open(window, QUrl(address))
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        QApplication.processEvents()
        assert box.height() <= small.height()
        for button in box.buttons():
            assert within(button, box)
        area = box.findChild(QScrollArea)
        if area is not None:
            area.verticalScrollBar().setValue(area.verticalScrollBar().maximum())
            assert area.height() >= area.fontMetrics().height()
            assert area.width() <= small.width()  # of its own words Qt has another screen in mind here
        box.reject()


@pytest.mark.parametrize("width", [440, 460, 520, 700])
def test_the_last_line_of_an_error_is_not_cut(show: Show, opened: Callable[..., MainWindow], qtbot: QtBot, width: int) -> None:
    for words in ("word " * 20, "a reason of some length " * 9, "two lines\n" * 6):

        @contextmanager
        def start(_: Report, words: str = words) -> Iterator[Running]:
            raise ModelError(words, "/somebody/models/model.gguf")
            yield

        window = opened(start)
        window.resize(width, 700)
        qtbot.waitUntil(window.trouble.isVisible)
        qtbot.waitUntil(lambda window=window: not cut(window))
    shown = show([[LinkError("a reason of some length " * 9, "node 2")]])
    shown.window.resize(width, 600)
    shown.answered("question")
    qtbot.waitUntil(lambda: not cut(shown.window))


PROGRAM = """
from PySide6.QtWidgets import QApplication
application = QApplication([])
from app.window.main import MainWindow
from tests.app.window.test_start import SlowStart
start = SlowStart()
window = MainWindow(start)
window.show()
application.processEvents()
room, field = window.screen().availableGeometry(), window.composer.field
print(window.width() <= room.width() and window.height() <= room.height() and not field.visibleRegion().isEmpty(), room.width())
window.closed.connect(application.quit)
start.come.set()
window.close()
application.exec()
"""


def test_the_window_fits_on_a_real_small_screen(tmp_path: Path) -> None:
    screen = {"name": "one", "x": 0, "y": 0, "width": 1280, "height": 720, "logicalDpi": 96, "dpr": 1}
    configured = tmp_path / "screens.json"
    configured.write_text(json.dumps({"screens": [screen]}))
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {
        "QT_QPA_PLATFORM": f"offscreen:configfile={configured}",
        "QT_SCALE_FACTOR": "2",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("True 640\n", 0), done.stderr
