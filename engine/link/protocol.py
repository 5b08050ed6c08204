"""One side of a link behind its handshake, without I/O: bytes and the time go in, whole messages and bytes come out.

Below it are `websockets`' own protocol, for all that is not a message or is wrong, the fast path around that
(`FrameSplitter`) and the signs of life (`Keepalive`). `engine.link.Connection` puts a TLS socket around it.

Rule 1. A message is one unfragmented binary frame. Text and fragments have no place here.
Rule 2. The first failure stays in `error`, and nothing is read behind it. What came before it stays in `messages`, for it may
        say why; so does what is still to be sent, such as a complaint or the answer to a close.
Rule 3. Pings and pongs are cheap to send and dear to read: beyond an allowance they are a failure. So are TLS records without
        data, of which nobody needs many.
Rule 4. Only a message, a ping or a pong shows that the peer lives; see `Keepalive`.
Rule 5. There is no clock here. `now` is the time in seconds of one clock that never goes back.
Rule 6. Neither an error nor a representation shows a byte of a message.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Side
from websockets.server import ServerProtocol

from engine.errors import LinkError, ProtocolError, TrineError
from engine.link.allowance import Allowance
from engine.link.binary_frames import FrameSplitter, binary_frame
from engine.link.frames import MAX_MESSAGE, Data
from engine.link.keepalive import FLOOR_BYTES, PATIENCE_SECONDS, PING_SECONDS, Due, Keepalive

MUTE = logging.Logger("engine.link", logging.CRITICAL + 1)
"""For `websockets`, whose debug log shows what frames hold."""

_CONTROLS_AT_ONCE, _CONTROLS_A_SECOND = 24, 4.0  # honest parties ping once a second, and answer as often
EMPTY_RECORDS = 1000  # in a row: a record comes in fewer packets than that

WebSocket = ClientProtocol | ServerProtocol
"""The library's own protocol, without I/O, of either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """What a link takes, and for how long it bears silence.

    Attributes:
        max_size: the longest message taken, in bytes.
        first_size: the longest first message; None for `max_size`.
        ping_interval: seconds of silence after which the peer is pinged; None: only the callers' timeouts end a wait.
        ping_timeout: seconds after that ping in which it has to show that it lives.
    """

    max_size: int = MAX_MESSAGE
    first_size: int | None = None
    ping_interval: float | None = PING_SECONDS
    ping_timeout: float = PATIENCE_SECONDS

    @property
    def first_limit(self) -> int:
        """The longest first message, in bytes."""
        return self.max_size if self.first_size is None else self.first_size


class LinkProtocol:
    """The state of one side of a link from the end of the handshake on.

    The caller
    - lets one thread at a time in (`send_message` keeps no state, so it is open to any);
    - gives all bytes that come, in their order, to `receive_data`, an end to `receive_eof`, and says with `receive_nothing`
      that a read brought no data, each until `error` is set;
    - takes messages from the left of `messages`;
    - after each other call sends what `data_to_send` gives if `has_data_to_send`, and ends the link if there is an `error`;
    - sends the bytes of `send_message` and of `data_to_send` in the order in which it got them, and tells `keepalive` when
      some have left (`said`), and when the peer made room for them (`heard`);
    - calls `look` at `keepalive.next_look()` at the latest.
    """

    def __init__(self, websocket: WebSocket, options: LinkOptions, now: float) -> None:
        """Take over from the handshake: `websocket` has done it, and has been given nothing that came behind it."""
        self.messages: deque[bytes] = deque()
        self.error: TrineError | None = None
        self.has_data_to_send = False
        self.keepalive = Keepalive(options.ping_interval, options.ping_timeout, now)
        self._websocket = websocket
        self._masks = websocket.side is Side.CLIENT
        self._max_size = options.max_size
        self._splitter = FrameSplitter(masked=not self._masks, limit=options.first_limit)
        self._controls = Allowance(_CONTROLS_AT_ONCE, _CONTROLS_A_SECOND, now)
        self._empty = 0

    # What came in

    def receive_data(self, data: memoryview, now: float) -> None:
        """Bytes came, at least one; nothing of `data` is kept."""
        self._empty = 0
        whole = False
        for piece in self._splitter.split(data):
            if isinstance(piece, bytes):
                self.messages.append(piece)
                self._splitter.limit = self._max_size  # the first message is over
                whole = True
            else:
                whole |= self._hear(piece, now)
                if self.error is not None:
                    return
        if whole:
            self.keepalive.heard(now)
        else:
            self.keepalive.trickled(len(data), now)

    def receive_nothing(self) -> None:
        """There was something to read, but no data: a TLS record without any, or a part of one."""
        self._empty += 1
        if self._empty > EMPTY_RECORDS:
            self._fail(ProtocolError("malformed", "records without data"))

    def receive_eof(self) -> None:
        """The other side sends nothing any more."""
        self._fail(LinkError("the other side hung up"))

    # What goes out

    def send_message(self, data: Data) -> bytes:
        """The frame of a message, to be sent."""
        return binary_frame(data, masked=self._masks)

    def send_close(self) -> None:
        """Begin to close the link in good order."""
        self._websocket.send_close(CloseCode.NORMAL_CLOSURE)
        self.has_data_to_send = True

    def data_to_send(self) -> bytes:
        """What this side has to say beside messages: pings, pongs, the close. Empties itself."""
        self.has_data_to_send = False
        return b"".join(self._websocket.data_to_send())

    # Time

    def look(self, now: float, late: float, *, all_sent: bool) -> None:
        """Say that this side lives, ask whether the peer does, or give it up, as it is due.

        The caller woke `late` by so many seconds. `all_sent`: no bytes wait to leave; else those are the sign of life.
        """
        due = self.keepalive.due(now, late)
        if due is Due.NOTHING:
            return
        if due is Due.SLOW:
            self._fail(LinkError(f"the line is too slow: less than {FLOOR_BYTES >> 10} kB a second came"))
        elif due is Due.SILENT:
            self._fail(LinkError(f"no sign of life for {self.keepalive.silence(now):.0f} s"))
        elif all_sent:
            self._websocket.send_ping(b"") if due is Due.PING else self._websocket.send_pong(b"")
            self.has_data_to_send = True

    # Inside

    def _hear(self, data: memoryview, now: float) -> bool:
        """Let the library judge a control frame, or all from something else on; whether it made anything of that."""
        self._websocket.max_message_size = self._splitter.limit
        # A view does where bytes are asked for: the library appends it to its own buffer.
        self._websocket.receive_data(cast(bytes, data))
        self.has_data_to_send = True  # perhaps: a pong, the answer to a close, the complaint about an error
        events = self._websocket.events_received()
        for frame in [event for event in events if isinstance(event, Frame)]:
            self._sort(frame, now)
        if (broken := self._websocket.parser_exc) is not None:
            code = "oversized" if isinstance(broken, PayloadTooBig) else "malformed"
            self._fail(ProtocolError(code, f"websocket: {broken}"))
        return bool(events)

    def _sort(self, frame: Frame, now: float) -> None:
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            if not self._controls.spend(now):
                self._fail(ProtocolError("malformed", "pings and pongs without end"))
        elif frame.opcode is Opcode.CLOSE:
            self._fail(LinkError("the other side closed the connection"))
        else:  # a whole binary one has been cut out before
            self._fail(ProtocolError("malformed", f"a {frame.opcode.name} frame"))

    def _fail(self, error: TrineError) -> None:
        if self.error is None:
            self.error = error
