from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import pytest

from app.chat.chat import Chat, Settings
from app.chat.events import Computing, Done, Event, Failed, Reason, Role, Stands, Started, Text
from engine.errors import InputError, LinkError, ProtocolError, SessionStopped
from tests.app.scripted import END, ScriptedConversation, chat_tokenizer, tokens_of

TOKENIZER = chat_tokenizer()


def answered(*texts: str) -> list[list[object]]:
    return [[*tokens_of(text), END] for text in texts]


def chat_with(conversation: ScriptedConversation, settings: Settings | None = None, context: int = 1000) -> Chat:
    return Chat(lambda: conversation, TOKENIZER, settings or Settings(), context)


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_a_question_is_answered_piece_by_piece() -> None:
    chat, events = chat_with(ScriptedConversation(answered("Paris. 👍"))), list[Event]()
    chat.send("Capital of France?", events.append)
    assert isinstance(events[0], Started)
    assert [type(event) for event in events[1:4]] == [Computing] * 3
    assert said(events) == "Paris. 👍"
    last = events[-1]
    assert isinstance(last, Done)
    assert last.reason is Reason.END
    assert last.speed.answer_tokens == len("Paris. 👍".encode())
    assert [(message.role, message.text) for message in chat.messages] == [
        (Role.USER, "Capital of France?"),
        (Role.ASSISTANT, "Paris. 👍"),
    ]


def test_the_next_question_goes_on_from_the_same_tokens() -> None:
    conversation = ScriptedConversation(answered("one", "two"))
    chat = chat_with(conversation)
    chat.send("first", lambda _: None)
    chat.send("second", lambda _: None)
    first, second = conversation.contexts
    held = [*first, *tokens_of("one"), END]
    assert second[: len(held)] == held
    assert TOKENIZER.decode(second) == "user\nfirst\nassistant\none\nuser\nsecond\nassistant\n"


def test_drafts_are_asked_for_where_they_are_switched_on() -> None:
    for drafts in (0, 4):
        conversation = ScriptedConversation(answered("one", "two"))
        chat = chat_with(conversation, Settings(drafts=drafts))
        chat.send("question", lambda _: None)
        chat.regenerate(lambda _: None)
        assert conversation.drafts == [drafts, drafts]


def test_the_system_prompt_stands_first() -> None:
    conversation = ScriptedConversation(answered("yes"))
    chat_with(conversation, Settings(system="Be brief.")).send("really", lambda _: None)
    assert TOKENIZER.decode(conversation.contexts[0]).startswith("system\nBe brief.\nuser\n")


def test_regenerate_replaces_the_answer() -> None:
    conversation = ScriptedConversation(answered("one", "other"))
    chat = chat_with(conversation)
    chat.send("question", lambda _: None)
    chat.regenerate(lambda _: None)
    assert [message.text for message in chat.messages] == ["question", "other"]
    assert conversation.contexts[0] == conversation.contexts[1]


def test_only_a_complete_answer_is_asked_for_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    chooser = Settings.chooser
    monkeypatch.setattr(Settings, "chooser", lambda self: (seen.append(self.temperature), chooser(self))[1])
    broken = [*tokens_of("on"), LinkError("closed", "node 1")]
    chat = chat_with(ScriptedConversation([broken, *answered("one", "other")]))
    chat.send("question", lambda _: None)
    chat.regenerate(lambda _: None)
    chat.regenerate(lambda _: None)
    assert seen[:2] == [0, 0]
    assert seen[2] > 0


def test_edit_drops_what_came_after() -> None:
    conversation = ScriptedConversation(answered("one", "two", "three"))
    chat = chat_with(conversation)
    chat.send("a", lambda _: None)
    chat.send("b", lambda _: None)
    chat.edit(0, "c", lambda _: None)
    assert [message.text for message in chat.messages] == ["c", "three"]


def test_a_stop_string_ends_the_answer_and_the_next_prompt_holds_the_cut_text() -> None:
    conversation = ScriptedConversation([*answered("fine\nUser: more"), *answered("x")])
    chat, events = chat_with(conversation, Settings(stop=("\nUser:",))), list[Event]()
    chat.send("hello", events.append)
    assert said(events) == "fine"
    assert isinstance(events[-1], Done)
    assert events[-1].reason is Reason.STOP_WORD
    chat.send("go on", lambda _: None)
    assert "fine\nuser\ngo on" in TOKENIZER.decode(conversation.contexts[1])


@pytest.mark.parametrize(("max_tokens", "reason"), [(3, Reason.LENGTH), (500, Reason.CONTEXT)])
def test_an_answer_ends_where_there_is_no_room(max_tokens: int, reason: Reason) -> None:
    conversation = ScriptedConversation(answered("abcdefghijklmnop"))
    chat, events = chat_with(conversation, Settings(max_tokens=max_tokens), context=26), list[Event]()
    chat.send("i", events.append)
    assert isinstance(events[-1], Done)
    assert events[-1].reason is reason
    assert said(events) == "abcdefghijklmnop"[: min(max_tokens, 26 - len(conversation.contexts[0]))]


def test_a_prompt_too_long_by_one_token_is_refused_before_anything_is_sent() -> None:
    probe = ScriptedConversation(answered("x"))
    chat_with(probe).send("hello", lambda _: None)
    length = len(probe.contexts[0])

    conversation, events = ScriptedConversation(answered("x")), list[Event]()
    chat_with(conversation, context=length).send("hello", events.append)
    assert not conversation.contexts
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, InputError)
    assert f"{length} tokens" in str(events[-1].error)
    assert "by 1 or" in str(events[-1].error)

    chat_with(conversation, context=length + 1).send("hello", events.append)
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_question_is_refused(text: str) -> None:
    events: list[Event] = []
    chat_with(ScriptedConversation([])).send(text, events.append)
    assert [type(event) for event in events] == [Failed]


def test_wrong_options_are_refused() -> None:
    for settings in (Settings(temperature=-1), Settings(max_tokens=0)):
        events: list[Event] = []
        chat_with(ScriptedConversation([]), settings).send("x", events.append)
        assert isinstance(events[0], Failed)
        assert isinstance(events[0].error, InputError)


def test_stop_from_another_thread_keeps_the_text() -> None:
    conversation = ScriptedConversation(
        [[*tokens_of("half"), ScriptedConversation.WAIT, *tokens_of(" more")], *answered("next")]
    )
    chat, events = chat_with(conversation), list[Event]()
    thread = Thread(target=chat.send, args=("question", events.append))
    thread.start()
    assert conversation.waiting.wait(5)
    chat.stop()
    thread.join(5)
    assert isinstance(events[-1], Done)
    assert events[-1].reason is Reason.STOPPED
    assert chat.messages[-1].text == "half"
    chat.send("again", events.append)
    assert said(events).endswith("next")
    assert "half\nuser\nagain" in TOKENIZER.decode(conversation.contexts[1])


def test_an_answer_stopped_before_its_first_word_leaves_no_message() -> None:
    conversation = ScriptedConversation([[SessionStopped()], *answered("ok")])
    chat = chat_with(conversation)
    chat.send("one", lambda _: None)
    chat.send("two", lambda _: None)
    assert [message.text for message in chat.messages] == ["two", "ok"]


@pytest.mark.parametrize("error", [LinkError("closed", "node 1"), ProtocolError("answers-differ")], ids=["link", "protocol"])
def test_after_a_lost_node_the_next_question_takes_what_was_said_along(error: LinkError) -> None:
    conversation = ScriptedConversation([*answered("one"), [*tokens_of("tw"), error], *answered("three")])
    chat, events = chat_with(conversation), list[Event]()
    chat.send("a", events.append)
    chat.send("b", events.append)
    assert events[-1] == Failed(error, Stands.ANSWER)
    chat.send("c", events.append)
    assert said(events) == "onetwthree"
    context = TOKENIZER.decode(conversation.contexts[-1])
    assert context == "user\na\nassistant\none\nuser\nb\nassistant\ntw\nuser\nc\nassistant\n"


WAIT = ScriptedConversation.WAIT
LOST = LinkError("closed", "node 2")


def ends(outcome: str) -> list[object]:
    """Of an answer of which not a word comes."""
    blank = tokens_of(" \n")
    return {"fails": [LOST], "stopped": [WAIT], "blank, then fails": [*blank, LOST], "blank, then stopped": [*blank, WAIT]}[
        outcome
    ]


def stopping_when_it_waits(chat: Chat, conversation: ScriptedConversation, job: Callable[[], None]) -> None:
    """Run a job; the user stops it where the script waits."""
    thread = Thread(target=job)
    thread.start()
    while thread.is_alive() and not conversation.waiting.wait(0.01):
        pass
    if conversation.waiting.is_set():
        conversation.waiting.clear()
        chat.stop()
    thread.join(5)
    assert not thread.is_alive()


OUTCOMES = pytest.mark.parametrize("outcome", ["fails", "stopped", "blank, then fails", "blank, then stopped"])


@OUTCOMES
@pytest.mark.parametrize("anew", ["regenerate", "edit"])
def test_the_old_answer_stands_where_not_a_word_of_another_comes(outcome: str, anew: str) -> None:
    conversation = ScriptedConversation([*answered("Paris."), ends(outcome), ends(outcome), *answered("Two million.")])
    chat, events = chat_with(conversation), list[Event]()
    chat.send("Capital of France?", events.append)
    messages = list(chat.messages)

    def again() -> None:
        chat.regenerate(events.append) if anew == "regenerate" else chat.edit(0, "Of Spain?", events.append)

    for _ in range(2):
        stopping_when_it_waits(chat, conversation, again)
        assert isinstance(events[-1], Failed if outcome.endswith("fails") else Done)
        assert events[-1].stands is Stands.FORMER
        assert chat.messages == messages
    chat.send("How many live there?", events.append)
    heard = "user\nCapital of France?\nassistant\nParis.\nuser\nHow many live there?\nassistant\n"
    assert TOKENIZER.decode(conversation.contexts[-1]) == heard
    assert conversation.contexts[-1][: len(conversation.contexts[0]) + 7] == [
        *conversation.contexts[0],
        *tokens_of("Paris."),
        END,
    ]


@pytest.mark.parametrize("end", [LOST, WAIT], ids=["fails", "stopped"])
def test_the_new_answer_stands_from_its_first_word_on(end: object) -> None:
    conversation = ScriptedConversation([*answered("Paris."), [*tokens_of("It is"), end], *answered("ok")])
    chat, events = chat_with(conversation), list[Event]()
    chat.send("Capital of France?", events.append)
    stopping_when_it_waits(chat, conversation, lambda: chat.regenerate(events.append))
    assert isinstance(events[-1], Done | Failed)
    assert events[-1].stands is Stands.ANSWER
    chat.send("So?", events.append)
    assert "assistant\nIt is\nuser\nSo?" in TOKENIZER.decode(conversation.contexts[-1])


def test_an_answer_asked_for_again_that_is_refused_leaves_the_chat_as_it_was() -> None:
    chat, events = chat_with(ScriptedConversation(answered("yes"))), list[Event]()
    chat.send("really", events.append)
    messages = list(chat.messages)
    chat.edit(0, " ", events.append)
    chat.edit(0, "too long " * 200, events.append)
    chat.settings = Settings(top_p=-1)
    chat.regenerate(events.append)
    refused = events[-3:]
    assert all(isinstance(event, Failed) and isinstance(event.error, InputError) for event in refused)
    assert [event.stands for event in refused if isinstance(event, Failed)] == [Stands.FORMER] * 3
    assert chat.messages == messages


@OUTCOMES
def test_a_question_that_is_not_heard_says_so_and_can_be_asked_again(outcome: str) -> None:
    conversation = ScriptedConversation([*answered("one"), ends(outcome), ends(outcome), *answered("two"), *answered("three")])
    chat, events = chat_with(conversation), list[Event]()
    chat.send("a", events.append)
    assert isinstance(events[-1], Done)
    assert events[-1].stands is Stands.ANSWER
    for job in (lambda: chat.send("b", events.append), lambda: chat.regenerate(events.append)):
        stopping_when_it_waits(chat, conversation, job)
        assert isinstance(events[-1], Done | Failed)
        assert events[-1].stands is Stands.NOTHING
    chat.regenerate(events.append)
    assert events[-1].stands is Stands.ANSWER
    chat.send("c", events.append)
    heard = "user\na\nassistant\none\nuser\nb\nassistant\ntwo\nuser\nc\nassistant\n"
    assert TOKENIZER.decode(conversation.contexts[-1]) == heard


def test_a_stop_that_came_too_early_for_the_conversation_is_said_again() -> None:
    conversation = ScriptedConversation([[ScriptedConversation.WAIT, *tokens_of("never")]])
    chat, events = chat_with(conversation), list[Event]()

    def see(event: Event) -> None:
        events.append(event)
        if isinstance(event, Started):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(conversation, "stop", lambda: None)  # it forgets it, as it has not begun yet
                chat.stop()

    chat.send("a", see)
    assert isinstance(events[-1], Done)
    assert events[-1].reason is Reason.STOPPED


def test_a_conversation_survives_what_the_user_did_wrong() -> None:
    conversation = ScriptedConversation([[InputError("no")], *answered("fine")])
    chat, events = chat_with(conversation), list[Event]()
    chat.send("a", events.append)
    chat.send("b", events.append)
    assert not conversation.closed
    assert isinstance(events[-1], Done)


def test_nodes_that_cannot_be_reached_are_an_outcome() -> None:
    def unreachable() -> ScriptedConversation:
        raise LinkError("refused", "node 2")

    chat, events = Chat(unreachable, TOKENIZER, Settings(), 100), list[Event]()
    chat.send("a", events.append)
    assert isinstance(events[-1], Failed)
    assert str(events[-1].error) == "node 2: refused"
