"""Whether a window can be opened here: Qt ends the process that asks it in vain, so another one asks."""

from __future__ import annotations

import os
import subprocess
import sys

ASK_SECONDS = 20.0
# Qt aborts, which must leave no core file behind.
_ASK = (
    "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); from PySide6.QtGui import QGuiApplication as Q; Q([])"
)


def why_no_window() -> str | None:
    """Why no window can be opened, for people; None if one can."""
    if not sys.platform.startswith("linux"):
        return None
    named = [f"{name}={value}" for name in ("DISPLAY", "WAYLAND_DISPLAY") if (value := os.environ.get(name))]
    if not named:
        return "DISPLAY and WAYLAND_DISPLAY are not set"
    try:
        asked = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(named)} does not answer"
    return f"{' '.join(named)} cannot be used" if asked.returncode else None
