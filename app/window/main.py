"""The chat window."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QResizeEvent,
    QShortcut,
)
from PySide6.QtWidgets import QAbstractButton, QAbstractSlider, QApplication, QHBoxLayout, QMainWindow, QVBoxLayout, QWidget

from app.demo.start import Start
from app.window.about import PrivacyDialog
from app.window.foot import Foot
from app.window.header import Header
from app.window.icons import icon
from app.window.messages import AnswerWidget
from app.window.presenter import Presenter
from app.window.states import Given, WindowEvent
from app.window.theme import Colors, colors_of_the_system, palette, style_sheet
from app.window.transcript import Transcript
from app.window.widgets import fit_to_screen

__all__ = ["MainWindow"]

_SIZE = QSize(980, 760)
_COMMANDS = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.MetaModifier


class MainWindow(QMainWindow):
    """Header, transcript, composer, status line. `start` brings up the parties, in the worker's thread.

    What the user does goes as an event to the presenter, which knows what is to be done about it in each state.
    """

    closed = Signal()
    """The window is gone and so is everything that it started."""

    def __init__(self, start: Start, colors: Colors | None = None) -> None:
        super().__init__()
        self.colors = colors or colors_of_the_system()
        self.setWindowTitle("Trine")
        self.setWindowIcon(icon("trine", "", 64))
        self.setMinimumSize(440, 420)
        fit_to_screen(self, _SIZE)
        self._build()
        self._presenter = Presenter(start, self.header, self.transcript, self.foot, self)
        self._connect()
        self.set_colors(self.colors)
        self._presenter.begin()

    @property
    def ready(self) -> bool:
        """Whether there is someone to send to."""
        return self._presenter.now.ready

    @property
    def busy(self) -> bool:
        """Whether an answer grows, or waits for the nodes."""
        return self._presenter.now.busy

    @property
    def gone(self) -> bool:
        """Whether it was closed and nothing is left of what it started."""
        return self._presenter.now.gone

    def send(self, text: str) -> None:
        """Ask; what the user does with Enter."""
        self._presenter.take(WindowEvent.SEND, Given(text))

    def regenerate(self) -> None:
        """Answer the last question again."""
        self._presenter.take(WindowEvent.ANSWER_AGAIN)

    def stop(self) -> None:
        """End the running answer, or take back a question that waits for the nodes."""
        self._presenter.take(WindowEvent.STOP)

    def new_chat(self) -> None:
        """Forget this chat and begin another."""
        self._presenter.take(WindowEvent.NEW_CHAT)

    def try_again(self) -> None:
        """Start the nodes again, after a start that failed or when Trine had to stop."""
        self._presenter.take(WindowEvent.TRY_AGAIN)

    def copy_last(self) -> None:
        """Put the last answer on the clipboard."""
        answers = [message for message in self.transcript.messages if isinstance(message, AnswerWidget) and message.text]
        if answers:
            answers[-1].copy()

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self.colors = colors
        QApplication.setPalette(palette(colors))
        self.setStyleSheet(style_sheet(colors))
        for part in (self.header, self.transcript, self.composer, self.status, self.trouble):
            part.set_colors(colors)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        """A low window has less room to write, and to say what went wrong."""
        super().resizeEvent(event)
        self.foot.set_room(self.height() - self.header.sizeHint().height())

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802  Qt's name
        """Hide at once; go when nothing is left running."""
        self.hide()
        self._presenter.take(WindowEvent.CLOSE)
        event.setAccepted(self.gone)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        """Enter presses the focused button, page keys turn the conversation's pages, typed text goes where one writes."""
        focus = self.focusWidget()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and isinstance(focus, QAbstractButton):
            if not event.isAutoRepeat():
                focus.click()
        elif event.key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
            up = event.key() == Qt.Key.Key_PageUp
            step = QAbstractSlider.SliderAction.SliderPageStepSub if up else QAbstractSlider.SliderAction.SliderPageStepAdd
            self.transcript.verticalScrollBar().triggerAction(step)
        elif focus is not self.composer.field and _is_text(event):
            self.composer.setFocus()
            QApplication.sendEvent(self.composer.field, event)
        else:
            super().keyPressEvent(event)

    def _build(self) -> None:
        self.header = Header()
        self.transcript = Transcript(self.colors)
        self.foot = foot = Foot(self.colors)
        self.waiting, self.trouble, self.composer, self.status = foot.waiting, foot.trouble, foot.composer, foot.status
        centred = QHBoxLayout()
        centred.setContentsMargins(16, 0, 16, 0)
        centred.addStretch(1)
        centred.addWidget(foot, 1000)
        centred.addStretch(1)
        middle = QWidget()
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.header)
        column.addWidget(self.transcript, 1)
        column.addLayout(centred)
        self.setCentralWidget(middle)
        self.composer.setFocus()

    def _connect(self) -> None:
        self._presenter.closed.connect(self.closed)
        self.composer.sent.connect(self.send)
        self.composer.stopped.connect(self.stop)
        self.transcript.suggested.connect(self.send)
        self.transcript.retry.connect(self.regenerate)
        self.trouble.retry.connect(self.try_again)
        self.header.new.clicked.connect(self.new_chat)
        self.header.privacy.clicked.connect(self._show_privacy)
        shortcuts = {
            "Ctrl+N": self.new_chat,
            "Ctrl+L": self.composer.setFocus,
            "Ctrl+R": self.regenerate,
            "Ctrl+Shift+C": self.copy_last,
            "Ctrl+Q": self.close,
            "Esc": self.stop,
        }
        for keys, act in shortcuts.items():
            shortcut = QShortcut(QKeySequence(keys), self, autoRepeat=False)  # a key that is held down is pressed once
            shortcut.activated.connect(act)
        QGuiApplication.styleHints().colorSchemeChanged.connect(lambda _: self.set_colors(colors_of_the_system()))

    def _show_privacy(self) -> None:
        dialog = PrivacyDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()


def _is_text(event: QKeyEvent) -> bool:
    return bool(event.text()) and event.text().isprintable() and not event.modifiers() & _COMMANDS
