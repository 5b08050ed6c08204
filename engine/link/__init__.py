"""Bytes between the parties: message framing (no I/O) and one websocket over TLS a link."""
