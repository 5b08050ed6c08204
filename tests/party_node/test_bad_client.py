"""A client that breaks the protocol is told so within seconds, and the nodes serve the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from engine.errors import LinkError
from engine.link import Frame, FrameType, encode
from engine.link.frames import HEADER_BYTES, HELLO_LIMIT
from engine.session import ClientSession
from engine.session.hello import Hello
from engine.session.messages import STEP_HEAD, Block, Material, Rewind
from tests.models.shared_small import PREFIX, SharedSmall, greedy
from tests.party_node.rig import QUICK, SOON, Pair, RawClient, call_raw, drain, error_code, identities, terms

Bytes = Callable[[RawClient], bytes]
F = FrameType
START = len(PREFIX)


def beyond_the_context(client: RawClient) -> bytes:
    """The last of blocks that are one row too many together."""
    row, position = 1, START
    while position + 64 <= 256:
        client.say(1, partial(ClientSession.send_block, first_row=row, count=64, first_position=position))
        row, position = row + 64, position + 64
    return client.frame(F.BLOCK, b"".join(Block(row, 257 - position, position).parts()), sequence=1 + row // 64)


IN_A_SESSION: dict[str, tuple[str, Bytes]] = {
    "a header cut off": ("truncated", lambda c: c.frame(F.STOP)[:20]),
    "nothing at all": ("truncated", lambda c: b""),
    "another version": ("wrong-version", lambda c: b"\2" + c.frame(F.STOP)[1:]),
    "an unknown type": ("unknown-type", lambda c: c.frame(F.STOP)[:1] + b"\x63" + c.frame(F.STOP)[2:]),
    "another session": ("wrong-session", lambda c: c.frame(F.STOP, session=bytes(16))),
    "a repeated message": ("out-of-order", lambda c: c.frame(F.STOP, sequence=0)),
    "a lost message": ("out-of-order", lambda c: c.frame(F.STOP, sequence=2)),
    "a huge small message": (
        "oversized",
        lambda c: encode(Frame(F.STOP, c.id, 1, bytes(70_000)), dict.fromkeys(F, 1 << 20)),
    ),
    "a payload cut off": ("wrong-length", lambda c: c.frame(F.BLOCK, b"".join(Block(1, 4, START).parts())[:-1])),
    "a stop with a payload": ("wrong-length", lambda c: c.frame(F.STOP, b"x")),
    "a second HELLO": ("out-of-place", lambda c: c.frame(F.HELLO, b"{}")),
    "what only a node says": ("out-of-place", lambda c: c.frame(F.READY)),
    "material of a block that was not announced": (
        "not-dealt",
        lambda c: c.frame(F.MATERIAL, b"".join(Material(1, 0, b"").parts())),
    ),
    "rows for another position": ("wrong-position", lambda c: c.frame(F.BLOCK, b"".join(Block(1, 4, START + 1).parts()))),
    "rows beyond the context": ("too-long", beyond_the_context),
    "a block of more rows than a node takes": (
        "out-of-range",
        lambda c: c.frame(F.BLOCK, b"".join(Block(1, 65, START).parts())),
    ),
    "a rewind forward": ("wrong-position", lambda c: c.frame(F.REWIND, b"".join(Rewind(START + 1).parts()))),
    "a step on rows that were not dealt": (
        "not-dealt",
        lambda c: c.frame(F.STEP, STEP_HEAD.pack(1, 1, START, 1) + bytes(4)),
    ),
    "an index beyond the vocabulary": (
        "out-of-range",
        lambda c: c.frame(F.STEP, STEP_HEAD.pack(1, 1, START, 1) + b"\xff" * 4),
    ),
}


@pytest.mark.parametrize("case", IN_A_SESSION)
def test_in_a_session(pair: Pair, raw: Callable[[], RawClient], case: str) -> None:
    code, bad = IN_A_SESSION[case]
    client = raw().greet()
    began = time.monotonic()
    client.links[0].send(bad(client))
    assert client.code(1) == code
    with pytest.raises(LinkError):
        client.links[0].receive(SOON)
    assert time.monotonic() - began < SOON
    client.abort()
    serves(pair)
    pair.nodes[0].log.wait(event="session failed", code=code, session=client.id.hex()[:8])


def test_rows_that_were_used_or_discarded_are_refused(pair: Pair, raw: Callable[[], RawClient]) -> None:
    client = raw().greet()
    client.say(1, lambda session: session.send_block(1, 4, START))
    client.say(1, lambda session: session.send_rewind(START))
    client.links[0].send(client.frame(F.STEP, STEP_HEAD.pack(1, 1, START, 1) + bytes(4), sequence=3))
    assert client.code(1) == "row-reused"
    serves(pair)


@pytest.mark.parametrize("role", [1, 2])
def test_a_block_of_more_memory_than_was_agreed_on_is_refused(pair: Pair, role: int) -> None:
    """At the first evaluator too, which is dealt next to nothing of what it makes."""
    honest = terms(pair.small, pair.who, role)
    client = RawClient(pair, queue_bytes=honest.made_bytes(4, START))
    try:
        client.greet()
        assert client.sessions[role - 1].queue_bytes == honest.made_bytes(4, START)
        client.say(role, lambda session: session.send_block(1, 3, START))
        client.links[role - 1].send(client.frame(F.BLOCK, b"".join(Block(4, 2, START + 3).parts()), sequence=2))
        assert client.code(role) == "queue-full"
    finally:
        client.abort()
    serves(pair)


@pytest.mark.parametrize("role", [1, 2])
def test_material_of_another_length_is_refused(pair: Pair, raw: Callable[[], RawClient], role: int) -> None:
    client = raw().greet()
    client.say(role, lambda session: session.send_block(1, 4, START))
    client.say(role, lambda session: session.send_material(1, 0, bytes(1 << 20), 1 << 20))
    assert client.code(role) == "wrong-length"
    serves(pair)


def hello(pair: Pair, **changes: object) -> bytes:
    honest = terms(pair.small, pair.who, 1)
    fields = {
        "program": honest.program,
        "pack": honest.pack,
        "role": 1,
        "epoch": 0,
        "start_id": "5" * 32,
        "nonce": "6" * 64,
        "seed": "7" * 64,
        "prefix": START,
        "queue_bytes": 1 << 30,
        "context": 256,
    }
    return Hello(**(fields | changes)).encode()  # type: ignore[arg-type]


AT_THE_DOOR: dict[str, tuple[str, Callable[[Pair], bytes]]] = {
    "no frame": ("truncated", lambda pair: b"hello"),
    "another version": ("wrong-version", lambda pair: b"\7" + framed(hello(pair))[1:]),
    "not HELLO": ("out-of-place", lambda pair: framed(b"", F.STOP)),
    "no JSON": ("malformed", lambda pair: framed(b"\xff{")),
    "an unknown field": ("malformed", lambda pair: framed(hello(pair)[:-1] + b',"more":1}')),
    "another protocol": ("wrong-protocol", lambda pair: framed(hello(pair).replace(b'"protocol":3', b'"protocol":1'))),
    "another program": ("wrong-program", lambda pair: framed(hello(pair, program="8" * 64))),
    "another pack": ("wrong-pack", lambda pair: framed(hello(pair, pack="8" * 64))),
    "the other role": ("wrong-role", lambda pair: framed(hello(pair, role=2))),
    "another prefix": ("wrong-limits", lambda pair: framed(hello(pair, prefix=2))),
    "a longer context": ("wrong-limits", lambda pair: framed(hello(pair, context=257))),
}


def framed(payload: bytes, kind: FrameType = F.HELLO) -> bytes:
    return encode(Frame(kind, b"session-of-tests", 0, payload))


@pytest.mark.parametrize("case", AT_THE_DOOR)
def test_at_the_door(pair: Pair, case: str) -> None:
    code, bad = AT_THE_DOOR[case]
    link = pair.call(1)
    try:
        link.send(bad(pair))
        assert error_code(link) == code
    finally:
        link.abort()
    serves(pair)


def test_a_hello_that_is_too_long_is_refused_when_it_is_announced(pair: Pair) -> None:
    with call_raw(pair.ports[0], pair.who.client, pair.who.nodes[0]) as sock:
        sock.sendall(b"\x82\xff" + (HEADER_BYTES + HELLO_LIMIT + 1).to_bytes(8, "big") + b"mask")
        began = time.monotonic()
        drain(sock)
        assert time.monotonic() - began < QUICK.handshake_seconds
    pair.nodes[0].log.wait(event="session failed", code="oversized")
    serves(pair)


def test_who_says_nothing_is_let_go(pair: Pair) -> None:
    link = pair.call(1)
    try:
        with pytest.raises(LinkError):
            link.receive(SOON)
    finally:
        link.abort()


def test_a_client_that_calls_one_node_only(pair: Pair, raw: Callable[[], RawClient]) -> None:
    client = raw()
    for role in (1, 2):  # the one that dials, and the one that waits
        client = raw()
        client.say(role, lambda session: session.send_hello())
        assert client.code(role) == "no-peer"
        client.abort()
    serves(pair)


def test_one_session_too_many(pair: Pair, raw: Callable[[], RawClient]) -> None:
    first, second = raw().greet(), raw().greet()
    third = raw()
    third.say(1, lambda session: session.send_hello())
    assert third.code(1) == "busy"
    for client in (first, second):
        for link in client.links:
            link.close()
    serves(pair)


def test_a_session_that_runs_already(pair: Pair, raw: Callable[[], RawClient]) -> None:
    first = raw().greet()
    link = pair.call(1)
    try:
        link.send(encode(Frame(F.HELLO, first.id, 0, hello(pair))))
        assert error_code(link) == "out-of-place"
    finally:
        link.abort()


def serves(pair: Pair) -> None:
    """The next client is answered."""
    with pair.open() as conversation:
        assert len(list(conversation.generate(pair.small.prompt(3), max_tokens=2, choose=greedy))) == 2


@pytest.mark.parametrize("kind", ["rewinds", "blocks"])
def test_small_messages_without_end_wait_their_turn(small: SharedSmall, kind: str) -> None:
    """Whole, legal messages, of which a node could hear tens of thousands a second and do nothing else."""
    count, a_second = 250, 100
    with Pair(small, identities(), replace(QUICK, small_messages=a_second)) as slow:
        client = RawClient(slow).greet()
        for row in range(1, count, 2):
            client.say(1, lambda session: session.send_rewind(START))
            if kind == "blocks":
                client.say(1, partial(ClientSession.send_block, first_row=row, count=1, first_position=START))
            else:
                client.say(1, lambda session: session.send_rewind(START))
        client.say(1, ClientSession.send_bye)
        client.links[0].close()
        name = client.id.hex()[:8]
        ended = slow.nodes[0].log.wait(event="session ended", session=name)
        client.abort()
        assert ended["seconds"] >= (count - a_second) / a_second
