"""The link between the two nodes, without I/O: one greeting each, then one message a round.

Rule 1. Both say the same about program, model, session, epoch, the client's certificate and its start, and have the
        two different roles; each difference has its own code. So nobody joins another client's session at one node,
        and the refusal does not tell a caller who the other client is.
Rule 2. A round is a flag byte and exactly as many bytes as this side sent. Both stop after the round in
        which either flag was set; a flagged round carries nothing else, so that a node which has
        nothing to say any more (its material was discarded) can still end the other's wait.
Rule 3. Exactly one message each way a round, so both sides always agree on which round it is.
"""

from __future__ import annotations

from engine.errors import ProtocolError
from engine.link.frames import Data, FrameReader, FrameType, FrameWriter, decode
from engine.session.hello import PeerHello

_GO, _STOP = b"\0", b"\1"


def session_of(data: Data) -> bytes:
    """The session (16 bytes) that a node's first message names, before it is given to that session.

    Raises ProtocolError out-of-place for another message than PEER_HELLO, and what `decode` raises.
    """
    frame = decode(data)
    if frame.type is not FrameType.PEER_HELLO:
        raise ProtocolError("out-of-place", f"{frame.type.name} in place of PEER_HELLO")
    return frame.session


class PeerSession:
    """One node's view of the link to the other one, used by one thread at a time.

    `rounds` and `bytes_sent` count the rounds and the bytes of their messages since the beginning.
    """

    def __init__(self, session: bytes, *, program: str, model: str, epoch: int, role: int, start_id: str, client: str) -> None:
        """`client` is the fingerprint of the certificate at the other end of the client's link."""
        self.rounds = self.bytes_sent = 0
        self._own = PeerHello(
            program=program,
            model=model,
            session=session.hex(),
            epoch=epoch,
            role=role,
            start_id=start_id,
            client=client,
        )
        self._reader, self._writer = FrameReader(session), FrameWriter(session)
        self._greeted = False

    def send_hello(self) -> bytes:
        """PEER_HELLO, the first message of either side."""
        if self._writer.sequence:
            raise ValueError("PEER_HELLO comes first")
        return self._writer.write(FrameType.PEER_HELLO, self._own.encode())

    def receive_hello(self, data: Data) -> PeerHello:
        """Check the other node's PEER_HELLO; ProtocolError wrong-… with what differs."""
        theirs, own = PeerHello.parse(self._reader.payload(data, FrameType.PEER_HELLO)), self._own
        for code, said, expected in (
            ("wrong-program", theirs.program, own.program),
            ("wrong-model", theirs.model, own.model),
            ("wrong-session", theirs.session, own.session),
            ("wrong-epoch", theirs.epoch, own.epoch),
            ("wrong-role", theirs.role, 3 - own.role),
            ("wrong-start", theirs.start_id, own.start_id),
        ):
            if said != expected:
                raise ProtocolError(code, f"the other node says {said}, not {expected}")
        if theirs.client != own.client:
            raise ProtocolError("wrong-client", "the session's client has another certificate at the other node")
        self._greeted = True
        return theirs

    def send_round(self, data: Data, *, stop: bool = False) -> bytes:
        """ROUND: this side's message, or the word that this round is the last (`data` stays here)."""
        if not self._greeted:
            raise ValueError("ROUND comes after both PEER_HELLOs")
        frame = self._writer.write(FrameType.ROUND, *((_STOP,) if stop else (_GO, data)))
        self.bytes_sent += len(frame)
        self.rounds += 1
        return frame

    def receive_round(self, data: Data, length: int) -> memoryview | None:
        """The other node's `length` bytes of this round, a view; None if it stops after this round.

        Raises ProtocolError wrong-length, out-of-range for another flag, out-of-place.
        """
        if not self._greeted:
            raise ValueError("ROUND comes after both PEER_HELLOs")
        payload = self._reader.payload(data, FrameType.ROUND)
        flag, rest = payload[0] if payload else None, payload[1:]
        if flag not in (_GO[0], _STOP[0]):
            raise ProtocolError("out-of-range", "the flag of a ROUND")
        stop = flag == _STOP[0]
        if len(rest) != (0 if stop else length):
            raise ProtocolError("wrong-length", f"ROUND with {len(rest)} bytes, not {length}")
        return None if stop else rest

    def receive_last(self, data: Data) -> None:
        """The other node's part of the round in which this side said stop: of any length, and of no use any more."""
        if not self._greeted:
            raise ValueError("ROUND comes after both PEER_HELLOs")
        self._reader.payload(data, FrameType.ROUND)
