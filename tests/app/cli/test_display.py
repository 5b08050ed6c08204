"""Whether there is a display, asked of Qt in a process that may abort."""

from __future__ import annotations

import pytest

from app.cli import display


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "DISPLAY and WAYLAND_DISPLAY are not set"),
        ({"DISPLAY": ":77"}, "DISPLAY=:77 cannot be used"),
        ({"WAYLAND_DISPLAY": "wayland-77"}, "WAYLAND_DISPLAY=wayland-77 cannot be used"),
        ({"DISPLAY": ":77", "QT_QPA_PLATFORM": "offscreen"}, None),
    ],
    ids=["unset", "x11", "wayland", "usable"],
)
def test_a_display_is_tried(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], why: str | None) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert display.why_no_window() == why


def test_a_display_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(display, "ASK_SECONDS", 0.01)
    assert display.why_no_window() == "DISPLAY=:77 does not answer"


def test_other_systems_always_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "darwin")
    assert display.why_no_window() is None
