"""Messages cross on the way: whatever the order, both sides agree and neither accuses the other."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.session import Discarded, State

MOVES = ("block", "material", "step", "stop", "rewind", "progress", "answer", "stopped", "late", "to node", "to client")


class Wire:
    """Both sides and what is on its way between them; a move that has no place now is passed over."""

    def __init__(self, talk: Any, make_step: Any) -> None:
        self.talk, self.make_step = talk, make_step
        self.client, self.node = talk.client, talk.node
        self.to_node: deque[bytes] = deque()
        self.to_client: deque[bytes] = deque()
        self.row, self.section, self.dealing = 4, 1, 1

    def move(self, name: str, number: int) -> None:
        if name == "to node" and self.to_node:
            self.node.receive(self.to_node.popleft())
        elif name == "to client" and self.to_client:
            self.client.receive(self.to_client.popleft())
        elif not name.startswith("to "):
            try:
                self.say(name, number)
            except (ValueError, Discarded):
                return

    def say(self, name: str, number: int) -> None:
        client, node = self.client, self.node
        if name == "block":
            self.to_node.append(client.send_block(self.row, 1 + number, client.rows.book.dealt_position))
            self.row += 1 + number
        elif name == "material":
            block = next((b for b in client.rows.book.blocks if b.load.sections < 2), None)
            if block is not None:
                section = block.load.sections
                self.to_node.append(client.send_material(block.rows.first, section, bytes(10 + section), 10 + section))
        elif name == "step":
            row = client.rows.book.last_spent + 1
            self.to_node.append(client.send_step(self.make_step(row, client.position, 1 + number)))
        elif name == "stop":
            self.to_node.append(client.send_stop())
        elif name == "rewind":
            self.to_node.append(client.send_rewind(4 + number))
        elif name == "progress":
            self.to_client.append(node.send_progress(0, number % 2))
        elif name == "answer":
            self.to_client.append(node.send_answer(self.talk.answer()))
        elif name == "stopped":
            self.to_client.append(node.send_stopped())
        elif (stopped := node.send_stopped_if_late()) is not None:
            self.to_client.append(stopped)

    def settle(self) -> None:
        """Let everything arrive and every step end."""
        while self.to_node or self.to_client or self.node.state is not State.IDLE:
            for name in ("material", "to node", "answer", "stopped", "to client"):
                self.move(name, 0)


@given(moves=st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 3)), max_size=60))
def test_both_sides_agree_in_the_end(make_talk: Any, step: Any, moves: list[tuple[str, int]]) -> None:
    wire = Wire(make_talk(2).at(State.IDLE), step)
    for name, number in moves:
        wire.move(name, number)
        assert wire.client.queued_bytes <= 100
        assert wire.node.queued_bytes <= 100
    wire.settle()
    client, node = wire.client, wire.node
    assert client.state is node.state is State.IDLE
    assert client.position == node.position
    assert client.queued_rows == node.queued_rows
    assert client.queued_bytes == node.queued_bytes
    assert client.rows.book.dealt_position == node.rows.book.dealt_position
    assert client.rows.book.last_spent == node.rows.book.last_spent
