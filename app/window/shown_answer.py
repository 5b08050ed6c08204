"""An answer while it grows: what is shown of it in the transcript and on the status line."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.chat.events import Computing, Done, Reason, Stands, Started, Text, Waiting
from app.window import sentences
from app.window.messages import AnswerWidget
from app.window.status import StatusLine
from app.window.transcript import Transcript

__all__ = ["ShownAnswer"]


class ShownAnswer:
    """The last answer of the transcript, from the moment in which it is asked for. `say` speaks to a screen reader."""

    def __init__(self, author: str, transcript: Transcript, status: StatusLine, say: Callable[[str], None]) -> None:
        self.widget: AnswerWidget = transcript.answer(author)
        self._transcript, self._status, self._say = transcript, status, say
        self._started: Started | None = None
        self._sent_at = time.monotonic()

    @property
    def stands(self) -> Stands:
        """What the chat is left with if Trine has to stop now."""
        if self._transcript.former_stands:
            return Stands.FORMER
        return Stands.ANSWER if self.widget.text.strip() else Stands.NOTHING

    def hold(self, preparing: str, fraction: float | None = None) -> None:
        """It waits for the nodes, for which this is being prepared."""
        self.widget.progress.show_progress(f"Waiting for the nodes: {preparing}…", fraction=fraction)

    def sent(self) -> None:
        """Its question goes out now."""
        self._sent_at = time.monotonic()

    def show(self, work: Waiting | Started | Computing | Text) -> None:
        """What the worker says of it."""
        progress = self.widget.progress
        match work:
            case Waiting():
                progress.show_progress(f"{work.what[:1].upper()}{work.what[1:]}…")
            case Started():
                self._started = work
                self._show_context(0)
                progress.show_progress(f"Sending {work.tokens:,} tokens…")
            case Computing():
                elapsed = time.monotonic() - self._sent_at
                progress.show_progress(*sentences.progress(work.step, elapsed), fraction=work.step.fraction)
            case Text():
                if not self.widget.text:
                    self._say("Answering")
                self.widget.append(work.text)
                self._show_context(work.token_count)
                if work.tokens_per_second:
                    self._status.set_figure("speed", f"{work.tokens_per_second:.1f} tokens/s")

    def finish(self, done: Done) -> None:
        """It is there, or was stopped."""
        self.widget.finish(*sentences.note(done))
        self._transcript.settle_former(stands=done.stands is Stands.FORMER)
        self._say("Stopped" if done.reason is Reason.STOPPED else "The answer is complete")

    def fail(self, text: str, stands: Stands) -> None:
        """There is no answer, or no more of it; `text` says why."""
        self.widget.fail(text)
        self._transcript.settle_former(stands=stands is Stands.FORMER)
        last = self._transcript.messages[-1]
        if stands is Stands.FORMER and isinstance(last, AnswerWidget):
            last.fail_again(text)
        self._say(text)

    def _show_context(self, answered: int) -> None:
        if self._started is not None:
            tokens, context = self._started.tokens + answered, self._started.context
            self._status.set_figure("context", f"{tokens:,} of {context:,} tokens")
