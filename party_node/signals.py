"""SIGTERM, Ctrl-C and a lost terminal: before a node serves they end it at once, afterwards they stop it.

A handler of Python's runs in the main thread, between two of its instructions: while a kernel is compiled or a pack is read
it may have to wait for seconds. So a thread that does nothing else hears of a signal, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from threading import Thread


class Signals:
    """From here on they end the process, without a word and with exit code 0. For the main thread."""

    def __init__(self) -> None:
        self._ending = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
            self._ending.append(signal.SIGHUP)
        self._heard, self._hearing = socket.socketpair()
        self._heard.setblocking(False)
        for number in self._ending:
            signal.signal(number, _end)
        signal.set_wakeup_fd(self._heard.fileno(), warn_on_full_buffer=False)
        with contextlib.suppress(RuntimeError):  # no thread can be started: then the handler has to do
            Thread(target=self._listen, name="trine-signals", daemon=True).start()

    def stop_instead(self, stop: Callable[[], None]) -> None:
        """From here on they call `stop` instead."""
        for number in self._ending:
            signal.signal(number, lambda *_: stop())
        signal.set_wakeup_fd(-1)
        self._heard.close()  # the thread hears of the end, and of every signal that came before

    def _listen(self) -> None:
        with self._hearing:
            while number := self._hearing.recv(1):
                if number[0] in self._ending:
                    os._exit(0)


def _end(*_: object) -> None:
    os._exit(0)  # nothing is open yet that would need an orderly end
