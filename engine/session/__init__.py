"""The states of a chat session on both sides, without I/O."""
