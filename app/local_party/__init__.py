"""The local party: the dealer and the client of a session, with its links to both nodes."""

from app.local_party.conversation import QUEUE_BYTES, NodeConversation, Status
from app.local_party.endpoints import Endpoint, Endpoints
from app.local_party.figures import Phase, PromptProgress, Statistics

__all__ = ["QUEUE_BYTES", "NodeConversation", "Endpoint", "Endpoints", "Phase", "PromptProgress", "Statistics", "Status"]
