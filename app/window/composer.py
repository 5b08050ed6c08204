"""Where the user writes: Enter sends, Shift+Enter breaks the line, Esc stops."""

from __future__ import annotations

from math import ceil

from PySide6.QtCore import QCoreApplication, QMimeData, QSize, Qt, Signal
from PySide6.QtGui import (
    QFocusEvent,
    QFontMetricsF,
    QGuiApplication,
    QInputMethodEvent,
    QKeyEvent,
    QMouseEvent,
    QTextCursor,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from app.window.icons import icon
from app.window.markdown import wrap_mode
from app.window.markdown_parts import clean
from app.window.theme import Colors
from app.window.widgets import FittingLabel, set_state, tool_button

__all__ = ["Composer"]

_HINT = "Enter sends · Shift+Enter starts a new line"
_ANSWERING = "Esc stops the answer"
_MOST_LINES = 8
_LINE_ENDS = str.maketrans("\u2028\u2029", "\n\n")
_NOT_OURS = (Qt.Key.Key_Escape, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
"""Keys that mean the window: stop, and turn the conversation's pages."""
_SHARE, _AROUND = 0.35, 150
"""Of the window's height without so many pixels, the most that the text is given: the conversation is to be seen, too."""
MAX_CHARACTERS = 50_000
"""Several times a model's context, few enough to stay fluent. A paste that would make it more is refused."""


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
        self._hint = self._idle_hint = _HINT
        self.field = _Field(self)
        self.field.submitted.connect(self._submit)
        self.field.active.connect(self._set_active)
        self.field.refused.connect(self.warn)
        self.field.composed.connect(self._refresh)
        self.field.textChanged.connect(self._changed)
        self.hint = FittingLabel(self, "hint")
        self.button = tool_button(self, "Send", "send")
        self.button.setFixedSize(34, 34)
        self.button.setIconSize(QSize(18, 18))
        self.button.setCursor(Qt.CursorShape.ArrowCursor)
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
        self.setCursor(Qt.CursorShape.IBeamCursor)
        self._set_hint(_HINT)

    def text(self) -> str:
        """What has been written, without what an input method is still composing."""
        return self.field.text()

    def put(self, text: str) -> None:
        """Give a text back to be changed, unless something else has been begun."""
        if not self.text().strip():
            self.field.setPlainText(text)
            self.field.moveCursor(self.field.textCursor().MoveOperation.End)

    def put_back(self, text: str) -> None:
        """Give back a text that was not sent, before whatever has been begun since."""
        begun = self.text()
        self.field.setPlainText(f"{text}\n\n{begun}" if begun.strip() else text)
        self.field.moveCursor(QTextCursor.MoveOperation.End)

    def set_ready(self, ready: bool, hint: str = _HINT) -> None:
        """Whether something can be sent; `hint` says why not, or what happens then."""
        self._ready = ready
        self._idle_hint = hint
        self._set_hint(hint)

    def set_busy(self, busy: bool, hint: str = _ANSWERING) -> None:
        """Whether an answer is growing, so that the button stops it."""
        self._busy = busy
        self._set_hint(hint if busy else self._idle_hint)

    def set_stopping(self) -> None:
        """Stop was asked for and has not happened yet."""
        self._set_hint("Stopping…")
        self.button.setEnabled(False)

    def warn(self, *wordings: str) -> None:
        """Say why something was not taken, at length and shorter, until more is typed."""
        self.hint.say(*wordings)
        set_state(self.hint, "warning", True)

    def set_room(self, height: int) -> None:
        """So many pixels has the window below its header: the text grows up to a part of them."""
        self.field.set_room(int((height - _AROUND) * _SHARE))

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

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802  Qt's name
        """All of the frame is where one writes."""
        self.field.setFocus(Qt.FocusReason.MouseFocusReason)
        super().mousePressEvent(event)

    def _pressed(self) -> None:
        if self._busy:
            self.stopped.emit()
        else:
            self._submit()

    def _submit(self) -> None:
        if self._ready and not self._busy:
            self.field.commit_composed()
        text = self.text().strip()
        if text and self._ready and not self._busy:
            self.field.setPlainText("")
            self.sent.emit(text)
        elif text:
            self.warn("Not sent: another message is in progress · Esc stops it" if self._busy else self._hint)

    def _set_hint(self, hint: str) -> None:
        self._hint = hint
        self._changed()

    def _changed(self) -> None:
        """What was typed, or what can be done: a warning has been read."""
        self.hint.say(self._hint)
        set_state(self.hint, "warning", False)
        self._refresh()

    def _set_active(self, active: bool) -> None:
        set_state(self, "active", active)

    def _refresh(self) -> None:
        name = "Stop the answer" if self._busy else "Send"
        enabled = self._busy or (self._ready and bool((self.text() + self.field.composing).strip()))
        color = self._colors.on_accent if enabled else self._colors.muted
        self.button.setIcon(icon("stop" if self._busy else "send", color))
        self.button.setToolTip(f"{name} (Esc)" if self._busy else f"{name} (Enter)")
        self.button.setAccessibleName(name)
        self.button.setEnabled(enabled)


class _Field(QPlainTextEdit):
    """A text field that grows with its text and takes plain text only."""

    submitted = Signal()
    active = Signal(bool)
    composed = Signal()
    """What an input method composes is another text now."""
    refused = Signal(str, str)
    """Why something was not pasted, at length and shorter."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setPlaceholderText("Write a message")
        self.setAccessibleName("Your message")
        self.setTabChangesFocus(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWordWrapMode(wrap_mode(""))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)
        self._most_lines = _MOST_LINES
        self.document().documentLayout().documentSizeChanged.connect(lambda _: self._fit())
        self._fit()

    @property
    def composing(self) -> str:
        """What an input method composes and has not given yet: it is seen, and no part of the text."""
        return self.textCursor().block().layout().preeditAreaText()

    def text(self) -> str:
        """What has been written, letter for letter: `toPlainText` makes a plain space of one that does not break."""
        return self.document().toRawText().translate(_LINE_ENDS)

    def setPlainText(self, text: str) -> None:  # noqa: N802  Qt's name
        """Replace the text, by one in which everything is text."""
        self._wrap_for(text)
        super().setPlainText(clean(text))

    def commit_composed(self) -> None:
        """Take what an input method composes as it stands; some give it when they are asked to, others never."""
        if self.composing:
            QGuiApplication.inputMethod().commit()
        left = self.composing
        if left:
            commit = QInputMethodEvent("", [])
            commit.setCommitString(left)
            QCoreApplication.sendEvent(self, commit)
            QGuiApplication.inputMethod().reset()

    def set_room(self, height: int) -> None:
        """The height that it may take at most."""
        self._most_lines = max(1, min(_MOST_LINES, height // self._line()))
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        """Enter sends, unless with Shift or while an input method composes."""
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            if not self.composing and not event.isAutoRepeat():
                self.submitted.emit()
        elif event.key() in _NOT_OURS:
            event.ignore()
        else:
            super().keyPressEvent(event)

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:  # noqa: N802  Qt's name
        """A word that is only composed can be sent, too."""
        super().inputMethodEvent(event)
        self.composed.emit()

    def canInsertFromMimeData(self, source: QMimeData) -> bool:  # noqa: N802  Qt's name
        """Anything may be tried: what is no text is refused in words."""
        return True

    def insertFromMimeData(self, source: QMimeData) -> None:  # noqa: N802  Qt's name
        """Plain text of any origin and of a sane length, in place of what is selected."""
        text = clean(source.text())
        cursor = self.textCursor()
        length = len(self.text()) - len(cursor.selectedText()) + len(text)
        if not text:
            self.refused.emit("Not pasted: only text can be sent, no pictures or files", "Not pasted: only text can be sent")
        elif length > MAX_CHARACTERS:
            self.refused.emit(
                f"Not pasted: {len(text):,} characters, and a message takes {MAX_CHARACTERS:,}",
                f"Not pasted: more than {MAX_CHARACTERS:,} characters",
            )
        else:
            self._wrap_for(self.text() + text)
            self.insertPlainText(text)

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802  Qt's name
        """The frame shows it."""
        super().focusInEvent(event)
        self.active.emit(True)

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802  Qt's name
        """The frame shows it; Qt lets go of what an input method composes."""
        super().focusOutEvent(event)
        self.active.emit(False)

    def _wrap_for(self, text: str) -> None:
        mode = wrap_mode(text)
        if mode is not self.wordWrapMode():
            self.setWordWrapMode(mode)

    def _line(self) -> int:
        # as high as the layout makes it, or a long text scrolls too early
        return ceil(QFontMetricsF(self.font()).lineSpacing())

    def _fit(self) -> None:
        lines = max(int(self.document().size().height()), 1)
        more = lines > self._most_lines
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded if more else Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFixedHeight(min(lines, self._most_lines) * self._line() + 6)
