"""Bytes between the parties: message framing (no I/O) and one websocket over TLS a link."""

from engine.link.connection import Connection
from engine.link.frames import (
    BULK_LIMIT,
    LIMITS,
    MAX_MESSAGE,
    Data,
    Frame,
    FrameReader,
    FrameType,
    FrameWriter,
    decode,
    encode,
)
from engine.link.handshake import accept, connect
from engine.link.link import Link
from engine.link.memory import MemoryConnection, pair
from engine.link.protocol import LinkOptions
from engine.link.tls import Identity, Tls, client_tls, load_identity, make_identity, server_tls, unnamed_file

__all__ = [
    "BULK_LIMIT",
    "Connection",
    "Data",
    "Frame",
    "FrameReader",
    "FrameType",
    "FrameWriter",
    "Identity",
    "LIMITS",
    "Link",
    "LinkOptions",
    "MAX_MESSAGE",
    "MemoryConnection",
    "Tls",
    "accept",
    "client_tls",
    "connect",
    "decode",
    "encode",
    "load_identity",
    "make_identity",
    "pair",
    "server_tls",
    "unnamed_file",
]
