"""What a chat needs of the local party: `app.local_party.NodeConversation`, or a scripted one in fast tests."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from typing import TYPE_CHECKING, Protocol

from engine.generate.sampling import Chooser

if TYPE_CHECKING:
    from app.local_party import Statistics, Status

__all__ = ["Conversation", "StepProgress"]


class StepProgress(Protocol):
    """How far a step is (`app.local_party.figures.PromptProgress`)."""

    @property
    def rows_done(self) -> int:
        """Tokens that are through all sections."""

    @property
    def rows(self) -> int:
        """Tokens of the step."""

    @property
    def section(self) -> int:
        """Where the running pass is: embedding, layers, answer."""

    @property
    def sections(self) -> int:
        """How many there are."""

    @property
    def preparing(self) -> bool:
        """Whether the nodes wait for rows that are still being dealt."""

    @property
    def fraction(self) -> float:
        """Of the whole step, 0 to 1."""


class Conversation(Protocol):
    """What a chat needs of `app.local_party.NodeConversation`."""

    def connect(self) -> None:
        """Connect to both nodes, unless connected."""

    def generate(
        self,
        context: Sequence[int],
        *,
        max_tokens: int,
        choose: Chooser,
        stop_tokens: Container[int],
        on_progress: Callable[[StepProgress], None],
        drafts: int,
    ) -> Generator[int, None, None]:
        """Tokens after `context`; whatever the nodes hold of it already is not computed again.

        A step verifies up to `drafts` tokens that the text itself suggests.
        """

    @property
    def status(self) -> Status:
        """The parties' states now, from any thread."""

    @property
    def statistics(self) -> Statistics:
        """Figures of the last answer, from any thread."""

    def stop(self) -> None:
        """End the running answer, or the connecting, from any thread."""

    def close(self) -> None:
        """Leave both nodes."""
