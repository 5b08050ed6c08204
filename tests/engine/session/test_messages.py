"""Payloads as bytes and back: exact lengths, ranges, and nothing but the protocol's own error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CODES, ProtocolError
from engine.link.frames import BULK_LIMIT
from engine.session import PeerError, answer_digest, compare, max_answers
from engine.session.hello import ERROR_BYTES, PROTOCOL, Hello, PeerHello, Welcome
from engine.session.messages import (
    ALARM_BYTES,
    ANSWER_HEAD,
    MAX_ANSWERS,
    OPENED_BYTES,
    STEP_HEAD,
    Block,
    Bye,
    Material,
    Progress,
    Ready,
    Rewind,
    Stop,
    Stopped,
    answer_parts,
    parse_answer,
    parse_step,
    step_parts,
)
from engine.step import Answer, Step

HELLO = {
    "protocol": PROTOCOL,
    "program": "ab" * 32,
    "pack": "cd" * 32,
    "role": 2,
    "epoch": 0,
    "start_id": "0" * 32,
    "nonce": "1" * 64,
    "seed": "2" * 64,
    "prefix": 24,
    "queue_bytes": 10**9,
    "context": 2048,
}

PARSERS: dict[str, Callable[[bytes], object]] = {
    "Block": Block.parse,
    "Material": Material.parse,
    "Step": lambda data: parse_step(data, context=20, vocab=11, width=3),
    "Progress": Progress.parse,
    "Answer": lambda data: parse_answer(data, length=5),
    "Rewind": Rewind.parse,
    "Stopped": Stopped.parse,
    "Ready": Ready.parse,
    "Stop": Stop.parse,
    "Bye": Bye.parse,
    "Hello": Hello.parse,
    "Welcome": Welcome.parse,
    "PeerHello": PeerHello.parse,
    "PeerError": PeerError.parse,
}


def code(parse: Callable[[bytes], object], data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        parse(data)
    assert caught.value.code in CODES
    return caught.value.code


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_only_the_protocols_own_error_escapes(name: str, data: bytes) -> None:
    with suppress(ProtocolError):
        PARSERS[name](data)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(field=st.sampled_from(sorted(HELLO)), value=JSON)
def test_a_hello_with_anything_in_a_field_is_read_or_refused(field: str, value: object) -> None:
    with suppress(ProtocolError):
        Hello.parse(json.dumps(HELLO | {field: value}).encode())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Block", Block(2**64 - 1, 2**32 - 1, 7)),
        ("Progress", Progress(1, 2, 3, 4)),
        ("Rewind", Rewind(5)),
        ("Stopped", Stopped(2**63)),
    ],
)
def test_numbers_are_exact_and_so_are_lengths(name: str, message: Block) -> None:
    data = b"".join(message.parts())
    assert PARSERS[name](data) == message
    assert {code(PARSERS[name], wrong) for wrong in (data[:-1], data + b"\0", b"")} == {"wrong-length"}


@pytest.mark.parametrize("name", ["Ready", "Stop", "Bye"])
def test_a_message_without_payload_has_none(name: str) -> None:
    assert PARSERS[name](b"") == PARSERS[name](b"")
    assert code(PARSERS[name], b"\0") == "wrong-length"


@pytest.mark.parametrize("message", [Progress(3, 2, 0, 4), Progress(0, 2, 5, 4)])
def test_progress_ends_at_its_end(message: Progress) -> None:
    assert code(Progress.parse, b"".join(message.parts())) == "out-of-range"


def test_a_big_payload_is_not_copied() -> None:
    message = bytearray(b"".join(Material(1, 2, bytes(1000)).parts()))
    material = Material.parse(message)
    message[-1] = 9
    assert material.data[-1] == 9
    message = bytearray(b"".join(answer_parts(Answer(1, 1, 1, 1, 1, bytes(5)))))
    answer = parse_answer(message, length=5)
    message[-1] = 9
    assert answer.data[-1] == 9


def test_short_heads_are_refused() -> None:
    assert code(Material.parse, bytes(11)) == "wrong-length"
    assert code(PARSERS["Step"], bytes(19)) == "wrong-length"
    assert code(PARSERS["Answer"], bytes(25)) == "wrong-length"


def test_an_answer_has_the_expected_length() -> None:
    data = b"".join(answer_parts(Answer(1, 2, 3, 4, 5, b"12345")))
    assert parse_answer(data, length=5) == Answer(1, 2, 3, 4, 5, memoryview(b"12345"))
    assert code(lambda d: parse_answer(d, length=6), data) == "wrong-length"


@given(
    count=st.integers(1, 20),
    answers=st.integers(1, 20),
    width=st.sampled_from([0, 3]),
    numbers=st.integers(-(2**63), 2**63 - 1),
)
def test_a_step_is_read_as_it_was_written(count: int, answers: int, width: int, numbers: int) -> None:
    deltas = np.arange(count, dtype=np.uint32) % 11
    step = Step(5, 6, min(answers, count, MAX_ANSWERS), deltas, np.full((count, width), numbers, np.int64))
    read = parse_step(b"".join(step_parts(step)), context=20, vocab=11, width=width)
    assert (read.first_row, read.first_position, read.answers, read.count) == (5, 6, step.answers, count)
    assert (read.deltas == deltas).all()
    assert read.deltas.dtype == np.uint32
    assert read.kappa2.shape == (count, width)
    assert (read.kappa2 == numbers).all()
    assert read.kappa2.flags.aligned


@pytest.mark.parametrize("vocab", [11, 49152, 1 << 20, 2 << 20, 12 << 20])
def test_no_step_asks_for_more_than_its_answer_has_room_for(vocab: int) -> None:
    """The last that is taken fits a frame, whatever the vocabulary; one more is refused before anything is computed."""
    most = max_answers(vocab)
    assert 1 <= most <= MAX_ANSWERS
    assert ANSWER_HEAD.size + most * (vocab * OPENED_BYTES + ALARM_BYTES) <= BULK_LIMIT
    assert most == MAX_ANSWERS or ANSWER_HEAD.size + (most + 1) * (vocab * OPENED_BYTES + ALARM_BYTES) > BULK_LIMIT
    for answers in (most, most + 1):
        data = b"".join(step_parts(Step(1, 4, answers, np.zeros(20, np.uint32), np.zeros((20, 0), np.int64))))
        if answers <= most:
            assert parse_step(data, context=20, vocab=vocab, width=0).answers == most
        else:
            assert code(lambda d: parse_step(d, context=20, vocab=vocab, width=0), data) == "out-of-range"


@pytest.mark.parametrize(
    ("count", "answers", "delta", "extra", "expected"),
    [
        (0, 0, 0, b"", "out-of-range"),
        (21, 1, 0, b"", "out-of-range"),
        (2, 0, 0, b"", "out-of-range"),
        (2, 3, 0, b"", "out-of-range"),
        (20, 18, 0, b"", "out-of-range"),
        (2, 1, 11, b"", "out-of-range"),
        (2, 1, 0, b"\0", "wrong-length"),
    ],
)
def test_a_step_out_of_range_is_refused(count: int, answers: int, delta: int, extra: bytes, expected: str) -> None:
    step = Step(1, 4, answers, np.full(count, delta, np.uint32), np.zeros((count, 3), np.int64))
    assert code(PARSERS["Step"], b"".join(step_parts(step)) + extra) == expected


def test_a_step_that_declares_more_than_it_has_is_refused_before_anything_is_made() -> None:
    data = STEP_HEAD.pack(1, 2**32 - 1, 4, 1)
    assert code(PARSERS["Step"], data) == "out-of-range"
    assert code(lambda d: parse_step(d, context=2**32, vocab=11, width=2**20), data) == "wrong-length"


def test_the_digest_is_of_logits_and_alarm() -> None:
    digest = hashlib.blake2b(b"logits" + b"\x02\x01", digest_size=32).digest()
    assert answer_digest(0x0102, b"logits") == digest


def test_both_answers_must_be_the_same() -> None:
    one = Answer(1, 2, 3, 4, 5, b"logits")
    compare(one, Answer(1, 2, 3, 99, 5, answer_digest(5, b"logits")))
    for other in (
        Answer(1, 2, 3, 4, 5, answer_digest(5, b"LOGITS")),
        Answer(1, 2, 3, 4, 6, answer_digest(6, b"logits")),
        Answer(2, 2, 3, 4, 5, answer_digest(5, b"logits")),
        Answer(1, 1, 3, 4, 5, answer_digest(5, b"logits")),
    ):
        with pytest.raises(ProtocolError) as caught:
            compare(one, other)
        assert caught.value.code == "answers-differ"


# JSON


def test_hello_is_read_as_it_was_written() -> None:
    hello = Hello(**HELLO)
    assert Hello.parse(hello.encode()) == hello
    assert json.loads(hello.encode()) == HELLO


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": PROTOCOL - 1}, "wrong-protocol"),
        ({"protocol": PROTOCOL + 1, "program": None, "new": 1}, "wrong-protocol"),
        ({"protocol": "1"}, "malformed"),
        ({"role": 3}, "malformed"),
        ({"role": "1"}, "malformed"),
        ({"role": True}, "malformed"),
        ({"epoch": -1}, "malformed"),
        ({"seed": "2" * 63}, "malformed"),
        ({"seed": "2" * 64 + "\n"}, "malformed"),
        ({"nonce": "G" * 64}, "malformed"),
        ({"nonce": "A" * 64}, "malformed"),
        ({"prefix": 0}, "malformed"),
        ({"queue_bytes": 2**63}, "malformed"),
        ({"context": 1.5}, "malformed"),
        ({"more": 1}, "malformed"),
    ],
)
def test_a_hello_with_a_wrong_field_is_refused(changes: dict[str, object], expected: str) -> None:
    assert code(Hello.parse, json.dumps(HELLO | changes).encode()) == expected


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 5000, b'{"protocol": %d}' % PROTOCOL, b"null"])
def test_text_that_is_no_hello_is_refused(data: bytes) -> None:
    assert code(Hello.parse, data) == "malformed"


def test_a_refusal_does_not_repeat_what_it_refuses() -> None:
    with pytest.raises(ProtocolError) as caught:
        Hello.parse(json.dumps(HELLO | {"seed": "canary"}).encode())
    error = caught.value
    assert "seed" in str(error)
    assert "canary" not in repr(error) + str(error) + repr(error.__cause__) + repr(error.__context__)


def test_nothing_secret_is_shown() -> None:
    step = Step(1, 4, 1, np.full(1, 424242, np.uint32), np.full((1, 1), 424242, np.int64))
    shown = [
        Hello(**HELLO),
        Welcome(**{k: v for k, v in HELLO.items() if k in Welcome.model_fields}, peer_fingerprint="3" * 64),
        Material(1, 2, b"424242"),
        Answer(1, 1, 1, 1, 1, b"424242"),
        step,
    ]
    text = "".join(f"{message!r}{message}" for message in shown)
    assert not any(secret in text for secret in ("424242", "1" * 64, "2" * 64))


@given(text=st.text())
def test_an_error_always_fits_and_is_read(text: str) -> None:
    data = PeerError("failed", text).encode()
    assert len(data) <= ERROR_BYTES
    read = PeerError.parse(data)
    assert read.code == "failed"
    assert read.text.isprintable()


def test_an_error_with_half_a_letter_is_sent_all_the_same() -> None:
    assert PeerError.parse(PeerError("failed", "a\ud800b").encode()).text == "a?b"


def test_an_unknown_code_is_not_shown() -> None:
    error = PeerError.parse(b'{"code": "<b>", "text": "a\\u001b[31mb\\nc"}')
    assert (error.code, error.text) == ("unknown-code", "a[31mbc")
    assert error.error().code == "unknown-code"


@pytest.mark.parametrize("data", [b"{}", b'{"code": "failed", "text": ""}' + b" " * ERROR_BYTES])
def test_a_wrong_error_is_refused(data: bytes) -> None:
    assert code(PeerError.parse, data) == "malformed"
