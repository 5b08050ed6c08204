"""What a session counts: rounds, bytes on each link, seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How far a prompt is.

    `rows_done` of `rows` tokens are through all sections; the pass that runs has `pass_rows` and is at `section` of
    `sections`. While `preparing`, the nodes wait for rows that are still being dealt.
    """

    rows_done: int
    rows: int
    section: int
    sections: int
    pass_rows: int
    preparing: bool = False

    @property
    def fraction(self) -> float:
        """Of the whole prompt, 0 to 1."""
        return min((self.rows_done + self.pass_rows * self.section / max(self.sections, 1)) / max(self.rows, 1), 1.0)


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps of one kind: the prompt's (prefill), or those that follow, of one token each and its drafts (decode)."""

    steps: int = 0
    tokens: int = 0
    """Of the prompt, or of the answer: a draft counts once it is accepted, a step that is redone once."""
    rounds: int = 0
    seconds: float = 0.0
    peer_bytes: int = 0
    """On the link between the nodes, both ways together."""
    first_bytes: int = 0
    """Between the client and node 1, both ways, without the dealt material, which came ahead of time."""
    second_bytes: int = 0
    """The same for node 2."""
    lost_rows: float = 0.0
    """Dealt rows that gave no token: of rejected drafts and redone steps, and what was queued behind those."""

    @property
    def tokens_per_second(self) -> float:
        """0 if there were none."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def with_step(
        self, tokens: int, rounds: int, seconds: float, peer_bytes: int, first_bytes: int, second_bytes: int
    ) -> Phase:
        """The phase with one step more, whose rows gave `tokens`."""
        return Phase(
            self.steps + 1,
            self.tokens + tokens,
            self.rounds + rounds,
            self.seconds + seconds,
            self.peer_bytes + peer_bytes,
            self.first_bytes + first_bytes,
            self.second_bytes + second_bytes,
            self.lost_rows,
        )

    def with_rows(self, tokens: int, lost: float) -> Phase:
        """The phase with more `tokens` of the last step, and rows that were `lost`."""
        return replace(self, tokens=self.tokens + tokens, lost_rows=self.lost_rows + lost)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of the last answer, and of the session it came from."""

    prefill: Phase = field(default_factory=Phase)
    decode: Phase = field(default_factory=Phase)
    redone: int = 0
    """Steps that were computed again because the wrap alarm rose."""
    cold_start_seconds: float = 0.0
    """From dialling to a session that stands at both nodes."""
    prepared_rows: int = 0
    """Rows that are dealt and not used."""
    dealt_rows: int = 0
    """Since the session began, whole blocks."""
    dealt_bytes: tuple[int, int] = (0, 0)
    """Material of those rows, to node 1 and to node 2."""
    drafted: int = 0
    """Drafts that were verified."""
    accepted: int = 0
    """Those of them that became tokens of the answer."""

    def bytes_per_token(self) -> dict[str, float]:
        """On each link ("D-E1", "D-E2", "E1-E2"), both ways, for one token of the answer; dealt material included."""
        phase = self.decode if self.decode.tokens else self.prefill
        tokens = max(phase.tokens, 1)
        first, second = (dealt / max(self.dealt_rows, 1) * (1 + phase.lost_rows / tokens) for dealt in self.dealt_bytes)
        return {
            "D-E1": phase.first_bytes / tokens + first,
            "D-E2": phase.second_bytes / tokens + second,
            "E1-E2": phase.peer_bytes / tokens,
        }
