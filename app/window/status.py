"""The line under the composer: the three parties, what is prepared, how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from app.window.theme import Colors
from app.window.widgets import FittingLabel, named

__all__ = ["PARTIES", "StatusLine"]

PARTIES = {"you": "You", "node1": "Node 1", "node2": "Node 2"}
"""Key and name of each party."""

_SIGNS = {"connected": "●", "starting": "○", "connecting": "○", "not connected": "○", "lost": "✕", "not running": "✕"}
"""A state is told by its sign and its word, never by colour alone."""
_NEXT = {"not connected": ": the next question connects", "lost": ": the next question connects anew"}
"""What comes of a state, where that is no matter of waiting."""


class StatusLine(QWidget):
    """State of the three parties on the left; on the right as many figures as fit, the newest kinds first."""

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colors = colors
        self._states: dict[str, str] = {}
        self._figures: dict[str, str] = {}
        self.parties = {key: named(QLabel(self), "party") for key in PARTIES}
        self.figures = FittingLabel(self, "figures")
        self.figures.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        row.setSpacing(16)
        for label in self.parties.values():
            label.setTextFormat(Qt.TextFormat.RichText)
            row.addWidget(label)
        row.addWidget(self.figures, 1)
        self.set_states(dict.fromkeys(PARTIES, "not connected") | {"you": "connected"})

    def set_states(self, states: Mapping[str, str]) -> None:
        """The state of some parties: connected, starting, connecting, not connected, lost, not running."""
        self._states.update(states)
        waiting = dict.fromkeys(("starting", "connecting"), self._colors.waiting)
        colors = {"connected": self._colors.good, "not connected": self._colors.muted} | waiting
        for key, label in self.parties.items():
            state = self._states[key]
            word = "" if state == "connected" else f" {state}"
            sign = f'<span style="color:{colors.get(state, self._colors.lost)}">{_SIGNS[state]}</span>'
            label.setText(f'{sign}&nbsp;<span style="color:{self._colors.muted}">{PARTIES[key]}{word}</span>')
            label.setAccessibleName(f"{PARTIES[key]}: {state}")
            label.setToolTip(f"{PARTIES[key]} is {'this computer, ' if key == 'you' else ''}{state}{_NEXT.get(state, '')}")

    def set_figure(self, key: str, text: str) -> None:
        """One figure on the right, "" for none; they stand in the order in which they first came."""
        self._figures[key] = text
        figures = [*filter(None, self._figures.values())]
        self.figures.say(*("  ·  ".join(figures[at:]) for at in range(len(figures) or 1)))

    def set_notices(self, notices: Sequence[str]) -> None:
        """What a person should know of the parties' certificates: the first in short, all of them in the tool tip."""
        self.set_figure("notice", notices[0].partition(":")[0] if notices else "")
        self.figures.setToolTip("\n".join(notices))

    def set_colors(self, colors: Colors) -> None:
        """Another appearance."""
        self._colors = colors
        self.set_states({})
