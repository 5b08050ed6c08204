"""What all tests of transcripts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import kernels

COMPILING_SECONDS = 600
"""For a test that comes first, with no kernel in the cache and a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test here is the first one compiles."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(COMPILING_SECONDS))


@pytest.fixture(autouse=True, scope="session")
def compiled() -> None:
    """Every kernel, before a real session has five seconds to begin."""
    kernels.main()
