"""The gates of the protocol: one file a gate, both sides of it in that file."""
