"""An evaluator's process: ``python -m benchmarks.node CONFIG``; a reader, a preparer and a stepper thread, as in a real node.

It prints one line, its port, answers the dealer's messages, and ends when the dealer's link or its own stdin closes.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from benchmarks import wires
from benchmarks.layer import layer_alone
from benchmarks.meter import Meter, install
from benchmarks.model import load_pack
from engine.errors import LinkError, SessionStopped
from engine.host.process import NODE_BYTES, tune_process, work_ahead
from engine.link import Connection, LinkOptions, accept, client_tls, connect, load_identity, server_tls
from engine.models import llama
from engine.parties.evaluator import Evaluator
from engine.step import Answer

PATIENCE = 600.0


class Node:
    """One evaluator of a benchmark."""

    def __init__(self, config: dict[str, Any], meter: Meter) -> None:
        self.role: int = config["role"]
        self._layer: bool = config["layer"]
        self._config, self._meter = config, meter
        pack = load_pack(Path(config["model"]), self.role, stored=not config["drawn"])
        self.evaluator = Evaluator(
            pack,
            bytes.fromhex(config["key"]),
            prefix=config["past"],
            context=config["context"],
            program=layer_alone if self._layer else llama.sections,
        )
        self.preparing = 0.0
        self._jobs: queue.SimpleQueue[tuple[int, int, memoryview]] = queue.SimpleQueue()
        self._steps: queue.SimpleQueue[wires.Steps] = queue.SimpleQueue()
        self._desktop: Connection
        self._peer: Connection

    def listen(self) -> socket.socket:
        """The node's port."""
        return socket.create_server(("127.0.0.1", 0))

    def meet(self, listening: socket.socket, peer_port: int | None) -> None:
        """The node–node link (the first dials), then the dealer's."""
        own = load_identity(Path(self._config["identity"]))
        certificates = [Path(self._config[name]).read_bytes() for name in ("dealer", "peer")]
        tls = server_tls(own, certificates)
        prints = frozenset(tls.pinned)
        if peer_port is not None:
            self._peer = connect(
                "127.0.0.1",
                peer_port,
                "/peer",
                client_tls(own, certificates[1]),
                options=LinkOptions(ping_interval=None),
                handshake_timeout=30,
            )
        for _ in range(1 if peer_port is not None else 2):
            sock, _ = listening.accept()
            link = accept(
                sock, tls, {"/peer": prints, "/session": prints}, options=LinkOptions(ping_interval=None), handshake_timeout=30
            )
            if link.path == "/peer":
                self._peer = link
            else:
                self._desktop = link
        listening.close()

    def serve(self) -> None:
        """Answer the dealer until it leaves."""
        for work in (self._prepare, self._compute):
            Thread(target=self._guarded, args=(work,), daemon=True).start()
        while True:
            data = memoryview(self._desktop.receive(PATIENCE))
            kind, rest = data[0], data[1:]
            if kind == wires.END:
                return
            self._answer(kind, rest)

    def _answer(self, kind: int, rest: memoryview) -> None:
        if kind == wires.ANNOUNCE:
            first, count, position = wires.parse_announce(rest)
            self.evaluator.announce(first, count, position)
        elif kind == wires.MATERIAL:
            self._jobs.put(wires.parse_material(rest))
        elif kind == wires.STEP:
            self._steps.put(wires.parse_steps(rest))
        elif kind == wires.REWIND:
            self.evaluator.discard()
            self.evaluator.rewind(wires.parse_announce(rest)[0])
        elif kind == wires.RESET:
            self.preparing = 0.0
            self._meter.reset()
            self._traffic = self._counters()
        elif kind == wires.FIGURES:
            self._desktop.send(wires.told(self._figures()))

    def _counters(self) -> dict[str, int]:
        return {
            "from_desktop": self._desktop.bytes_received,
            "to_desktop": self._desktop.bytes_sent,
            "to_peer": self._peer.bytes_sent,
            "messages": self._peer.messages_sent,
        }

    def _figures(self) -> dict[str, Any]:
        now = self._counters()
        traffic = {name: now[name] - before for name, before in self._traffic.items()}
        queued = self.evaluator.queued_bytes
        return self._meter.figures() | {"preparing": self.preparing, "links": traffic, "queued_bytes": queued}

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)  # the two others must not wait for this one

    def _prepare(self) -> None:
        work_ahead()
        while True:
            first, section, dealt = self._jobs.get()
            start = time.perf_counter()
            self.evaluator.prepare(first, section, dealt)
            self.preparing += time.perf_counter() - start
            if section == self.evaluator.sections - 1:
                self._desktop.send(bytes([wires.PREPARED]) + first.to_bytes(8, "little"), PATIENCE)

    def _compute(self) -> None:
        while True:
            work = self._steps.get()
            request, count = work.request, work.request.deltas.size
            for i in range(work.repeat):
                words = request.kappa2
                if words.shape[0]:
                    words = np.ascontiguousarray(words[i * count : (i + 1) * count])
                first, position = request.first_row + i * count, request.first_position + i * count
                step = replace(request, first_row=first, first_position=position, kappa2=words)
                began = time.monotonic()
                try:
                    made = self.evaluator.step(step, self._exchange, _ignore)
                except SessionStopped:
                    break
                self._tell(first + count - 1, began, made, last=i == work.repeat - 1)

    def _tell(self, row: int, began: float, made: Answer, *, last: bool) -> None:
        answer = made.alarm.to_bytes(2, "little") + made.data if self.role == 1 else b""
        if self._layer and not last:
            answer = b""
        self._desktop.send(wires.done(row, began, time.monotonic(), answer), PATIENCE)

    def _exchange(self, message: bytes) -> bytes | bytearray:
        reply: bytes | bytearray = self._meter.exchange(lambda: self._peer.exchange(message, PATIENCE))
        return reply


def _ignore(rows: int, section: int) -> None:
    """No progress is shown."""


def main() -> None:
    """Run a node as its configuration says."""
    config = json.loads(Path(sys.argv[1]).read_text())
    tune_process(NODE_BYTES)  # as the programs do
    meter = Meter()
    install(meter)
    node = Node(config, meter)
    with node.listen() as listening:
        print(listening.getsockname()[1], flush=True)
        ports = json.loads(sys.stdin.readline())
        Thread(target=_end_with_stdin, daemon=True).start()
        node.meet(listening, ports.get("peer"))
        try:
            node.serve()
        except LinkError as error:
            print(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(0)  # threads of this process still wait; nothing is left to write


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
