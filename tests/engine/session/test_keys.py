"""Keys: both sides the same, and another one for every session, epoch, pair, purpose, seed and nonce."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from engine.session import ClientSession, NodeSession, State
from engine.session.keys import derive

SEED, ONE, TWO, SESSION = b"s" * 32, b"1" * 32, b"2" * 32, b"i" * 16


def test_a_known_answer() -> None:
    # HKDF-SHA256 (RFC 5869) written out with hmac, in another place than the library's.
    key = derive(SEED, (ONE, TWO), session=SESSION, epoch=3, pair="D-E1", purpose="streams")
    assert key == hkdf(ONE + TWO, SEED, b"trine/1" + SESSION + b"\3" + bytes(7) + b"D-E1\0streams")


def hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")


def test_everything_makes_another_key() -> None:
    base: dict[str, Any] = {"session": SESSION, "epoch": 0, "pair": "D-E1", "purpose": "streams"}
    changes = [{}, {"session": b"j" * 16}, {"epoch": 1}, {"pair": "D-E2"}, {"purpose": "other"}]
    keys = {derive(SEED, (ONE, TWO), **(base | change)) for change in changes}
    keys |= {derive(SEED, nonces, **base) for nonces in ((TWO, ONE), (ONE, ONE))}
    keys.add(derive(b"t" * 32, (ONE, TWO), **base))
    assert len(keys) == 8
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize(("seed", "nonce"), [(b"s" * 31, ONE), (SEED, b"1" * 33)])
def test_lengths_are_exact(seed: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        derive(seed, (nonce, TWO), session=SESSION, epoch=0, pair="D-E1", purpose="streams")


def test_both_sides_have_the_same_key(talk: Any) -> None:
    talk.at(State.JOINING)
    assert talk.client.key("streams") == talk.node.key("streams") != talk.client.key("other")


def test_a_second_session_has_another_key(talk: Any) -> None:
    other = type(talk)(talk.role)
    assert talk.at(State.JOINING).client.key("streams") != other.at(State.JOINING).client.key("streams")


def test_there_is_no_key_before_both_nonces_are_known(talk: Any) -> None:
    for side in (talk.client, talk.node):
        with pytest.raises(ValueError, match="no key"):
            side.key("streams")


def test_given_seeds_and_nonces_are_used(terms: Any) -> None:
    client = ClientSession(terms(2), SESSION, epoch=5, seed=SEED, nonce=ONE)
    node = NodeSession(terms(2), lambda row, section: 0, nonce=TWO)
    node.receive(client.send_hello())
    client.receive(node.send_welcome())
    expected = derive(SEED, (ONE, TWO), session=SESSION, epoch=5, pair="D-E2", purpose="streams")
    assert client.key("streams") == node.key("streams") == expected
