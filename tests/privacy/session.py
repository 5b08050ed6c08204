"""A session of the three real parties in one process, every payload seen on its way."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.parties.dealer import Dealer
from engine.parties.evaluator import Evaluator
from engine.program.evaluation import Exchange
from engine.session import keys
from engine.session.messages import answer_digest, step_parts
from engine.step import Answer, Step
from tests.privacy.ledger import Ledger
from tests.privacy.small import CONTEXT, Shared

NODES = ("E1", "E2")
PATIENCE = 60.0


class Aborted(Exception):
    """The link between the nodes was cut, as the test asked."""


@dataclass
class Tap:
    """What goes by, for tests that look at contents: (link, kind, step, round) → bytes."""

    seen: list[tuple[tuple[str, str], str, int, int, bytes]] = field(default_factory=list)


class Session:
    """`fixed` gives the keys (k1, k2, the dealer's own); otherwise they are derived as a session's are."""

    def __init__(
        self,
        model: Shared,
        ledger: Ledger | None = None,
        *,
        fixed: Sequence[bytes] | None = None,
        prefix: int | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.model, self.ledger, self.tap = model, ledger or Ledger(), tap
        self.keys = list(fixed) if fixed else [*(session_key(f"D-{node}") for node in NODES), keys.fresh(32)]
        k1, k2, own = self.keys
        prefix = len(model.spec.prefix) if prefix is None else prefix
        record = self.ledger.record
        self.dealer = Dealer(
            model.spec,
            model.seeds,
            (k1, k2),
            own,
            prefix=prefix,
            context=CONTEXT,
            record=(record("D", k1), record("D", k2)),
        )
        self.evaluators = [
            Evaluator(pack, key, prefix=prefix, context=CONTEXT, record=record(node, key))
            for pack, key, node in zip(model.packs, (k1, k2), NODES, strict=True)
        ]
        self._number = self.ledger.sessions
        self.ledger.sessions += 1
        self._step = 0
        self._mail: list[queue.Queue[bytes | None]] = []
        self.rounds = 0

    def deal(self, count: int) -> list[tuple[memoryview, memoryview]]:
        """Deal a block and prepare it at both nodes; returns the material."""
        first, position = self.dealer.next_row, self.dealer.dealt_position
        for evaluator in self.evaluators:
            evaluator.announce(first, count, position)
        dealt = []
        for section, material in self.dealer.deal(count):
            for node, evaluator, part in zip(NODES, self.evaluators, material, strict=True):
                if part:
                    self._sent(("D", node), f"material {first}.{section}", part)
                evaluator.prepare(first, section, part)
            dealt.append(material)
        return dealt

    def step(self, tokens: Sequence[int], answers: int = 1, cut: int | None = None) -> NDArray[np.float64]:
        """Logits [answers, vocab]; `cut` ends the step with `Aborted` in that round. Rows are dealt if none are queued."""
        if (missing := len(tokens) - self.dealer.queued_rows) > 0:
            self.deal(missing)
        request = self.dealer.request(tokens, answers)
        try:
            one, two = self._compute(request, cut)
        finally:
            self._step += 1
        if one != two:
            raise RuntimeError("the nodes' answers differ")
        self.rounds = one.rounds
        last = request.first_row + len(tokens) - 1
        if self.dealer.wrapped(last, one.alarm):
            raise RuntimeError("a word wrapped: choose other keys for this test")
        size = len(one.data) // answers
        rows = [one.data[i * size : (i + 1) * size] for i in range(answers)]
        return np.stack([self.dealer.logits(last - answers + 1 + i, row) for i, row in enumerate(rows)])

    def _compute(self, request: Step, cut: int | None) -> tuple[Answer, Answer]:
        for node, kappa2 in zip(NODES, (request.kappa2[:, :0], request.kappa2), strict=True):
            step = replace(request, kappa2=kappa2)
            self._sent(("D", node), "step", b"".join(bytes(part) for part in step_parts(step)))
        self._mail = [queue.Queue(), queue.Queue()]
        with ThreadPoolExecutor(2) as pool:
            steps = [pool.submit(self._run, i, request, cut) for i in range(2)]
            one, two = (step.result() for step in steps)
        self._sent(("E1", "D"), "answer", one.data + one.alarm.to_bytes(2, "little"))
        self._sent(("E2", "D"), "digest", answer_digest(two.alarm, two.data))
        return one, two

    def _run(self, index: int, request: Step, cut: int | None) -> Answer:
        try:
            return self.evaluators[index].step(request, self._exchange(index, cut), lambda *_: None)
        finally:
            self._mail[index].put(None)

    def _exchange(self, index: int, cut: int | None) -> Exchange:
        mine, theirs = self._mail[index], self._mail[1 - index]
        link = (NODES[index], NODES[1 - index])
        count = -1

        def exchange(message: bytes) -> bytes:
            nonlocal count
            count += 1
            self._sent(link, "round", message, count)
            if count == cut and index == 0:
                raise Aborted
            mine.put(message)
            reply = theirs.get(timeout=PATIENCE)
            if reply is None:
                raise Aborted
            return reply

        return exchange

    def _sent(self, link: tuple[str, str], kind: str, data: bytes, number: int = -1) -> None:
        self.ledger.sent((self._number, self._step, number), link, kind, data)
        if self.tap is not None:
            self.tap.seen.append((link, kind, self._step, number, data))

    def rewind(self, position: int) -> None:
        """Cut the context at all three."""
        self.dealer.rewind(position)
        for evaluator in self.evaluators:
            evaluator.rewind(position)


def session_key(pair: str) -> bytes:
    """A pair's key for the streams, as both sides of a link derive it."""
    seed, nonces = keys.fresh(32), (keys.fresh(32), keys.fresh(32))
    return keys.derive(seed, nonces, session=keys.fresh(16), epoch=0, pair=pair, purpose="streams")
