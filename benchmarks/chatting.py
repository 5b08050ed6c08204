"""The demo as it is used, in a process of its own: ``python -m benchmarks.chatting [--quick] [--model DIRECTORY]``.

Two node processes, the model that `trine demo` shares, the app's own Conversation and Chat, TLS sockets. This process is the
dealer, so its memory is the dealer's. It prints one JSON object.

Full queue: everything that the app deals ahead of time is dealt and prepared, all three parties are at rest.
Steady: the queue is used up, so a token's dealing and preparing are done while tokens are computed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from app.chat.chat import Chat, Settings
from app.chat.events import Done, Event, Failed
from app.demo.demo import Demo, demo
from app.local_party import NodeConversation, Phase
from benchmarks.processes import memory, status, wait_until_idle, watching
from engine.host.process import DESKTOP_BYTES, tune_process
from engine.ring.fixed import Real

TEXT = Path(__file__).resolve().parents[1] / "assets" / "calibration"
QUESTIONS = (
    "What is the capital of France?",
    "And of Italy?",
    "Which of the two is older?",
    "Name a river there.",
    "Thank you. Is it long?",
)
QUESTION_TOKENS = 100
STEADY_QUESTION, WARM_TOKENS, STEADY_BLOCKS = 12, 40, 2  #: so that the counted tokens lie around context 128


class Chatting:
    """The measurements, on nodes that run."""

    def __init__(self, parties: Demo, model: Path, *, quick: bool) -> None:
        self.parties, self.model, self.quick = parties, model, quick
        self.tokenizer = parties.tokenizer()
        self.prefix = list(parties.model.spec.prefix)
        self.pids = (os.getpid(), *parties.pids)
        self.moments: list[dict[str, Any]] = []

    def long_question(self, tokens: int) -> list[int]:
        """The public prefix and a text of that many tokens."""
        words = "\n".join(file.read_text() for file in sorted(TEXT.glob("*.txt")))
        question = self.tokenizer.encode_chat([{"role": "user", "content": words[: 40 * tokens]}])[len(self.prefix) :]
        return [*self.prefix, *question[:tokens]]

    def moment(self, what: str, conversation: NodeConversation | None = None) -> int:
        """Wait for rest, note both nodes' memory; returns the prepared rows."""
        wait_until_idle(self.pids)
        rows = conversation.status.prepared_rows if conversation is not None else 0
        nodes = [asdict(memory(pid, self.model)) for pid in self.parties.pids]
        self.moments.append({"what": what, "prepared_rows": rows, "nodes": nodes})
        return rows

    def empty_queue(self) -> dict[str, Any]:
        """A question right after the session was opened: dealing, preparing and computing at once."""
        runs = []
        for _ in range(1 if self.quick else 3):
            began = time.monotonic()
            with self.parties.open_conversation() as conversation:
                opened = time.monotonic()
                next(self._generate(conversation, self.long_question(QUESTION_TOKENS)))
                runs.append({"opening": opened - began, "seconds": time.monotonic() - opened})
        return {"tokens": QUESTION_TOKENS, "runs": runs}

    def full_queue(self) -> dict[str, Any]:
        """The same question with prepared rows; then, once the queue is full again, tokens of the answer."""
        with self.parties.open_conversation() as conversation:
            question = self.long_question(QUESTION_TOKENS)
            rows = self.moment("full queue", conversation)
            began = time.monotonic()
            answer = self._generate(conversation, question)
            next(answer)
            read = time.monotonic() - began
            self.moment("behind a question, full queue", conversation)
            decode = self._timed(conversation, islice(answer, 4 if self.quick else 16), len(question) + 1)
            return {"tokens": QUESTION_TOKENS, "prepared_rows": rows, "seconds": read, "decode": decode}

    def steady(self) -> dict[str, Any]:
        """Tokens whose dealing is theirs: from the end of one dealt block to the end of a later one.

        Between such ends as many rows are dealt as used, whatever the queue's level.
        """
        with self.parties.open_conversation() as conversation:
            question = self.long_question(STEADY_QUESTION)
            answer = self._generate(conversation, question)
            begun = sum(1 for _ in islice(answer, WARM_TOKENS)) + sum(1 for _ in _blocks(conversation, answer, 1))
            before = conversation.statistics
            tokens = islice(answer, 4) if self.quick else _blocks(conversation, answer, STEADY_BLOCKS)
            figures = self._timed(conversation, tokens, len(question) + begun)
            after = conversation.statistics
            dealt = {"dealt_rows": after.dealt_rows - before.dealt_rows}
            return figures | dealt | {"links": _links(before.decode, after.decode)}

    def short_questions(self) -> dict[str, Any]:
        """A chat: each question waits for a full queue, each answer has a few tokens."""
        spec = self.parties.model.spec
        chat = Chat(self.parties.open_conversation, self.tokenizer, Settings(max_tokens=8), spec.context)
        runs = []
        try:
            for question in QUESTIONS[: 2 if self.quick else len(QUESTIONS)]:
                rows = self.moment("before a short question", conversation := _local(chat))
                done = _asked(chat, question)
                read = conversation.statistics.prefill.tokens
                runs.append({"seconds": done.speed.first_token_seconds, "tokens": read, "prepared_rows": rows})
        finally:
            chat.close()
        return {"runs": runs}

    def _generate(self, conversation: NodeConversation, tokens: Sequence[int]) -> Generator[int, None, None]:
        return conversation.generate(tokens, max_tokens=10_000, choose=_likeliest)

    def _timed(self, conversation: NodeConversation, tokens: Iterable[int], context: int) -> dict[str, Any]:
        """Seconds of each token, their middle context, and the rows that were ready before and are after."""
        ready = [conversation.status.prepared_rows]
        ends = [time.monotonic()]
        ends += [time.monotonic() for _ in tokens]
        ready.append(conversation.status.prepared_rows)
        seconds = [end - start for start, end in pairwise(ends)]
        return {"seconds": seconds, "context": context + (len(seconds) - 1) / 2, "prepared_rows": ready}


def _blocks(conversation: NodeConversation, answer: Iterator[int], count: int) -> Iterator[int]:
    """Tokens up to the one behind which that many more blocks are dealt whole."""
    dealt = conversation.statistics.dealt_rows
    for token in answer:
        yield token
        if conversation.statistics.dealt_rows > dealt:
            dealt, count = conversation.statistics.dealt_rows, count - 1
            if not count:
                return


def _likeliest(logits: Real, context: Sequence[int]) -> int:
    del context
    return int(logits.argmax())


def _local(chat: Chat) -> NodeConversation:
    conversation = chat.open()
    if not isinstance(conversation, NodeConversation):
        raise TypeError("the demo's chat has a conversation of the local party")
    return conversation


def _asked(chat: Chat, question: str) -> Done:
    events: list[Event] = []
    chat.send(question, events.append)
    last = events[-1]
    if isinstance(last, Failed):
        raise last.error
    if not isinstance(last, Done):
        raise TypeError("an answer ends with Done or Failed")
    return last


def _links(before: Phase, after: Phase) -> dict[str, float]:
    """Bytes a token without dealt material: D with each node, both ways; the nodes, each way."""
    tokens = after.tokens - before.tokens
    return {
        "D-E1": (after.first_bytes - before.first_bytes) / tokens,
        "D-E2": (after.second_bytes - before.second_bytes) / tokens,
        "E1-E2 each way": (after.peer_bytes - before.peer_bytes) / 2 / tokens,
    }


def measured(parties: Demo, model: Path, *, quick: bool) -> dict[str, Any]:
    """Every figure of the demo but its cold start."""
    chatting = Chatting(parties, model, quick=quick)
    stories: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
        ("empty_queue", chatting.empty_queue),
        ("steady", chatting.steady),
        ("full_queue", chatting.full_queue),
        ("short_questions", chatting.short_questions),
    )
    with watching(parties.pids) as most:
        chatting.moment("nodes ready, no session")
        figures: dict[str, Any] = {name: story() for name, story in stories}
        figures["largest_private"] = most()
    figures["moments"] = chatting.moments
    figures["dealer_peak"], figures["dealer_now"] = status(os.getpid(), "VmHWM", "VmRSS")
    return figures


def main() -> None:
    """Measure and print."""
    tune_process(DESKTOP_BYTES)  # as the program does
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chatting")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    if options.model is None:
        from app.demo.demo_model import ensure_demo_model

        options.model = ensure_demo_model()
    with demo(options.model) as parties:
        print(json.dumps(measured(parties, options.model, quick=options.quick)))


if __name__ == "__main__":
    main()
