"""The local party: the dealer and the client of a session, with its links to both nodes."""

from app.local_party.conversation import QUEUE_BYTES, Conversation, Status
from app.local_party.endpoints import Endpoint, Endpoints
from app.local_party.figures import Phase, Progress, Statistics

__all__ = ["QUEUE_BYTES", "Conversation", "Endpoint", "Endpoints", "Phase", "Progress", "Statistics", "Status"]
