"""A small model, shared once for the tests that run the real demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.sharing.share import share_model
from tests.models import small_llama


@pytest.fixture(scope="session")
def small_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `trine-model share` writes of a small random model."""
    directory = tmp_path_factory.mktemp("small")
    checkpoint = small_llama.write_huggingface(small_llama.TIED, directory / "checkpoint")
    share_model(checkpoint, directory / "shared", "Small", small_llama.TIED.context, lambda what, done, of: None)
    return directory / "shared"
