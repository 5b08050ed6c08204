"""A session's keys: each follows from what was drawn for it alone, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.link.frames import FrameType
from engine.prf import require_apart
from engine.session import keys
from tests.privacy.ledger import LeakError
from tests.privacy.parts import NODES, RealSession
from tests.privacy.reference import require_free, session_key
from tests.privacy.small import small

DRAWS = 1 << 9


@contextmanager
def handed_out() -> Iterator[list[bytes]]:
    """What the operating system gives this process for sessions."""
    handed: list[bytes] = []
    inner: Callable[[int], bytes] = keys.secrets.token_bytes

    def token_bytes(count: int) -> bytes:
        handed.append(inner(count))
        return handed[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys.secrets, "token_bytes", token_bytes)
        yield handed


def secrets_of(session: RealSession) -> list[bytes]:
    """Every secret of a session that is drawn: seeds and nonces as they were sent, and the dealer's own key.

    Also checks that the keys of its streams are what follows from them.
    """
    drawn = [session.keys.own]
    for role, node in enumerate(NODES, 1):
        (hello,), (welcome,) = (
            session.wire.of(FrameType.HELLO, node),
            (sent for sent in session.wire.of(FrameType.WELCOME) if sent.sender == node),
        )
        theirs, ours = json.loads(hello.payload), json.loads(welcome.payload)
        seed, nonces = bytes.fromhex(theirs["seed"]), [bytes.fromhex(said["nonce"]) for said in (theirs, ours)]
        key = session_key(seed, b"".join(nonces), hello.frame.session, role)
        if session.keys.streams[role - 1] != key or session.held.count(key) != 1:
            raise LeakError(f"the key of D and {node} is not what follows from their seed and nonces")
        drawn += [seed, *nonces]
    return drawn


def check_sessions() -> None:
    """Two sessions' secrets are the operating system's, each drawn for one thing; no two keys have eight bytes in common."""
    with handed_out() as handed:
        together = list[bytes]()
        used = list[bytes]()
        for _ in range(2):
            with RealSession(small()) as session:
                drawn = secrets_of(session)
            used += drawn
            together += [*drawn, *session.keys.streams]
    if len(set(used)) != len(used) or not set(used) <= set(handed):
        raise LeakError("a secret of a session serves twice, or is not what the operating system gave")
    try:
        require_apart([*together, *small().seeds])
    except ValueError as error:
        raise LeakError(str(error)) from error
    require_free([keys.fresh(keys.KEY_BYTES) for _ in range(DRAWS)], "a fresh key")
