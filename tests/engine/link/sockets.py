"""What the tests see of a link beneath TLS, and do to it there; and the frames of a client by hand."""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import struct
import sys
import termios

from websockets.frames import Frame, Opcode

from engine.link import Connection


def masked(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """A client's frame, as the library makes it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def unread(connection: Connection) -> int:
    """The bytes that an end has not read yet from its kernel."""
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def send_beneath_tls(end: ssl.SSLSocket | Connection, data: bytes) -> None:
    """Send bytes that nobody encrypts."""
    with socket.socket(fileno=os.dup(end.fileno())) as plain:
        plain.sendall(data)


def garble(end: ssl.SSLSocket | Connection) -> None:
    """Send a TLS record that nobody encrypted."""
    send_beneath_tls(end, b"\x17\x03\x03\x00\x20" + bytes(32))


def reset(sock: ssl.SSLSocket) -> None:
    """End a connection without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
