"""Leaks of the embedding's index, of a session's keys and of its pace, planted into the real code; see leaks.py."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from threading import Event

import numpy as np
import pytest

from app.local_party import dealing
from app.local_party import session as client_side
from app.local_party.dealing import DealingThread
from engine.parties.dealer import Dealer
from engine.prf import Label
from engine.ring.fixed import Ring
from engine.rows.run import Rows
from engine.session import client, node
from engine.step import Step

Patch = pytest.MonkeyPatch


# The embedding's index


def indices_from(patch: Patch, address: Callable[[Rows, int], int], change: Callable[[int], int] = int) -> None:
    """`address(rows, r)` in place of the row's serial number; `change` of the 64 bits drawn there."""

    def indices(self: Dealer, rows: Rows) -> Ring:
        drawn = [self._own.words(1, Label.CLIENT, address(rows, r), 0, 0).view(np.uint64)[0] for r in range(rows.count)]
        return np.array([change(int(word)) % self.spec.vocab for word in drawn])

    patch.setattr(Dealer, "_indices", indices)


def serial(rows: Rows, r: int) -> int:
    return rows.first + r


def index_by_position(patch: Patch) -> None:
    """An edited token is sent under the index of the one that stood there: the nodes read tok - tok'."""
    indices_from(patch, lambda rows, r: rows.position + r)


def index_shared_by_two_rows(patch: Patch) -> None:
    """Neighbouring tokens are sent under one index."""
    indices_from(patch, lambda rows, r: (rows.first + r) // 2)


def index_of_its_block(patch: Patch) -> None:
    """All tokens of a block are sent under one index."""
    indices_from(patch, lambda rows, r: rows.first)


def index_below_16(patch: Patch) -> None:
    """A token is known but for four bits."""
    indices_from(patch, serial, lambda word: word % 16)


def index_without_its_lowest_bit(patch: Patch) -> None:
    """Whether a token is even shows (but for what the vocabulary's end folds back)."""
    indices_from(patch, serial, lambda word: word % 130 & ~1)


def index_of_all_but_the_last_word(patch: Patch) -> None:
    """The difference to one token is never sent."""
    indices_from(patch, serial, lambda word: word % 130)


# A session's keys


def _keys_of(patch: Patch, made: Callable[[bytes, str], bytes]) -> None:
    def derive(seed: bytes, nonces: tuple[bytes, bytes], *, session: bytes, epoch: int, pair: str, purpose: str) -> bytes:
        del seed, nonces, epoch, purpose
        return made(hashlib.sha256(session).digest(), pair)

    for module in (client, node):
        patch.setattr(module, "derive", derive)


def equal_keys(patch: Patch) -> None:
    """k1 = k2: either node knows what the other one draws."""
    _keys_of(patch, lambda key, pair: key)


def keys_apart_by_a_constant(patch: Patch) -> None:
    """The same, with a constant between them."""
    _keys_of(patch, lambda key, pair: bytes(byte ^ (0x33 if pair == "D-E2" else 0) for byte in key))


def keys_that_are_half_the_same(patch: Patch) -> None:
    """Two keys with 16 bytes in common."""
    _keys_of(patch, lambda key, pair: key[:16] + hashlib.sha256(key + pair.encode()).digest()[:16])


def own_key_of_every_session(patch: Patch) -> None:
    """What the dealer draws for itself is what it drew in the session before."""
    patch.setattr(client_side, "fresh", lambda count: bytes(range(7, 7 + count)))


# Pace


def _last_token(patch: Patch) -> list[int]:
    """What was said last, as a dealing thread must not know it."""
    last, inner = [0], Dealer.request

    def request(self: Dealer, tokens: Sequence[int], answers: int = 1) -> Step:
        last[0] = int(tokens[-1])
        return inner(self, tokens, answers)

    patch.setattr(Dealer, "request", request)
    return last


def blocks_by_the_token(patch: Patch) -> None:
    """A block has a row less behind an odd token."""
    last, inner = _last_token(patch), DealingThread._next_rows

    def rows(self: DealingThread) -> int:
        count = inner(self)
        return max(1, count - last[0] % 2) if count else 0

    patch.setattr(DealingThread, "_next_rows", rows)


def pieces_by_the_token(patch: Patch) -> None:
    """A section leaves in pieces of another length behind a token of the vocabulary's upper half."""
    last, inner = _last_token(patch), DealingThread._deal
    whole = dealing.PIECE_BYTES

    def deal(self: DealingThread) -> None:
        dealing.PIECE_BYTES = 1 << 12 if last[0] > 65 else whole
        inner(self)

    patch.setattr(dealing, "PIECE_BYTES", whole)
    patch.setattr(DealingThread, "_deal", deal)


def a_pause_by_the_token(patch: Patch) -> None:
    """Dealing waits before a section behind a large token."""
    last, inner = _last_token(patch), DealingThread._give_way

    def give_way(self: DealingThread) -> None:
        if last[0] > 64:
            Event().wait(0.02)
        inner(self)

    patch.setattr(DealingThread, "_give_way", give_way)


def a_pause_before_a_block_by_the_token(patch: Patch) -> None:
    """Dealing begins a block later behind an even token."""
    last, inner = _last_token(patch), DealingThread._room

    def room(self: DealingThread) -> bool:
        found = inner(self)
        if last[0] % 2 == 0:
            Event().wait(0.05)
        return found

    patch.setattr(DealingThread, "_room", room)


def a_detour_by_the_token(patch: Patch) -> None:
    """Dealing computes something for nothing behind a large token."""
    last, inner = _last_token(patch), DealingThread._deal

    def deal(self: DealingThread) -> None:
        end = time.perf_counter() + 0.05 * (last[0] > 64)
        while time.perf_counter() < end:
            pass
        inner(self)

    patch.setattr(DealingThread, "_deal", deal)


def a_pause_before_a_step_by_the_token(patch: Patch) -> None:
    """A step is asked for later behind a large token, when its rows are taken."""
    last, inner = _last_token(patch), DealingThread.take

    def take(self: DealingThread, count: int) -> None:
        if last[0] > 64:
            Event().wait(0.02)
        inner(self, count)

    patch.setattr(DealingThread, "take", take)


CAUGHT_BY: dict[Callable[[Patch], None], str] = {
    index_by_position: "index over rewinds",
    index_shared_by_two_rows: "index over rewinds",
    index_of_its_block: "index over rewinds",
    index_below_16: "vocabulary",
    index_without_its_lowest_bit: "vocabulary",
    index_of_all_but_the_last_word: "vocabulary",
    equal_keys: "keys",
    keys_apart_by_a_constant: "keys",
    keys_that_are_half_the_same: "keys",
    own_key_of_every_session: "keys",
    blocks_by_the_token: "shapes",
    pieces_by_the_token: "shapes",
    a_pause_by_the_token: "waits",
    a_pause_before_a_block_by_the_token: "waits",
    a_detour_by_the_token: "pauses",
    a_pause_before_a_step_by_the_token: "pauses",
}
