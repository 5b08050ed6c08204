"""Opening the window, and leaving: by closing it, by Ctrl-C in the terminal, by SIGTERM, by closing the terminal."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import QSocketNotifier
from PySide6.QtWidgets import QApplication

from app.demo.start import Start
from app.window.main import MainWindow
from app.window.theme import application_font

__all__ = ["run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(start: Start) -> int:
    """Show the window until it is closed; returns the exit code. `start` brings up the parties."""
    application = QApplication.instance() or QApplication(sys.argv[:1])
    if not isinstance(application, QApplication):
        raise RuntimeError("Qt runs without windows in this process")
    application.setApplicationName("Trine")
    application.setDesktopFileName("trine")
    application.setStyle("Fusion")
    application.setFont(application_font())
    application.setQuitOnLastWindowClosed(False)  # it is closed before all that it started is gone
    window = MainWindow(start)
    window.closed.connect(application.quit)
    with _closing_on_signals(window) as caught:
        window.show()
        application.exec()
    return 130 if signal.SIGINT in caught else 0


@contextmanager
def _closing_on_signals(window: MainWindow) -> Iterator[list[int]]:
    """Signals close the window. Python runs handlers only between its own instructions, so a socket wakes Qt."""
    caught: list[int] = []
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    notifier = QSocketNotifier(ours.fileno(), QSocketNotifier.Type.Read)

    def arrived() -> None:
        caught.extend(ours.recv(64))
        window.close()

    notifier.activated.connect(arrived)
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # `nohup`
    before = {number: signal.signal(number, lambda *_: None) for number in heard}
    old = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield caught
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        notifier.setEnabled(False)
        ours.close()
        theirs.close()
