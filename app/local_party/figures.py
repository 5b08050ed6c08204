"""What a session counts: rounds, bytes on each link, seconds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
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
    """Steps of one kind: the prompt's (prefill), or those of one token each that follow (decode)."""

    steps: int = 0
    tokens: int = 0
    rounds: int = 0
    seconds: float = 0.0
    peer_bytes: int = 0
    """On the link between the nodes, both ways together."""
    first_bytes: int = 0
    """Between the client and node 1, both ways."""
    second_bytes: int = 0
    """Between the client and node 2, both ways, without the dealt material, which came ahead of time."""

    @property
    def tokens_per_second(self) -> float:
        """0 if there were none."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def with_step(
        self, tokens: int, rounds: int, seconds: float, peer_bytes: int, first_bytes: int, second_bytes: int
    ) -> Phase:
        """The phase with one step more."""
        return Phase(
            self.steps + 1,
            self.tokens + tokens,
            self.rounds + rounds,
            self.seconds + seconds,
            self.peer_bytes + peer_bytes,
            self.first_bytes + first_bytes,
            self.second_bytes + second_bytes,
        )


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
    dealt_bytes: int = 0
    """Material of those rows, all of it to node 2."""

    def bytes_per_token(self) -> dict[str, float]:
        """On each link ("D-E1", "D-E2", "E1-E2"), both ways, for one token of the answer; dealt material included."""
        phase = self.decode if self.decode.tokens else self.prefill
        tokens = max(phase.tokens, 1)
        dealt = self.dealt_bytes / max(self.dealt_rows, 1)
        return {
            "D-E1": phase.first_bytes / tokens,
            "D-E2": phase.second_bytes / tokens + dealt,
            "E1-E2": phase.peer_bytes / tokens,
        }
