"""Nodes in this process, over real TLS sockets, and a client that says what no honest client says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from app.local_party.session import warm_up
from tests.models.shared_small import SharedSmall, share_small
from tests.party_node.rig import Pair, RawClient, identities


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SharedSmall:
    shared = share_small(tmp_path_factory.mktemp("small"))
    warm_up(shared.client)  # compiling takes longer than a node waits
    return shared


@pytest.fixture(scope="module")
def pair(small: SharedSmall) -> Iterator[Pair]:
    with Pair(small, identities()) as pair:
        yield pair


@pytest.fixture
def raw(pair: Pair) -> Iterator[Callable[[], RawClient]]:
    made: list[RawClient] = []

    def make() -> RawClient:
        made.append(RawClient(pair))
        return made[-1]

    yield make
    for client in made:
        client.abort()
