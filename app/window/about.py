"""How private this is, in plain words, on one page."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QFrame, QGridLayout, QLabel, QLayout, QScrollArea, QVBoxLayout, QWidget

from app.window.widgets import fit_to_screen, named

__all__ = ["PrivacyDialog"]

_INTRODUCTION = (
    "Your message never leaves this computer in readable form. This computer and two nodes compute the answer together, "
    "on numbers that look random to each of them. What you ask, what the model answers and the model's own weights stay "
    "hidden from every single party, as long as all three follow the protocol and no two of them put their data together "
    "(semi-honest parties with an honest majority, as the field calls it)."
)

_PROTECTS = (
    "Node 1 alone, or node 2 alone, learns nothing of your words or of the answer. It sees random numbers.",
    "Neither node alone can read the model.",
    "Someone who listens on the network sees encrypted traffic only.",
    "No other address is contacted: nothing in an answer is loaded, and no link opens before you say yes.",
)

_DOES_NOT = (
    "Two parties that work together can read everything. Choose nodes whose operators have no reason to.",
    "All this holds for nodes that follow the protocol. One that cheats can stop an answer, spoil it, even choose its words, "
    "and may learn something from how you react: do not take an answer as an instruction.",
    "The nodes see when you chat, for how long, with which model, and how many words go in and out.",
    "Whoever runs a node and is also a user can take the model out.",
    "Records last: nodes that join forces years later can open what they kept.",
)

_DEMO = (
    "In the demo all three parties run on this one computer, so you can see that it works. It protects nothing from whoever "
    "controls this computer; privacy between parties begins when the nodes belong to different people."
)


class PrivacyDialog(QDialog):
    """Protects against, does not protect against."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("How private is this?")
        self.setMinimumSize(420, 360)
        fit_to_screen(self, QSize(640, 740))
        page = named(QWidget(), "scrolled")
        column = QVBoxLayout(page)
        column.setContentsMargins(28, 24, 28, 20)
        column.setSpacing(9)
        self._add(column, "How private is this?", "welcomeTitle")
        self._add(column, _INTRODUCTION)
        self._add_list(column, "It protects against", "✓", _PROTECTS)
        self._add_list(column, "It does not protect against", "–", _DOES_NOT)
        self._add_list(column, "About the demo", "", (_DEMO,))
        column.addStretch(1)
        area = named(QScrollArea(self), "transcript")
        area.setAccessibleName("How private this is")
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(page)
        area.setFocus()  # so that arrows and page keys scroll; Enter and Esc close in any case
        buttons = QDialogButtonBox(self)
        buttons.addButton("Close", QDialogButtonBox.ButtonRole.RejectRole)
        buttons.rejected.connect(self.reject)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 16)
        outer.addWidget(area, 1)
        buttons.setContentsMargins(0, 0, 24, 0)
        outer.addWidget(buttons)

    def _add_list(self, column: QVBoxLayout, title: str, sign: str, items: tuple[str, ...]) -> None:
        column.addSpacing(8)
        self._add(column, title, "title")
        grid = QGridLayout()
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        column.addLayout(grid)
        for row, item in enumerate(items):
            grid.addWidget(QLabel(sign), row, 0, Qt.AlignmentFlag.AlignTop)
            self._add(grid, item)

    def _add(self, layout: QLayout, text: str, name: str = "") -> None:
        label = named(QLabel(text, wordWrap=True), name)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(label)
