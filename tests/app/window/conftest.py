"""A window on a scripted conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.chat.chat import Chat, Settings
from app.demo.start import Report, Running
from app.window.main import MainWindow
from app.window.messages import AnswerWidget
from app.window.theme import LIGHT
from tests.app.scripted import END, ScriptedConversation, chat_tokenizer, tokens_of

TOKENIZER = chat_tokenizer()
MODEL = "Testmodel"


@dataclass
class Shown:
    """A window that is ready, and what it talks to."""

    window: MainWindow
    conversation: ScriptedConversation
    qtbot: QtBot

    def ask(self, text: str) -> AnswerWidget:
        """Send, and wait until the answer is there or waits."""
        self.window.send(text)
        answer = self.window.transcript.messages[-1]
        assert isinstance(answer, AnswerWidget)
        return answer

    def answered(self, text: str) -> AnswerWidget:
        """Send, and wait for the end of the answer."""
        answer = self.ask(text)
        self.qtbot.waitUntil(lambda: not self.window.busy)
        return answer


Show = Callable[..., Shown]


def replies(*texts: str) -> list[list[object]]:
    return [[*tokens_of(text), END] for text in texts]


@pytest.fixture
def open_window(qtbot: QtBot) -> Iterator[Callable[..., MainWindow]]:
    """Opens windows and closes them as a user does."""
    opened: list[MainWindow] = []

    def make(start: Callable[[Report], object]) -> MainWindow:
        window = MainWindow(start, LIGHT)  # type: ignore[arg-type]
        window.resize(800, 600)
        opened.append(window)
        window.show()
        return window

    QApplication.setStyle("Fusion")
    yield make
    for window in opened:
        if not window.gone:
            with qtbot.waitSignal(window.closed):
                window.close()
        window.deleteLater()


@pytest.fixture
def show(open_window: Callable[..., MainWindow], qtbot: QtBot) -> Show:
    """Shows a window on a script of answers, ready."""

    def make(script: Iterable[Sequence[object]], settings: Settings | None = None, pace: float = 0) -> Shown:
        conversation = ScriptedConversation(script, pace)

        @contextmanager
        def start(_: Report) -> Iterator[Running]:
            yield Running(Chat(lambda: conversation, TOKENIZER, settings or Settings(max_tokens=10_000), 20_000), MODEL)

        window = open_window(start)
        qtbot.waitUntil(lambda: window.ready)
        return Shown(window, conversation, qtbot)

    return make
