"""The window as a process: it ends by signals, with nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from contextlib import contextmanager
from app.chat.chat import Chat, Settings
from app.demo.start import Running
from app.window.run import run
from tests.app.scripted import END, ScriptedConversation, chat_tokenizer, tokens_of

@contextmanager
def start(report):
    conversation = ScriptedConversation([[*tokens_of("half"), ScriptedConversation.WAIT, END]])
    chat = Chat(lambda: conversation, chat_tokenizer(), Settings(), 1000)
    yield Running(chat, "model")
    sys.stdout.write(f"closed {conversation.closed}\\n")

def begin():
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication
    from app.window.main import MainWindow
    window = next(w for w in QApplication.topLevelWidgets() if isinstance(w, MainWindow))
    def poll():
        if window.ready and not window.busy:
            window.send("question")
            print("asked", flush=True)
            timer.stop()
    timer = QTimer(window, interval=5)
    timer.timeout.connect(poll)
    timer.start()

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
application = QApplication(["trine"])
QTimer.singleShot(0, begin)
sys.exit(run(start))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c"),
        pytest.param(signal.SIGTERM, 0, id="term"),
        pytest.param(signal.SIGHUP, 0, id="hang-up", marks=pytest.mark.long),  # ends it as SIGTERM does
    ],
)
def test_a_signal_during_an_answer_closes_the_window_cleanly(number: signal.Signals, code: int) -> None:
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("closed True\n", code), err
