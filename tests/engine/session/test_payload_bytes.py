"""Each message's bytes, written out: what goes over a wire is the same as before, whatever the classes are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.link.frames import FrameType, FrameWriter
from engine.session.hello import Hello, PeerError, PeerHello, Welcome
from engine.session.messages import (
    Block,
    Bye,
    Material,
    Progress,
    Ready,
    Rewind,
    Stop,
    Stopped,
    answer_digest,
    answer_parts,
    parse_answer,
    parse_step,
    step_parts,
)
from engine.step import Answer, Step

ROW = "0807060504030201"  #: 0x0102030405060708, little-endian, as every number is
A, B, C = "ab" * 32, "cd" * 32, "ef" * 16

PAYLOADS: dict[str, tuple[Callable[[bytes], Any], str, dict[str, object]]] = {
    "BLOCK": (
        Block.parse,
        ROW + "14000000" + "17000000",
        {"first_row": 0x0102030405060708, "count": 20, "first_position": 23},
    ),
    "MATERIAL": (
        Material.parse,
        ROW + "03000000" + "616263",
        {"first_row": 0x0102030405060708, "section": 3, "data": b"abc"},
    ),
    "STEP": (
        lambda data: parse_step(data, context=20, vocab=300, width=2),
        ROW + "02000000" + "17000000" + "01000000" + "2b010000" + "05000000" + "0100000000000000" + "ff" * 8 + "00" * 16,
        {
            "first_row": 0x0102030405060708,
            "first_position": 23,
            "answers": 1,
            "deltas": [299, 5],
            "kappa2": [[1, -1], [0, 0]],
        },
    ),
    "PROGRESS": (
        Progress.parse,
        "01000000" + "02000000" + "03000000" + "04000000",
        {"rows_done": 1, "rows": 2, "section": 3, "sections": 4},
    ),
    "ANSWER": (
        lambda data: parse_answer(data, length=3),
        ROW + "01000000" + "6a020000" + "0001000000000000" + "39a0" + "010203",
        {
            "first_row": 0x0102030405060708,
            "count": 1,
            "rounds": 618,
            "peer_bytes": 256,
            "alarm": 0xA039,
            "data": b"\1\2\3",
        },
    ),
    "REWIND": (Rewind.parse, "17000000", {"position": 23}),
    "STOPPED": (Stopped.parse, ROW, {"first_row": 0x0102030405060708}),
    "READY": (Ready.parse, "", {}),
    "STOP": (Stop.parse, "", {}),
    "BYE": (Bye.parse, "", {}),
}


def plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return bytes(value) if isinstance(value, memoryview) else value


@pytest.mark.parametrize("name", [name for name, (_, payload, _) in PAYLOADS.items() if payload])
def test_a_message_is_these_bytes(name: str) -> None:
    parse, payload, fields = PAYLOADS[name]
    message = parse(bytes.fromhex(payload))
    assert {field: plain(getattr(message, field)) for field in fields} == fields
    parts = {Step: step_parts, Answer: answer_parts}.get(type(message), lambda message: message.parts())(message)
    assert b"".join(bytes(part) for part in parts).hex() == payload


@pytest.mark.parametrize("name", [name for name, (_, payload, _) in PAYLOADS.items() if not payload])
def test_a_message_of_no_bytes_is_read_from_none(name: str) -> None:
    assert PAYLOADS[name][0](b"") is not None


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            Hello(
                program=A, pack=B, role=2, epoch=7, start_id=C[:32], nonce=A, seed=B, prefix=23, queue_bytes=10**9, context=2048
            ),
            f'{{"protocol":3,"program":"{A}","pack":"{B}","role":2,"epoch":7,"start_id":"{C[:32]}","nonce":"{A}",'
            f'"seed":"{B}","prefix":23,"queue_bytes":1000000000,"context":2048}}',
        ),
        (
            Welcome(program=A, pack=B, role=1, start_id=C[:32], nonce=A, queue_bytes=5, context=64, peer_fingerprint=B),
            f'{{"protocol":3,"program":"{A}","pack":"{B}","role":1,"start_id":"{C[:32]}","nonce":"{A}","queue_bytes":5,'
            f'"context":64,"peer_fingerprint":"{B}"}}',
        ),
        (
            PeerHello(program=A, model=B, session=C[:32], epoch=7, role=1, start_id=C[:32], client=A),
            f'{{"protocol":3,"program":"{A}","model":"{B}","session":"{C[:32]}","epoch":7,"role":1,"start_id":"{C[:32]}",'
            f'"client":"{A}"}}',
        ),
        (PeerError("busy", "all places are taken", 2.0), '{"code":"busy","text":"all places are taken","retry_after":2.0}'),
        (PeerError("malformed", "a HELLO"), '{"code":"malformed","text":"a HELLO"}'),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_text_message_is_this_text(message: Any, text: str) -> None:
    assert message.encode().decode() == text


def test_the_second_evaluators_digest() -> None:
    """BLAKE2b-256 of the logits and of the alarm word, little-endian."""
    assert answer_digest(0xA039, b"\1\2\3").hex() == "8324aa43df546819af903e1e2906d8f9f85ce3ca680f8328c0cfcdca1a8152b4"


def test_a_frame_is_its_header_and_its_payload() -> None:
    writer = FrameWriter(bytes(range(16)))
    assert writer.write(FrameType.BYE).hex() == "010d" + bytes(range(16)).hex() + "0000000000000000"
    assert writer.write(FrameType.ROUND, b"ab", b"c").hex() == "010f" + bytes(range(16)).hex() + "0100000000000000" + "616263"


def test_the_numbers_of_the_types() -> None:
    names = " ".join(kind.name for kind in sorted(FrameType))
    assert names == "HELLO WELCOME READY BLOCK MATERIAL STEP PROGRESS ANSWER REWIND STOP STOPPED ERROR BYE PEER_HELLO ROUND"
    assert sorted(FrameType) == list(range(1, 16))
