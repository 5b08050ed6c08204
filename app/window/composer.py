"""Where the user writes: Enter sends, Shift+Enter breaks the line, Esc stops."""

from __future__ import annotations

from PySide6.QtCore import QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QInputMethodEvent, QKeyEvent, QTextOption
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from app.window.icons import icon
from app.window.theme import Colors
from app.window.widgets import named, set_state, tool_button

__all__ = ["Composer"]

_HINT = "Enter sends · Shift+Enter starts a new line"
_MOST_LINES = 8
MAX_CHARACTERS = 200_000
"""Of a pasted text; far more than a model's context, few enough to stay fluent."""


class Composer(QFrame):
    """The text field and the one button: Send, or Stop while an answer grows."""

    sent = Signal(str)
    stopped = Signal()

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("composer")
        self._colors = colors
        self._busy = False
        self._ready = False
        self.field = _Field(self)
        self.field.submitted.connect(self._submit)
        self.field.active.connect(self._set_active)
        self.field.textChanged.connect(self._refresh)
        self.hint = named(QLabel(_HINT, self), "hint")
        self.button = tool_button(self, "Send", "send")
        self.button.setFixedSize(34, 34)
        self.button.setIconSize(QSize(18, 18))
        self.button.clicked.connect(self._pressed)
        foot = QHBoxLayout()
        foot.addWidget(self.hint, 1)
        foot.addWidget(self.button)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 10, 9)
        column.setSpacing(4)
        column.addWidget(self.field)
        column.addLayout(foot)
        self.setFocusProxy(self.field)
        self._refresh()

    def text(self) -> str:
        """What has been written."""
        return self.field.toPlainText()

    def put(self, text: str) -> None:
        """Give a text back to be changed, unless something else has been begun."""
        if not self.text().strip():
            self.field.setPlainText(text)
            self.field.moveCursor(self.field.textCursor().MoveOperation.End)

    def set_ready(self, ready: bool, why: str = "") -> None:
        """Whether there is someone to send to; `why` not, in words."""
        self._ready = ready
        self.hint.setText(_HINT if ready else why)
        self._refresh()

    def set_busy(self, busy: bool) -> None:
        """Whether an answer is growing, so that the button stops it."""
        self._busy = busy
        self.hint.setText("Esc stops the answer" if busy else _HINT)
        self._refresh()

    def set_stopping(self) -> None:
        """Stop was asked for and has not happened yet."""
        self.hint.setText("Stopping…")
        self.button.setEnabled(False)

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self._colors = colors
        self._refresh()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        """Esc anywhere in the composer."""
        if event.key() == Qt.Key.Key_Escape and self._busy:
            self.stopped.emit()
        else:
            super().keyPressEvent(event)

    def _pressed(self) -> None:
        if self._busy:
            self.stopped.emit()
        else:
            self._submit()

    def _submit(self) -> None:
        text = self.text().strip()
        if text and self._ready and not self._busy:
            self.field.clear()
            self.sent.emit(text)
        elif text and self._busy:
            self.hint.setText("The answer is still being written · Esc stops it")

    def _set_active(self, active: bool) -> None:
        set_state(self, "active", active)

    def _refresh(self) -> None:
        name = "Stop the answer" if self._busy else "Send"
        enabled = self._busy or (self._ready and bool(self.text().strip()))
        color = self._colors.on_accent if enabled else self._colors.muted
        self.button.setIcon(icon("stop" if self._busy else "send", color))
        self.button.setToolTip(f"{name} (Esc)" if self._busy else f"{name} (Enter)")
        self.button.setAccessibleName(name)
        self.button.setEnabled(enabled)


class _Field(QPlainTextEdit):
    """A text field that grows with its text and takes plain text only."""

    submitted = Signal()
    active = Signal(bool)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setPlaceholderText("Write a message")
        self.setAccessibleName("Your message")
        self.setTabChangesFocus(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)
        self._composing = False
        self.document().documentLayout().documentSizeChanged.connect(lambda _: self._fit())
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        """Enter sends, unless with Shift or while an input method composes."""
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            if not self._composing:
                self.submitted.emit()
        elif event.key() == Qt.Key.Key_Escape:
            event.ignore()
        else:
            super().keyPressEvent(event)

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:  # noqa: N802  Qt's name
        """Remember whether a word is being composed."""
        self._composing = bool(event.preeditString())
        super().inputMethodEvent(event)

    def insertFromMimeData(self, source: QMimeData) -> None:  # noqa: N802  Qt's name
        """Plain text of any origin, cut at a sane length."""
        self.insertPlainText(source.text()[:MAX_CHARACTERS])

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802  Qt's name
        """The frame shows it."""
        super().focusInEvent(event)
        self.active.emit(True)

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802  Qt's name
        """The frame shows it."""
        super().focusOutEvent(event)
        self._composing = False
        self.active.emit(False)

    def _fit(self) -> None:
        lines = min(max(int(self.document().size().height()), 1), _MOST_LINES)
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 6)
