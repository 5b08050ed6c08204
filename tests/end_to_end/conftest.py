"""The small model, shared once for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.models.shared_small import SharedSmall, share_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SharedSmall:
    return share_small(tmp_path_factory.mktemp("small"))
