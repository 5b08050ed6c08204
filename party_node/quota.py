"""How many rows each client had answered today, over restarts: it slows down who copies a model from its answers.

Rule 1. The file is never behind: rows are written as used before they are answered, some ahead of time. A restart may cost a
        client those, and gives it nothing.
Rule 2. A day is UTC's. A clock that is set back begins no new day: the counts go on until a later one begins.
Rule 3. Nothing about the file ends a session or the node. What cannot be read is put aside, what cannot be written stays in
        memory until it can be, and the log says both: no client is uncounted in silence.
Rule 4. The file has one entry a certificate, the node's user alone may read it, and it is replaced as a whole.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import ProtocolError
from party_node.log import Log

_AHEAD = 100  # rows that are written as used before they are
_MAX_BYTES = 1 << 20
_MAX_CLIENTS = 10_000
_SAY_AGAIN_SECONDS = 60.0

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class _QuotaFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    day: date
    rows: Annotated[dict[Fingerprint, Count], Field(max_length=_MAX_CLIENTS)]


def _now() -> datetime:
    return datetime.now(UTC)


class Quota:
    """Thread-safe; `limit` rows a certificate and day (0: any number, and nothing is kept), in `path` (None: in memory)."""

    def __init__(
        self, limit: int, path: Path | None = None, log: Log | None = None, now: Callable[[], datetime] = _now
    ) -> None:
        self._limit, self._path, self._log, self._now = limit, path, log, now
        self._lock = Lock()
        self._day = now().date()
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._silent_until = 0.0
        if limit and path is not None:
            self._load(path)

    def check(self, client: str) -> None:
        """ProtocolError row-limit if nothing is left for this certificate today."""
        self.spend(client, 0)

    def spend(self, client: str, rows: int) -> None:
        """Count rows that are about to be answered; ProtocolError row-limit if they are too many, and then none is counted."""
        if not self._limit:
            return
        with self._lock:
            self._turn()
            used = self._used.get(client, 0) + rows
            if used > self._limit or (not rows and used == self._limit):
                raise ProtocolError("row-limit", self._refusal())
            self._used[client] = used
            if used > self._written.get(client, 0):
                self._write(client, used)

    def _turn(self) -> None:
        """Begin a new day if it has come."""
        today = self._now().date()
        if today > self._day:
            self._used.clear()
            self._written.clear()
        self._day = today

    def _refusal(self) -> str:
        again = datetime.combine(self._day + timedelta(days=1), datetime.min.time(), UTC)
        return f"{self._limit:,} rows a day, which are used; the next ones from {again:%Y-%m-%d %H:%M} UTC on"

    # The file

    def _load(self, path: Path) -> None:
        try:
            kept = _QuotaFile.model_validate_json(_read(path))
        except FileNotFoundError:
            return
        except (OSError, ValueError, ValidationError) as error:
            self._put_aside(path, error)
            return
        if kept.day >= self._day:  # one of a later day: the clock was set back
            self._used, self._written = dict(kept.rows), dict(kept.rows)

    def _put_aside(self, path: Path, error: Exception) -> None:
        """What is there may be worth a look; it must not be in the way."""
        with suppress(OSError):
            os.replace(path, path.with_name(f"{path.name}.damaged"))
        why = (error.strerror or "cannot be read") if isinstance(error, OSError) else "is damaged"
        self._say("row counts lost", why=why)

    def _write(self, client: str, used: int) -> None:
        if self._path is None:
            return
        known = {name: max(rows, self._written.get(name, 0)) for name, rows in self._used.items()}  # what failed before, too
        ahead = self._written | known | {client: min(used + _AHEAD, self._limit)}
        try:
            _replace(self._path, _QuotaFile(day=self._day, rows=ahead).model_dump_json().encode())
        except OSError as error:
            self._say("row counts not written", why=error.strerror or "no reason given")
        else:
            self._written = ahead

    def _say(self, event: str, why: str) -> None:
        if self._log is not None and time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SAY_AGAIN_SECONDS
            self._log.error(event, why=why, path=str(self._path))


def state_directory() -> Path:
    """Where a service keeps its state: what systemd gives it, else the user's."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    from platformdirs import user_state_path

    return user_state_path("trine-node")


def _read(path: Path) -> bytes:
    """A plain file of bounded size, nothing else; ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("no plain file")
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError("too long")
    return data


def _replace(path: Path, data: bytes) -> None:
    """Write it whole beside the old one, then put it in its place."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
