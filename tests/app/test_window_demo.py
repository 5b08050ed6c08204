"""The window on the real demo: two node processes, real sockets, the small model. Nothing of the engine is replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

import app.demo.demo
from app.chat.chat import Settings
from app.demo.demo import Demo
from app.demo.start import start_demo
from app.window.main import MainWindow
from app.window.messages import AnswerWidget
from app.window.theme import LIGHT
from tests.models import small_llama

SECONDS = 60_000
"""Milliseconds that a step may take on a busy machine; the first one compiles kernels."""


@pytest.fixture
def demos(monkeypatch: pytest.MonkeyPatch) -> list[Demo]:
    """The demos that run, so that a test can kill a node by its process id."""
    running: list[Demo] = []
    real = app.demo.demo.demo

    @contextmanager
    def noted(*arguments: object) -> Iterator[Demo]:
        with real(*arguments) as parties:  # type: ignore[arg-type]
            running.append(parties)
            yield parties

    monkeypatch.setattr(app.demo.demo, "demo", noted)
    return running


@pytest.fixture
def window(qtbot: QtBot, small_shared: Path, demos: list[Demo]) -> Iterator[MainWindow]:
    QApplication.setStyle("Fusion")
    window = MainWindow(partial(start_demo, Settings(max_tokens=150), small_shared), LIGHT)  # greedy: it never ends by itself
    window.show()
    qtbot.waitUntil(lambda: window.ready, timeout=2 * SECONDS)
    yield window
    if not window.gone:
        with qtbot.waitSignal(window.closed, timeout=SECONDS):
            window.close()
    window.deleteLater()


def send(window: MainWindow, text: str) -> AnswerWidget:
    QTest.keyClicks(window.composer.field, text)
    QTest.keyClick(window.composer.field, Qt.Key.Key_Return)
    answer = window.transcript.messages[-1]
    assert isinstance(answer, AnswerWidget)
    return answer


def grown(answer: AnswerWidget, length: int) -> bool:
    """Whether the answer is that long; one that failed says so here rather than by a timeout."""
    assert not answer.failure.isVisible(), answer.failure.label.text()
    return len(answer.text) >= length


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(400)
def test_send_stream_stop_send_again_kill_a_node_and_read_the_error(
    window: MainWindow, qtbot: QtBot, demos: list[Demo]
) -> None:
    status = window.status
    qtbot.waitUntil(lambda: "prepared" in status.figures.text(), timeout=SECONDS)
    assert status.parties["node1"].accessibleName() == "Node 1: connected"
    assert status.parties["node2"].accessibleName() == "Node 2: connected"

    first = send(window, "hello there")
    qtbot.waitUntil(lambda: grown(first, 10), timeout=SECONDS)
    begun = first.text
    qtbot.waitUntil(lambda: grown(first, len(begun) + 1), timeout=SECONDS)
    assert window.busy
    assert first.view.isVisible()
    assert not first.progress.isVisible()
    assert f"of {small_llama.TIED.layers}" in first.progress.label.text()
    assert "tokens/s" in status.figures.text()

    QTest.mouseClick(window.composer.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not window.busy, timeout=5000)
    assert not first.failure.isVisible(), first.failure.label.text()
    assert "stopped" in first.foot.note.text()
    assert first.text.startswith(begun)

    second = send(window, "and again")
    qtbot.waitUntil(lambda: grown(second, 10), timeout=SECONDS)
    pids = demos[0].pids
    os.kill(pids[1], signal.SIGKILL)
    qtbot.waitUntil(lambda: not window.busy, timeout=7000)
    assert second.failure.isVisible()
    assert "node 2" in second.failure.label.text()
    assert status.parties["node2"].accessibleName() == "Node 2: lost"

    third = send(window, "anyone?")  # starts the dead node again
    qtbot.waitUntil(lambda: grown(third, 1), timeout=SECONDS)
    pids = demos[0].pids
    with qtbot.waitSignal(window.closed, timeout=SECONDS):
        window.close()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.timeout(400)
def test_closing_in_the_middle_of_an_answer_leaves_no_process(window: MainWindow, qtbot: QtBot, demos: list[Demo]) -> None:
    answer = send(window, "hello")
    qtbot.waitUntil(lambda: grown(answer, 1), timeout=SECONDS)
    with qtbot.waitSignal(window.closed, timeout=SECONDS):
        window.close()
    assert not any(alive(pid) for pid in demos[0].pids)
