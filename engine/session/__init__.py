"""The states of a chat session on both sides, without I/O."""

from engine.session.client import ClientEvent, ClientSession, Discarded
from engine.session.hello import Hello, PeerError, PeerHello, Welcome
from engine.session.ledger import MAX_BLOCK_ROWS
from engine.session.machine import State
from engine.session.messages import (
    Block,
    Bye,
    Material,
    Progress,
    Ready,
    Rewind,
    Stop,
    Stopped,
    answer_digest,
    compare,
    max_answers,
)
from engine.session.node import NodeEvent, NodeSession
from engine.session.peer import PeerSession, session_of
from engine.session.terms import Terms

__all__ = [
    "MAX_BLOCK_ROWS",
    "Block",
    "Bye",
    "ClientEvent",
    "ClientSession",
    "Discarded",
    "Hello",
    "Material",
    "NodeEvent",
    "NodeSession",
    "PeerError",
    "PeerHello",
    "PeerSession",
    "Progress",
    "Ready",
    "Rewind",
    "State",
    "Stop",
    "Stopped",
    "Terms",
    "Welcome",
    "answer_digest",
    "compare",
    "max_answers",
    "session_of",
]
