"""The window's states, without a window: every pair of a state and an event, and what people do in an awkward moment."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.events import Done, Failed, Message, Reason, Role, Speed, Stands, Text
from app.window.states import IGNORED, NEXT, Act, Given, Situation, WindowEvent, WindowState, after
from engine.errors import InputError, LinkError, ProtocolError, TrineError

E, S, A = WindowEvent, WindowState, Act

GRID = """
                starting   queued     ready      answering  stopping   broken     leaving    gone
    send        queued     -          answering  -          -          broken     -          -
    again       starting   -          answering  -          -          broken     -          -
    stop        -          starting   -          stopping   stopping   -          -          -
    new         starting   starting   ready      stopping   stopping   broken     -          -
    try         -          -          -          -          -          starting   -          -
    close       leaving    leaving    leaving    leaving    leaving    gone       -          gone
    preparing   starting   queued     !          !          !          !          -          -
    came        ready      answering  !          !          !          !          -          -
    worked      !          !          !          answering  stopping   !          -          -
    ended       !          !          !          ready      ready      !          -          -
    broke       broken     broken     broken     broken     broken     !          gone       -
    finished    !          !          !          !          !          !          gone       -
    overdue     !          !          !          !          !          !          gone       -
"""  # "-" is ignored, "!" is refused

SHORT = {"again": E.ANSWER_AGAIN, "new": E.NEW_CHAT, "try": E.TRY_AGAIN}
BY_USER = {E.SEND, E.ANSWER_AGAIN, E.STOP, E.NEW_CHAT, E.TRY_AGAIN, E.CLOSE}
DONE = Done(Reason.END, Speed(1, 1, 0.1, 0.2))
HEARD = (Message(Role.USER, "heard"), Message(Role.ASSISTANT, "yes"))
WITH = {
    E.SEND: Given(text="a question"),
    E.PREPARING: Given(text="loading", fraction=0.5),
    E.WORKED: Given(work=Text("word", 1, 0.0)),
    E.ENDED: Given(end=DONE),
    E.BROKE: Given(text="it broke", messages=HEARD, stands=Stands.ANSWER),
}


def grid() -> list[tuple[WindowState, WindowEvent, str]]:
    head, *rows = [line.split() for line in GRID.splitlines() if line.strip()]
    return [
        (S(state), SHORT.get(row[0]) or E(row[0]), entry) for row in rows for state, entry in zip(head, row[1:], strict=True)
    ]


def at(state: WindowState, **more: object) -> Situation:
    """A situation in which a question was asked, or waits."""
    return replace(Situation(state, queued="waits" if state is S.QUEUED else "", question="asked"), **more)  # type: ignore[arg-type]


def walk(now: Situation, *events: WindowEvent | tuple[WindowEvent, Given]) -> tuple[Situation, list[Act]]:
    """The situation after some events, and all acts on the way."""
    acts: list[Act] = []
    for step in events:
        event, what = step if isinstance(step, tuple) else (step, WITH.get(step, Given()))
        now, more = after(now, event, what)
        acts.extend(more)
    return now, acts


def failed(error: TrineError, stands: Stands = Stands.NOTHING) -> tuple[WindowEvent, Given]:
    return E.ENDED, Given(end=Failed(error, stands))


@pytest.mark.parametrize(("state", "event", "entry"), grid(), ids=lambda part: getattr(part, "value", None))
def test_each_event_in_each_state(state: WindowState, event: WindowEvent, entry: str) -> None:
    now = at(state)
    if entry == "!":
        with pytest.raises(ValueError, match=f"'{event.value}' has no place while {state.value}"):
            after(now, event, WITH.get(event, Given()))
    elif entry == "-":
        assert after(now, event, WITH.get(event, Given())) == (now, ())
    else:
        changed, acts = after(now, event, WITH.get(event, Given()))
        assert changed.state is S(entry)
        assert acts


def test_the_grid_has_every_pair_and_the_table_says_each_thing_once() -> None:
    assert {(state, event) for state, event, _ in grid()} == {(state, event) for state in S for event in E}
    assert {*NEXT} == {*IGNORED} == {*S}
    for state in S:
        assert not IGNORED[state] & NEXT[state].keys()
        assert IGNORED[state] | NEXT[state].keys() >= BY_USER  # nothing that the user does is refused


def test_the_states_need_no_qt() -> None:
    """This whole file without a window: in a process of its own, for others here may have loaded Qt before."""
    program = f"import sys, {__name__}\nprint([name for name in sys.modules if name.startswith('PySide6')])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"


def test_a_question_that_is_asked_is_shown_and_sent() -> None:
    now, acts = walk(Situation(), E.CAME, E.SEND)
    assert (now.state, now.question, now.busy, now.ready) == (S.ANSWERING, "a question", True, True)
    assert acts == [A.SHOW_READY, A.SHOW_QUESTION, A.SHOW_ANSWER, A.ASK]
    now, acts = walk(now, E.WORKED, E.ENDED)
    assert (now.state, now.busy, acts) == (S.READY, False, [A.SHOW_WORK, A.SHOW_END, A.REST])


def test_a_question_that_waits_is_sent_when_the_nodes_are_there() -> None:
    now, acts = walk(Situation(), E.PREPARING, E.SEND)
    assert (now.queued, now.question, now.preparing, now.busy, now.ready) == ("a question", "", "loading", True, False)
    assert acts == [A.SHOW_START, A.SHOW_QUESTION, A.SHOW_ANSWER, A.HOLD]
    now, acts = walk(now, E.CAME)
    assert (now.state, now.queued, now.question) == (S.ANSWERING, "", "a question")
    assert acts == [A.SHOW_READY, A.ASK]


def test_esc_takes_a_waiting_question_back_before_the_nodes_are_there() -> None:
    now, acts = walk(Situation(), E.SEND, E.STOP, E.CAME)
    assert (now, acts[3:]) == (Situation(S.READY), [A.TAKE_BACK, A.SHOW_READY])
    assert walk(now, E.ANSWER_AGAIN) == (now, [])  # nothing was asked


def test_esc_that_comes_after_the_nodes_stops_the_answer() -> None:
    now, acts = walk(Situation(), E.SEND, E.CAME, E.STOP)
    assert (now.state, acts[-2:]) == (S.STOPPING, [A.ASK, A.STOP])


def test_a_waiting_question_comes_back_when_the_nodes_do_not_come() -> None:
    now, acts = walk(Situation(), E.SEND, E.BROKE)
    assert (now, acts[3:]) == (Situation(S.BROKEN), [A.TAKE_BACK, A.TELL_NO_START])
    assert walk(now, E.SEND, E.ANSWER_AGAIN, E.STOP) == (now, [A.REFUSE])  # nothing was asked
    assert walk(now, E.TRY_AGAIN) == (Situation(), [A.BEGIN])


@pytest.mark.parametrize("state", [S.BROKEN, S.STARTING])
def test_what_cannot_be_asked_again_now_is_refused_with_a_word(state: WindowState) -> None:
    now = at(state)
    assert walk(now, E.ANSWER_AGAIN) == (now, [A.REFUSE])
    assert walk(replace(now, question=""), E.ANSWER_AGAIN)[1] == []


def test_a_new_chat_takes_a_waiting_question_back() -> None:
    now, acts = walk(at(S.QUEUED, kept=HEARD, unheard=True), E.NEW_CHAT)
    assert (now, acts) == (Situation(), [A.TAKE_BACK, A.CLEAR])


@pytest.mark.parametrize("events", [[E.NEW_CHAT], [E.STOP, E.NEW_CHAT], [E.NEW_CHAT, E.STOP], [E.NEW_CHAT, E.NEW_CHAT]])
def test_a_new_chat_during_an_answer_comes_when_that_has_ended(events: list[WindowEvent]) -> None:
    now, acts = walk(at(S.ANSWERING), *events)
    assert (now.state, now.then_new, {*acts}) == (S.STOPPING, True, {A.STOP})
    now, acts = walk(now, E.WORKED, E.ENDED)
    assert (now, acts) == (Situation(S.READY), [A.SHOW_WORK, A.SHOW_END, A.REST, A.FORGET, A.CLEAR])


def test_a_chat_that_was_given_up_is_forgotten_also_when_trine_has_to_stop() -> None:
    """Or the next nodes would hear what is on the screen no more."""
    now, acts = walk(at(S.ANSWERING), E.NEW_CHAT, E.BROKE)
    assert (now, acts) == (Situation(S.BROKEN), [A.STOP, A.SHOW_END, A.REST, A.CLEAR, A.TELL_END])


def test_a_new_chat_can_be_begun_while_nothing_runs() -> None:
    now, acts = walk(at(S.BROKEN, kept=HEARD, unheard=True), E.NEW_CHAT)
    assert (now, acts) == (Situation(S.BROKEN), [A.CLEAR])


@pytest.mark.parametrize("state", [S.READY, S.ANSWERING, S.STOPPING])
def test_what_was_said_outlives_the_nodes(state: WindowState) -> None:
    now, acts = walk(at(state, lost=1), E.BROKE)
    assert (now.state, now.kept, now.lost) == (S.BROKEN, HEARD, 0)
    assert acts[-1] is A.TELL_END
    assert (acts[:-1] == [A.SHOW_END, A.REST]) == (state is not S.READY)
    now, acts = walk(now, E.TRY_AGAIN)
    assert (now.kept, now.preparing, acts) == (HEARD, "starting", [A.BEGIN])
    again, acts = walk(now, E.BROKE, E.TRY_AGAIN, E.CAME)
    assert (again.kept, acts) == (HEARD, [A.TELL_NO_START, A.BEGIN, A.SHOW_READY])
    assert walk(again, E.ANSWER_AGAIN)[1] == [A.PUT_ASIDE, A.SHOW_ANSWER, A.ASK_AGAIN]


@pytest.mark.parametrize("state", [S.STARTING, S.QUEUED, S.READY, S.ANSWERING, S.STOPPING])
@pytest.mark.parametrize("last", [E.FINISHED, E.BROKE, E.OVERDUE])
def test_a_window_that_was_closed_waits_for_its_worker_once(state: WindowState, last: WindowEvent) -> None:
    now, acts = walk(at(state), E.CLOSE)
    assert (now.state, now.gone, acts) == (S.LEAVING, False, [A.LEAVE])
    assert walk(now, E.CLOSE, E.PREPARING, E.CAME, E.WORKED, E.ENDED) == (now, [])
    now, acts = walk(now, last)
    assert (now.state, now.gone, acts) == (S.GONE, True, [A.SAY_CLOSED])
    assert walk(now, E.CAME, E.ENDED, E.BROKE, E.FINISHED, E.OVERDUE) == (now, [])
    assert walk(now, E.CLOSE) == (now, [A.SAY_CLOSED])


def test_a_window_with_nothing_running_is_gone_at_once() -> None:
    now, acts = walk(at(S.BROKEN), E.CLOSE)
    assert (now.state, acts) == (S.GONE, [A.SAY_CLOSED])


def test_only_a_question_that_is_sent_leaves_the_one_before_it_out() -> None:
    unheard, _ = walk(at(S.ANSWERING), failed(ProtocolError("busy")))
    assert unheard.unheard
    now, acts = walk(unheard, E.SEND)
    assert (now.unheard, acts) == (False, [A.SHOW_QUESTION, A.LEAVE_OUT, A.SHOW_ANSWER, A.ASK])
    now, acts = walk(unheard, E.BROKE, E.TRY_AGAIN, E.SEND, E.STOP)
    assert now.unheard
    assert A.LEAVE_OUT not in acts
    now, acts = walk(now, E.SEND, E.CAME)
    assert (now.unheard, acts[-3:]) == (False, [A.SHOW_READY, A.LEAVE_OUT, A.ASK])


@pytest.mark.parametrize("stands", Stands)
def test_a_question_is_unheard_if_nothing_stands(stands: Stands) -> None:
    now, _ = walk(at(S.ANSWERING), failed(ProtocolError("busy"), stands))
    assert now.unheard == (stands is Stands.NOTHING)
    now, _ = walk(at(S.ANSWERING), (E.BROKE, Given(stands=stands)))
    assert now.unheard == (stands is Stands.NOTHING)


@pytest.mark.parametrize("then_new", [False, True])
def test_a_question_that_was_refused_comes_back(then_new: bool) -> None:
    now, acts = walk(at(S.STOPPING, then_new=then_new), failed(InputError("too long")))
    assert acts[:3] == [A.SHOW_END, A.GIVE_BACK, A.REST]
    assert (now.question, now.unheard) == (("", False) if then_new else ("asked", True))
    assert A.GIVE_BACK not in walk(at(S.ANSWERING), failed(InputError("too long"), Stands.FORMER))[1]


def test_lost_nodes_are_counted_in_a_row() -> None:
    lost, away = at(S.ANSWERING), failed(LinkError("gone", "node 1"))
    for count in (1, 2, 3):
        lost, _ = walk(lost, away, E.SEND)
        assert lost.lost == count
    assert walk(lost, E.ENDED)[0].lost == 0
    assert walk(lost, failed(ProtocolError("busy")))[0].lost == 0


def test_what_the_worker_says_comes_with_its_event() -> None:
    with pytest.raises(ValueError, match="without an end"):
        after(at(S.ANSWERING), E.ENDED)
    with pytest.raises(ValueError, match="nothing was said"):
        after(at(S.ANSWERING), E.WORKED)


def test_what_people_wrote_is_in_no_repr() -> None:
    now = Situation(queued="secret", question="secret", kept=(Message(Role.USER, "secret"),))
    what = Given("secret", end=Failed(InputError("secret")), messages=[*now.kept])
    assert "secret" not in f"{now!r} {what!r}"


@given(st.lists(st.sampled_from([event for event in E if event is not E.OVERDUE]), max_size=40))
def test_no_order_of_events_leaves_the_window_in_two_minds(events: list[WindowEvent]) -> None:
    """What the acts build up is what the state says: an answer grows, a worker runs, a question waits."""
    now, grows, runs, closed = Situation(), False, True, False
    for event in events:
        try:
            now, acts = walk(now, event)
        except ValueError:
            assert event not in BY_USER
            continue
        for act in acts:
            assert runs or act not in (A.ASK, A.ASK_AGAIN, A.STOP, A.FORGET, A.LEAVE)
            assert grows or act not in (A.SHOW_WORK, A.SHOW_END, A.SHOW_END, A.GIVE_BACK, A.REST, A.TAKE_BACK, A.HOLD, A.ASK)
            grows = act is A.SHOW_ANSWER or (grows and act not in (A.REST, A.TAKE_BACK))
            runs = act is A.BEGIN or (runs and act not in (A.TELL_NO_START, A.TELL_END, A.SAY_CLOSED))
            closed = closed or act is A.SAY_CLOSED
        assert grows == now.busy or now.state in (S.LEAVING, S.GONE)
        assert runs == (now.state not in (S.BROKEN, S.GONE))
        assert closed == (now.state is S.GONE)
        assert bool(now.queued) == (now.state is S.QUEUED) or now.state in (S.LEAVING, S.GONE)
        assert not now.then_new or now.state in (S.STOPPING, S.LEAVING, S.GONE)
