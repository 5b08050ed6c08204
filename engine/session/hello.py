"""What the parties tell each other before any share: HELLO, WELCOME, PEER_HELLO, and ERROR.

Rule 1. Both sides name everything that must be equal, and each difference has a code of its own.
Rule 2. A text from outside is read strictly: unknown, missing or ill-typed fields are refused, and
        the refusal does not repeat them.
Rule 3. No representation shows a seed or a nonce.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import CODES, ProtocolError
from engine.link.frames import Data

PROTOCOL = 3
ERROR_BYTES = 1 << 10

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32,128}$")]
Role = Annotated[int, Field(ge=1, le=2)]
Epoch = Annotated[int, Field(ge=0, lt=1 << 63)]
Bytes = Annotated[int, Field(ge=0, lt=1 << 63)]
Length = Annotated[int, Field(ge=1, lt=1 << 32)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class _JsonMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    def encode(self) -> bytes:
        """The payload of a frame."""
        return self.model_dump_json().encode()

    @classmethod
    def parse(cls, payload: Data) -> Self:
        """From a payload; ProtocolError malformed."""
        try:
            return cls.model_validate_json(bytes(payload))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"] if part in cls.model_fields)
            text = f"{cls.__name__} {where}: {first['type']}"
        raise ProtocolError("malformed", text)  # outside, so that no cause carries the input


class _Version(_JsonMessage):
    model_config = ConfigDict(extra="ignore")

    protocol: int


class _Greeting(_JsonMessage):
    protocol: int = PROTOCOL

    @classmethod
    def parse(cls, payload: Data) -> Self:
        """From a payload; ProtocolError wrong-protocol or malformed."""
        version = _Version.parse(payload).protocol
        if version != PROTOCOL:
            raise ProtocolError("wrong-protocol", f"{version}, not {PROTOCOL}")
        return super().parse(payload)


class Hello(_Greeting):
    """HELLO, client to node; `prefix` is how many public prefix tokens are used (1 or all)."""

    program: Digest
    pack: Digest
    role: Role
    epoch: Epoch
    start_id: Hex32
    nonce: Hex64 = Field(repr=False)
    seed: Hex64 = Field(repr=False)
    prefix: Length
    queue_bytes: Bytes
    context: Length


class Welcome(_Greeting):
    """WELCOME, node to client; `queue_bytes` is what the node agrees to hold of prepared rows, at most what was asked."""

    program: Digest
    pack: Digest
    role: Role
    start_id: Hex32
    nonce: Hex64 = Field(repr=False)
    queue_bytes: Bytes
    context: Length
    peer_fingerprint: Hex64


class PeerHello(_Greeting):
    """PEER_HELLO, both ways between the nodes; `start_id` is the client's, as HELLO named it, and `client` the fingerprint of
    the certificate with which it called this node.
    """

    program: Digest
    model: Digest
    session: Hex32
    epoch: Epoch
    role: Role
    start_id: Hex32
    client: Hex64


class _Error(_JsonMessage):
    code: Annotated[str, Field(max_length=64)]
    text: Annotated[str, Field(max_length=ERROR_BYTES)]
    retry_after: Seconds | None = None


@dataclass(frozen=True, slots=True)
class PeerError:
    """ERROR: the other side gives up, `code` being one of `engine.errors.CODES`; `retry_after` is in seconds."""

    code: str
    text: str
    retry_after: float | None = None

    @classmethod
    def parse(cls, payload: Data) -> PeerError:
        """From a payload; ProtocolError malformed. The text is cut to what may be shown."""
        if len(payload) > ERROR_BYTES:
            raise ProtocolError("malformed", "an ERROR that is too long")
        read = _Error.parse(payload)
        text = "".join(letter for letter in read.text if letter.isprintable())
        return cls(read.code if read.code in CODES else "unknown-code", text, read.retry_after)

    def encode(self) -> bytes:
        """The payload, at most `ERROR_BYTES` long."""
        # A letter takes at most 6 bytes as JSON, so that this many always fit.
        text = self.text[: (ERROR_BYTES - 100) // 6].encode(errors="replace").decode()
        return _Error(code=self.code, text=text, retry_after=self.retry_after).model_dump_json(exclude_none=True).encode()

    def error(self) -> ProtocolError:
        """The exception for whoever has to give up, too."""
        return ProtocolError(self.code, self.text, self.retry_after)
