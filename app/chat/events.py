"""What a chat says: its messages, and the events of an answer. Whoever shows a chat reads no more of it than this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from app.chat.conversation import StepProgress
from engine.errors import TrineError
from engine.generate.tokenizer import Turn

__all__ = [
    "Computing",
    "Done",
    "Emit",
    "Event",
    "Failed",
    "Message",
    "Reason",
    "Role",
    "Speed",
    "Stands",
    "Started",
    "Text",
    "Waiting",
]


class Role(Enum):
    """Who wrote a message; the value is the chat template's word."""

    USER = "user"
    ASSISTANT = "assistant"


class Reason(Enum):
    """Why an answer ended."""

    END = "end"
    """The model ended it."""
    STOP_WORD = "stop-word"
    """A stop string came."""
    LENGTH = "length"
    """It has as many tokens as were asked for."""
    CONTEXT = "context"
    """The model's context is full."""
    STOPPED = "stopped"
    """The user stopped it."""


class Stands(Enum):
    """What is left in the chat when an answer has ended: the model hears that with the next question, and nothing else."""

    ANSWER = "answer"
    """What came of the answer, whole or not."""
    FORMER = "former"
    """The answer that was there before: not a word of another one came."""
    NOTHING = "nothing"
    """Not a word came and no answer was there before: the model will not hear the question unless it is asked again."""


@dataclass(slots=True)
class Message:
    """A message of the chat. An answer grows; `turn` then holds the tokens it was really made of."""

    role: Role
    text: str
    turn: Turn | None = field(default=None, repr=False)
    complete: bool = False
    """Whether an answer ended by itself, not by the user, a limit or an error."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Figures of one answer; seconds are wall clock."""

    prompt_tokens: int
    answer_tokens: int
    first_token_seconds: float
    """From sending to the first token: connecting if need be, and the prompt."""
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first; 0 if there are none."""
        later = self.seconds - self.first_token_seconds
        return (self.answer_tokens - 1) / later if self.answer_tokens > 1 and later > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Before the prompt goes out something takes long: `what`, for people."""

    what: str


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt goes out: `tokens` of the `context` that the model takes."""

    tokens: int
    context: int


@dataclass(frozen=True, slots=True)
class Computing:
    """The prompt is being computed, or a token of the answer."""

    step: StepProgress


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str
    token_count: int
    """Tokens of the answer so far."""
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is there."""

    reason: Reason
    speed: Speed
    stands: Stands = Stands.ANSWER


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer, or no more of it."""

    error: TrineError
    stands: Stands = Stands.NOTHING


Event = Waiting | Started | Computing | Text | Done | Failed
Emit = Callable[[Event], None]
