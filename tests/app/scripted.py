"""A conversation that says what a test scripted, in place of three parties: for the fast tests of chat, terminal and window."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Sequence
from dataclasses import dataclass
from queue import Queue
from threading import Event

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from app.local_party import Phase, Statistics, Status
from engine.errors import LinkError, SessionStopped, TrineError
from engine.generate.sampling import Chooser
from engine.generate.tokenizer import ChatTokenizer

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
END = 1


def chat_tokenizer() -> ChatTokenizer:
    """One token a byte, and two control tokens."""
    controls = ["<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate([*controls, *letters])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(control, special=True) for control in controls])
    return ChatTokenizer(tokenizer, CHATML, [END])


def tokens_of(text: str) -> list[int]:
    tokenizer = chat_tokenizer()
    return tokenizer.encode_rendered((text,))


@dataclass(frozen=True)
class Rows:
    """A step's progress."""

    rows_done: int
    rows: int
    section: int
    sections: int
    preparing: bool = False

    @property
    def fraction(self) -> float:
        return self.section / self.sections


class ScriptedConversation:
    """Answers are taken from `script`, one an answer: tokens, an error to raise, or `WAIT` until `go` or `stop`."""

    WAIT = object()

    def __init__(self, script: Iterable[Sequence[object]], pace: float = 0) -> None:
        self.pace = pace  # seconds a token
        self.script: Queue[Sequence[object]] = Queue()
        for answer in script:
            self.script.put(answer)
        self.contexts: list[list[int]] = []
        self.drafts: list[int] = []
        self.waiting = Event()
        self.go = Event()
        self.stopped = Event()
        self.closed = self.lost = False

    def connect(self) -> None:
        """There is nobody to connect to."""

    def generate(
        self,
        context: Sequence[int],
        *,
        max_tokens: int,
        choose: Chooser,
        stop_tokens: Container[int],
        on_progress: Callable[[Rows], None],
        drafts: int,
    ) -> Generator[int, None, None]:
        self.stopped.clear()
        self.lost = False
        self.contexts.append(list(context))
        self.drafts.append(drafts)
        for section in range(1, 4):
            on_progress(Rows(0, len(context), section, 3))
        made = 0
        for item in self.script.get_nowait():
            if isinstance(item, TrineError):
                self.lost = isinstance(item, LinkError)
                raise item
            if item is self.WAIT:
                self.waiting.set()
                self.go.wait()
                self.go.clear()
                if self.stopped.is_set():
                    raise SessionStopped
                continue
            if self.pace:
                Event().wait(self.pace)
            logits = np.zeros(300)
            logits[item] = 1e3  # whatever the temperature
            made += 1
            yield choose(logits, [*context])
            if item in stop_tokens or made == max_tokens:
                return

    @property
    def status(self) -> Status:
        return Status({"node1": "connected", "node2": "lost" if self.lost else "connected"}, 131)

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            Phase(1, 20, 730, 2.0, 9_000, 100, 200),
            Phase(6, 6, 4362, 3.0, 60_000, 600, 1200),
            1,
            0.1,
            131,
            10,
            (0, 70_000),
            9,
            7,
        )

    def stop(self) -> None:
        self.stopped.set()
        self.go.set()

    def close(self) -> None:
        self.closed = True
