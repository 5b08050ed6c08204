"""Whatever order the events of a window come in, the screen shows what the model hears: long walks through the table."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from app.chat.events import Done, Failed, Message, Reason, Role, Speed, Stands, Text
from app.window.states import NEXT, Act, Given, Situation, WindowEvent, WindowState, after
from engine.errors import InputError, LinkError

E, S, A = WindowEvent, WindowState, Act

DONE = Done(Reason.END, Speed(1, 1, 0.0, 0.0))
FAILED = (Failed(LinkError("the other side hung up", "node 2")), Failed(InputError("too long by 3")))
SELDOM = {E.BROKE: 0.3, E.NEW_CHAT: 0.1}
"""How often these are chosen beside the other events: they end what the walk is to go through."""


@dataclass
class Exchange:
    """A question on the screen, whether it is marked as one that the model will not hear, and its answer."""

    question: str
    marked: bool = False
    answer: str = ""


class Screen:
    """What the acts make of the transcript and of the chat, as the real ones do."""

    def __init__(self) -> None:
        self.shown: list[Exchange] = []
        self.heard: list[str] | None = None
        """Questions and answers in turn, as the chat has them; None while no nodes run."""
        self.asked: list[str] = []
        self.growing = self.former = ""
        self.composed: list[str] = []

    def said(self) -> list[str]:
        """What a reader takes for the chat."""
        return [word for one in self.shown if not one.marked for word in (one.question, one.answer) if word]

    def stands(self) -> Stands:
        """How the chat ends an answer: what it has made of the messages by then."""
        assert self.heard is not None
        if self.growing:
            self.heard = [*self.asked, self.growing]
            return Stands.ANSWER
        return Stands.FORMER if len(self.heard) % 2 == 0 else Stands.NOTHING

    def carry_out(self, act: Act, now: Situation, given: Given) -> None:
        match act:
            case A.SHOW_READY:
                self.heard = [message.text for message in now.kept]
            case A.SHOW_QUESTION:
                self.shown.append(Exchange(given.text))
            case A.LEAVE_OUT:
                self.shown[-2].marked = True
            case A.PUT_ASIDE:
                self.former, self.shown[-1].answer = self.shown[-1].answer, ""
            case A.ASK:
                assert self.heard is not None
                assert self.shown[-1].question == now.question
                self.heard = self.asked = [*self.heard[: len(self.heard) // 2 * 2], now.question]
                self.growing = ""
            case A.ASK_AGAIN:
                assert self.heard
                self.asked = self.heard[: (len(self.heard) + 1) // 2 * 2 - 1]
                self.growing = ""
            case A.TAKE_BACK:
                self.composed.append(self.shown.pop().question)
            case A.SHOW_WORK:
                assert isinstance(given.work, Text)
                self.growing += given.work.text
            case A.SHOW_END:
                stands = given.stands if given.end is None else given.end.stands
                answers = {Stands.ANSWER: self.growing, Stands.FORMER: self.former, Stands.NOTHING: ""}
                self.shown[-1].answer = answers[stands]
            case A.FORGET:
                self.heard = []
            case A.CLEAR:
                self.shown = []
            case A.TELL_NO_START | A.TELL_END:
                self.heard = None


def messages(words: Sequence[str]) -> list[Message]:
    return [Message(Role.ASSISTANT if at % 2 else Role.USER, word) for at, word in enumerate(words)]


def what_comes_with(event: WindowEvent, number: int, screen: Screen, now: Situation, chosen: random.Random) -> Given:
    match event:
        case E.SEND:
            return Given(f"question {number}")
        case E.WORKED:
            return Given(work=Text(f"word {number} ", number, 0.0))
        case E.ENDED:
            end = chosen.choice([DONE, *FAILED])
            stands = screen.stands()
            return Given(end=Done(end.reason, end.speed, stands) if isinstance(end, Done) else Failed(end.error, stands))
        case E.BROKE:
            stands = screen.stands() if now.state in (S.ANSWERING, S.STOPPING) else Stands.NOTHING
            return Given("it broke", stands=stands, messages=messages(screen.heard or []))
        case _:
            return Given("loading")


@pytest.mark.parametrize("seed", range(50))
def test_the_screen_shows_what_the_model_hears(seed: int) -> None:
    now, screen, chosen = Situation(), Screen(), random.Random(seed)
    for number in range(400):
        events = [event for event in NEXT[now.state] if event is not E.CLOSE]
        (event,) = chosen.choices(events, [SELDOM.get(event, 1.0) for event in events])
        given = what_comes_with(event, number, screen, now, chosen)
        waited = now.queued
        now, acts = after(now, event, given)
        for act in acts:
            screen.carry_out(act, now, given)
        assert not waited or now.queued or screen.composed[-1:] == [waited] or now.question == waited  # it is never lost
        if now.state in (S.ANSWERING, S.STOPPING):
            continue
        heard = [message.text for message in now.kept] if screen.heard is None else screen.heard
        assert screen.said() == heard + ([now.queued] if now.queued else [])
        assert now.unheard == (len(heard) % 2 == 1)
