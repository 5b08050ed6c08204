"""One session at a node: four threads between the client's link, the evaluator and the other node's link.

    reader     (the connection's own thread)  hears the client, always ready to answer its pings
    preparer                                  prepares dealt material ahead of time, in order
    stepper                                   pairs up with the other node, then computes steps; owns that link
    watcher                                   shows the other node each second that this one lives, and looks whether that does

Rule 1. The reader never waits for a computation, so STOP, a lost client and pings are noticed at once.
Rule 2. The first failure of any thread ends the session: the client is told its code, all threads end, and
        everything they held is given back. The node goes on.
Rule 3. What a client may make the node hold is bounded, at the first evaluator too: it receives little and makes its products.
        A block is booked with all that before anything of it is taken (engine/session/ledger.py), and what is discarded
        goes at once, what waits to be prepared included.
Rule 4. Small messages are cheap to send and dear to hear: beyond an allowance they wait in the client's line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

import numpy as np

from engine.errors import LinkError, ProtocolError, SessionStopped, TrineError
from engine.host.process import long_lived, trim, work_ahead
from engine.link.allowance import Allowance
from engine.link.link import Link
from engine.parties.evaluator import Evaluator
from engine.session import Block, Bye, Hello, Material, NodeSession, PeerError, PeerSession, Rewind, Stop
from engine.step import Step
from party_node.log import Log, place
from party_node.node import Node
from party_node.places import Place
from party_node.rounds import PeerLink

_STUCK_SECONDS = 2.0
_COMPLAIN_SECONDS = 1.0
_SMALL_BYTES = 4096  # an honest client's pieces of material are larger, but for each section's last one

Job = tuple[int, int, memoryview]
"""A section to prepare: first row, section, material."""


class ServedSession:
    """A client's session from its first message to the last; `run` returns when everything is given back."""

    def __init__(self, node: Node, link: Link, log: Log) -> None:
        self._node, self._link, self._log = node, link, log
        self._session = NodeSession(node.terms(), self._section_bytes)
        self._sending = Lock()  # messages leave in the order in which the session made them
        self._failing = Lock()
        self._over = Event()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._steps: SimpleQueue[Step | None] = SimpleQueue()
        self._called: SimpleQueue[Link | ProtocolError | None] = SimpleQueue()
        self._held: Place | None = None
        self._place: tuple[int, int] | None = None  # the section that comes in pieces: first row, number
        self._section, self._collected = long_lived(0), 0  # and what came of it
        self._watching = Thread(target=self._guarded, args=(self._watch,), name="trine-watch", daemon=True)
        self._evaluator: Evaluator | None = None
        self._peer: PeerLink | None = None
        a_second = node.limits.small_messages
        self._small = Allowance(a_second, a_second, time.monotonic())
        self._rows = 0
        self._began = time.monotonic()

    @property
    def has_place(self) -> bool:
        """Whether it has one of the node's places, as from HELLO to its end."""
        return self._evaluator is not None

    def run(self) -> None:
        """Serve; never raises. To be called in the thread that accepted the link."""
        try:
            hello = self._session.receive(self._link.receive(self._node.limits.handshake_seconds))
            if isinstance(hello, Hello):
                self._node.spend(self._link.peer_fingerprint, 0)
                with self._node.places.take(self._session.session or b"", self._link.peer_fingerprint, self._give_way) as place:
                    self._serve(hello, place)
        except Exception as error:  # whatever it was, the node goes on
            self._fail(error)
        finally:
            self._link.close()
            trim(pages=True)

    def _serve(self, hello: Hello, place: Place) -> None:
        self._held = place
        self._log = self._log.bind(session=(self._session.session or b"").hex()[:8])
        self._log.info("session opened", context=hello.context, prefix=hello.prefix)
        key = self._session.key("streams")
        self._evaluator = Evaluator(self._node.pack, key, prefix=hello.prefix, context=hello.context)
        threads = [Thread(target=self._guarded, args=(work,), daemon=True) for work in (self._prepare, self._compute)]
        try:
            self._say(self._session.send_welcome)
            for thread in threads:
                thread.start()
            self._read(self._evaluator)
        except Exception as error:  # whatever it was, the threads must end
            self._fail(error)
        finally:
            self._end(self._evaluator, threads)

    # The reader

    def _read(self, evaluator: Evaluator) -> None:
        while True:
            event = self._session.receive(self._hear())
            if isinstance(event, Block):
                evaluator.announce(event.first_row, event.count, event.first_position)
            elif isinstance(event, Material):
                self._collect(event)
            elif isinstance(event, Step):
                self._begin(event)
            elif isinstance(event, Rewind):
                evaluator.rewind(event.position)
                self._forget()
            elif isinstance(event, Stop):
                self._stop(evaluator)
            elif isinstance(event, PeerError):
                self._log.info("client gave up", code=event.code)
                return
            elif isinstance(event, Bye):
                return

    def _hear(self) -> bytes | bytearray:
        """The client's next message, later if it sends small ones without end: other sessions need the interpreter, too."""
        data = self._link.receive()
        while len(data) < _SMALL_BYTES and not self._small.spend(time.monotonic()):
            if self._over.wait(1 / self._node.limits.small_messages):
                break
        return data

    def _collect(self, piece: Material) -> None:
        """Put a section's pieces together. Another section's first piece means that the one before was discarded."""
        place = (piece.first_row, piece.section)
        if place != self._place:
            self._place, self._collected = place, 0
            self._section = long_lived(self._section_bytes(*place))
        end = self._collected + len(piece.data)
        self._section[self._collected : end] = np.frombuffer(piece.data, np.uint8)
        self._collected = end
        if end == self._section.size:
            self._jobs.put((*place, self._section.data))
            self._place = None

    def _begin(self, step: Step) -> None:
        self._node.spend(self._link.peer_fingerprint, step.answers)
        if self._peer is not None:
            self._peer.stop.clear()
        self._steps.put(step)

    def _stop(self, evaluator: Evaluator) -> None:
        if self._peer is not None:
            self._peer.stop.set()
        evaluator.discard()
        self._forget()
        self._say(self._session.send_stopped_if_late)

    def _forget(self) -> None:
        """Material of discarded rows that came in part, or waits for the preparer."""
        self._place, self._section = None, long_lived(0)
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()

    def _section_bytes(self, first_row: int, section: int) -> int:
        try:
            return self._running().section_bytes(first_row, section)
        except ValueError as error:  # a step has used the block without this section
            raise ProtocolError("not-dealt", f"no material is due for row {first_row}") from error

    # The preparer

    def _prepare(self) -> None:
        work_ahead()
        evaluator = self._running()
        while (job := self._jobs.get()) is not None and not self._over.is_set():
            evaluator.give_way()
            evaluator.prepare(*job)

    # The stepper

    def _compute(self) -> None:
        peer = self._join()
        if peer is None:
            return
        self._watching.start()
        self._use(Place.meet)
        self._say(self._session.send_ready)
        while (step := self._steps.get()) is not None and not self._over.is_set():
            self._step(self._running(), peer, step)

    def _watch(self) -> None:
        if self._peer is not None:
            self._peer.watch(self._node.limits.peer_silence_seconds, self._over)

    def _join(self) -> PeerLink | None:
        """The link to the other node's half of this session, once both have greeted; None if this one is over before."""
        node, hello, session = self._node, self._session.hello, self._session.session
        if hello is None or session is None:
            raise RuntimeError("HELLO comes first")
        peer = PeerSession(
            session,
            program=hello.program,
            model=node.pack.model_digest,
            epoch=hello.epoch,
            role=node.pack.role,
            start_id=hello.start_id,
            client=self._link.peer_fingerprint,
        )
        arrival = self._dial() if node.peer.is_dialled else node.meeting.take(session, self._over.is_set)
        if arrival is None:
            raise ProtocolError("no-peer", f"the other node did not call within {node.limits.pairing_seconds:g} s")
        link, first = arrival
        joined = self._peer = PeerLink(link, peer, node.limits.round_seconds)
        if self._over.is_set():  # `_end` may have looked already
            joined.abort()
            return None
        joined.greet(first, node.limits.pairing_seconds)
        return joined

    def _dial(self) -> tuple[Link, None] | None:
        """The other node, called in a thread of its own: a client that leaves keeps no place until there is an answer."""
        thread = Thread(target=self._call, name="trine-dial", daemon=True)
        thread.start()
        found = self._called.get()
        if isinstance(found, ProtocolError):
            raise found
        return None if found is None else (found, None)

    def _call(self) -> None:
        try:
            link = self._node.dial()
        except ProtocolError as error:
            self._called.put(error)
            return
        except Exception as error:  # whatever it was, nobody is to wait for ever
            self._called.put(ProtocolError("failed", place(error)))
            return
        self._called.put(link)
        if self._over.is_set():  # nobody may take it any more
            link.abort()

    def _step(self, evaluator: Evaluator, peer: PeerLink, step: Step) -> None:
        rounds, sent = peer.rounds, peer.bytes_sent
        peer.begin()
        self._use()
        try:
            answer = evaluator.step(step, peer.exchange, self._progress(step.count))
        except (SessionStopped, ValueError) as error:
            if isinstance(error, ValueError) and not peer.stop.is_set():
                raise  # else its rows were discarded before it could begin
            if not self._over.is_set():
                self._end_step(peer)
            return
        self._rows += step.count
        self._use()
        answer = replace(answer, rounds=peer.rounds - rounds, peer_bytes=peer.bytes_sent - sent)  # as this link counted them
        self._say(lambda: self._session.send_answer(answer))
        self._say(self._session.send_stopped_if_late)

    def _end_step(self, peer: PeerLink) -> None:
        """A stopped step: the other node knows it, and the client hears it once it has said STOP here, too."""
        peer.end_step()
        if not peer.stop.wait(self._node.limits.stop_seconds):
            raise ProtocolError("out-of-place", "the other node stopped a step that the client did not stop")
        if not self._over.is_set():
            self._say(self._session.send_stopped)

    def _progress(self, count: int) -> Callable[[int, int], None]:
        """PROGRESS while a prompt is computed; a single token is over before anybody could read it."""

        def tell(rows: int, section: int) -> None:
            self._use()
            if count > 1:
                self._say(lambda: self._session.send_progress(rows, section))

        return tell

    def _use(self, how: Callable[[Place], None] = Place.use) -> None:
        if self._held is not None:
            how(self._held)

    # The end

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it was, the session ends and the node goes on
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Note the first failure, tell the client, and let the reader see the link's end."""
        with self._failing:
            if self._over.is_set():
                return
            self._over.set()
        if isinstance(error, LinkError):  # the client's: whatever the other node does is a ProtocolError
            self._log.info("client lost", why=error.what)
        elif isinstance(error, ProtocolError):
            self._log.warning("session failed", code=error.code, why=error.text)
            self._complain(error)
        else:
            self._log.error("session failed", code="failed", why=place(error))
            self._complain(ProtocolError("failed"))
        self._link.close()

    def _give_way(self) -> None:
        """Somebody else waits for this session's place, which it does not use."""
        self._fail(ProtocolError("idle", "somebody else waited for the place"))

    def _complain(self, error: ProtocolError) -> None:
        """Say why; a client that does not read, behind whatever else it does not read, hears nothing."""
        if self._sending.acquire(timeout=_COMPLAIN_SECONDS):
            try:
                self._link.send(self._session.send_error(error), _COMPLAIN_SECONDS)
                return
            except (TrineError, ValueError):
                pass
            finally:
                self._sending.release()
        self._log.info("client not told", code=error.code)

    def _end(self, evaluator: Evaluator, threads: list[Thread]) -> None:
        """Wake every thread, wait for them, and give everything back."""
        self._over.set()
        self._node.meeting.wake()
        evaluator.close()
        self._jobs.put(None)
        self._steps.put(None)
        self._called.put(None)
        if self._peer is not None:
            self._peer.stop.set()
            self._peer.abort()
        # The client sees its link end when all is given back; but a thread may be stuck in sending to a client that is gone.
        started = [thread for thread in (*threads, self._watching) if thread.ident is not None]
        for thread in started:
            thread.join(_STUCK_SECONDS)
        self._log.info("session ended", rows=self._rows, seconds=round(time.monotonic() - self._began, 3))
        self._link.close()
        for thread in started:
            thread.join()
        if self._peer is not None:  # it may have come while the others were ending
            self._peer.abort()
        self._evaluator, self._section = None, long_lived(0)

    def _running(self) -> Evaluator:
        if self._evaluator is None:
            raise RuntimeError("there is no evaluator before HELLO")
        return self._evaluator

    def _say(self, make: Callable[[], bytes | None]) -> None:
        with self._sending:
            data = make()
            if data is not None:
                self._link.send(data)
