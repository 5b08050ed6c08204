"""The dealer's process, which is also the client and drives a row's measurement: ``python -m benchmarks.desktop CONFIG``.

Commands come as JSON lines on stdin, each answered by one on stdout.

online    everything is prepared beforehand; the steps are timed
all-in    decode: dealing goes on all the while, blocks are counted after the first has been used up;
          prefill: from an empty queue, and from the moment dealing begins
check     the program's output against the clear
"""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from benchmarks import wires
from benchmarks.layer import LayerDealer
from benchmarks.meter import Meter, install
from benchmarks.model import read_expected, read_seeds, read_spec
from engine.errors import LinkError
from engine.host.process import DESKTOP_BYTES, tune_process, work_ahead
from engine.link import Connection, LinkOptions, client_tls, connect, load_identity
from engine.parties.dealer import Abandoned, Dealer
from engine.ring.fixed import Real
from engine.rows.run import Rows
from engine.step import Step

PATIENCE = 1800.0
PASS_ROWS = 64
WINDOW_BLOCKS = 2  #: dealt and not used, at most
QUEUE_ROWS = WINDOW_BLOCKS * PASS_ROWS  #: of a prompt are prepared beforehand at once: memory bounds them


class Desktop:
    """The dealer and its two links."""

    def __init__(self, config: dict[str, Any], meter: Meter) -> None:
        directory = Path(config["model"])
        self.spec = read_spec(directory)
        self.past: int = config["past"]
        self._layer: bool = config["layer"]
        self._meter, self._config = meter, config
        one, two = (bytes.fromhex(key) for key in config["keys"])
        seeds = read_seeds(directory)
        self.dealer: Dealer | LayerDealer
        if self._layer:
            self.dealer = LayerDealer(self.spec, seeds, (one, two), self.past)
        else:
            self.dealer = Dealer(self.spec, seeds, (one, two), os.urandom(32), prefix=self.past, context=config["context"])
        self._links: list[Connection] = []
        self._mail: list[dict[int, queue.SimpleQueue[memoryview]]] = []
        self._source = np.random.Generator(np.random.PCG64(3))
        self._dealing = 0.0

    def connect(self, ports: list[int]) -> None:
        """Dial both nodes and read what they say, each in a thread."""
        own = load_identity(Path(self._config["identity"]))
        for port, certificate in zip(ports, self._config["nodes"], strict=True):
            tls = client_tls(own, Path(certificate).read_bytes())
            link = connect("127.0.0.1", port, "/session", tls, options=LinkOptions(ping_interval=None), handshake_timeout=30)
            mail = {kind: queue.SimpleQueue[memoryview]() for kind in (wires.PREPARED, wires.DONE, wires.TOLD)}
            self._links.append(link)
            self._mail.append(mail)
            Thread(target=_sort, args=(link, mail), daemon=True).start()

    def leave(self) -> None:
        """Let the nodes end."""
        for link in self._links:
            link.send(bytes([wires.END]))

    # Measurements

    def extend(self, rows: int) -> dict[str, Any]:
        """Compute that many random tokens; every measurement then begins behind them."""
        for size in _blocks(rows, PASS_ROWS):
            self._deal(size)
            self._prompt(size)
        self.past = self.dealer.position
        return {}

    def online(self, rows: int, repeats: int) -> dict[str, Any]:
        """Seconds of steps whose rows are all prepared: `repeats` decode steps, or as many prompts of `rows`."""
        prompts = 1 if rows == 1 else repeats
        seconds: list[float] = []
        for _ in range(prompts):
            self._rewind()
            took: list[float] = []
            for queued in _blocks(repeats if rows == 1 else rows, QUEUE_ROWS):
                sizes = [queued] if rows == 1 else _blocks(queued, PASS_ROWS)
                for size in sizes:
                    self._wait_prepared(self._deal(size))
                if not seconds and not took:
                    self._reset()
                took += self._steps(1, queued) if rows == 1 else [self._prompt(size)[0] for size in sizes]
            seconds += took if rows == 1 else [sum(took)]
        return self._result(seconds, rows * repeats, rows)

    def all_in_prompt(self, rows: int, repeats: int) -> dict[str, Any]:
        """Seconds from the beginning of dealing to the last row's output, from an empty queue."""
        seconds: list[float] = []
        for _ in range(repeats):
            self._rewind()
            if not seconds:
                self._reset()
            start = ended = time.monotonic()
            sizes = _blocks(rows, PASS_ROWS)
            room = _room()
            with self._dealing_ahead(_paced(room, sizes)) as announced:
                for size in sizes:
                    announced.get(timeout=PATIENCE)
                    ended = self._prompt(size)[1]
                    room.put(None)
            seconds.append(ended - start)
        return self._result(seconds, rows * repeats, rows)

    def all_in_decode(self, block: int, blocks: int) -> dict[str, Any]:
        """Mean seconds a token in each of `blocks` blocks while dealing goes on, after a first block to warm up."""
        self._rewind()
        ends: list[float] = []

        def ended(at: float) -> None:
            ends.append(at)
            if len(ends) % block == 0:
                room.put(None)
            if len(ends) == block:
                self._reset()

        room = _room()
        with self._dealing_ahead(_paced(room, repeat(block))) as announced:
            for _ in range(blocks + 1):
                announced.get(timeout=PATIENCE)
                self._steps(1, block, ended)
            result = self._result([], blocks * block, 1)
            room.put(None)
        result["seconds"] = [(ends[(i + 1) * block - 1] - ends[i * block - 1]) / block for i in range(1, blocks + 1)]
        return result

    def check(self, directory: Path) -> dict[str, Any]:
        """Largest error behind the whole prefix, and the output's standard deviation."""
        expected = read_expected(directory)
        count = len(expected.tokens)
        self._rewind()
        self._wait_prepared(self._deal(count))
        if self._layer:
            rows = Rows(self.dealer.next_row - count, self.past, count)
            _, _, answer = self._layer_steps(count, 1, expected.residual)
            leaving = np.frombuffer(answer[2:], np.int64).reshape(count, -1)
            outputs = self._as_layer().leave(rows, leaving)
        else:
            outputs = np.stack([self._whole_step([token])[1] for token in expected.tokens])
        error = np.abs(outputs - expected.outputs)
        return {"error": float(error.max()), "deviation": float(expected.outputs.std())}

    # Steps

    def _steps(self, rows: int, repeat: int, ended: Callable[[float], None] = lambda at: None) -> list[float]:
        if self._layer:
            return self._layer_steps(rows, repeat, None, ended)[0]
        seconds = []
        for _ in range(repeat):
            tokens = self._source.integers(0, self.spec.vocab, rows).tolist()
            start = time.monotonic()
            self._whole_step(tokens)
            seconds.append(time.monotonic() - start)
            ended(time.monotonic())
        return seconds

    def _prompt(self, rows: int) -> tuple[float, float]:
        """(seconds, end) of one step of many rows."""
        if self._layer:
            seconds, end, _ = self._layer_steps(rows, 1, None)
            return seconds[0], end
        seconds = self._steps(rows, 1)
        return seconds[0], time.monotonic()

    def _whole_step(self, tokens: list[int]) -> tuple[int, Real]:
        dealer = self.dealer
        if not isinstance(dealer, Dealer):
            raise TypeError("a layer takes no tokens")
        if not dealer.wait_rows(len(tokens), PATIENCE):
            raise TimeoutError("the rows were not dealt in time")
        request = dealer.request(tokens)
        self._links[0].send(wires.steps(request, kappa=False), PATIENCE)
        self._links[1].send(wires.steps(request), PATIENCE)
        row, _, _, answer = wires.parse_done(self._read(0, wires.DONE))
        self._read(1, wires.DONE)
        logits = dealer.logits(row, answer[2:], PATIENCE)
        return row, logits

    def _layer_steps(
        self, rows: int, repeat: int, x: Real | None, ended: Callable[[float], None] = lambda at: None
    ) -> tuple[list[float], float, memoryview]:
        dealer, d = self._as_layer(), self.spec.d_model
        whole = Rows(self._next, dealer.position, rows * repeat)
        given = self._source.standard_normal((rows * repeat, d)) if x is None else x
        m = dealer.enter(whole, given)
        message = wires.steps(Step(whole.first, whole.position, rows, np.zeros(rows, np.uint32), m), repeat)
        for link in self._links:
            link.send(message, PATIENCE)
        self._next += rows * repeat
        dealer.position += rows * repeat
        seconds, end, answer = [], 0.0, memoryview(b"")
        for _ in range(repeat):
            (_, began1, ended1, answer), (_, began2, ended2, _) = (wires.parse_done(self._read(i, wires.DONE)) for i in (0, 1))
            end = max(ended1, ended2)
            seconds.append(end - max(began1, began2))
            ended(end)
        return seconds, end, answer

    def _as_layer(self) -> LayerDealer:
        if not isinstance(self.dealer, LayerDealer):
            raise TypeError("no layer is measured")
        return self.dealer

    # Dealing

    def _rewind(self) -> None:
        self.dealer.rewind(self.past)
        self._next = self.dealer.next_row
        for link in self._links:
            link.send(wires.rewind(self.past))

    def _deal(self, count: int, announced: queue.SimpleQueue[None] | None = None, stop: Event | None = None) -> int:
        """Deal and send a block; returns its first row."""
        first, position = self.dealer.next_row, self.dealer.dealt_position
        for link in self._links:
            link.send(wires.announce(first, count, position), PATIENCE)
        if announced is not None:
            announced.put(None)
        started = time.perf_counter()
        for section, materials in self.dealer.deal(count):
            self._dealing += time.perf_counter() - started
            for link, dealt in zip(self._links, materials, strict=True):
                link.send(wires.material(first, section, dealt), PATIENCE)
            started = time.perf_counter()
            if stop is not None and stop.is_set():
                break
        return first

    @contextmanager
    def _dealing_ahead(self, sizes: Iterator[int]) -> Iterator[queue.SimpleQueue[None]]:
        """Deal blocks in a thread of their own; yields a queue that has an item for each announced block."""
        announced: queue.SimpleQueue[None] = queue.SimpleQueue()
        stop = Event()

        def work() -> None:
            work_ahead()
            try:
                for size in sizes:
                    if stop.is_set():
                        return
                    self._deal(size, announced, stop)
            except Abandoned:
                pass
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            yield announced
        finally:
            stop.set()
            thread.join(PATIENCE)

    def _wait_prepared(self, first: int) -> None:
        """Until both nodes have prepared that block; what they said of earlier ones is passed over."""
        for node in (0, 1):
            while int.from_bytes(self._read(node, wires.PREPARED), "little") != first:
                pass

    # Figures

    def _read(self, node: int, kind: int) -> memoryview:
        return self._mail[node][kind].get(timeout=PATIENCE)

    def _reset(self) -> None:
        self._dealing = 0.0
        self._meter.reset()
        for link in self._links:
            link.send(bytes([wires.RESET]))

    def _figures(self) -> list[dict[str, Any]]:
        for link in self._links:
            link.send(bytes([wires.FIGURES]))
        return [json.loads(bytes(self._read(node, wires.TOLD))) for node in (0, 1)]

    def _result(self, seconds: list[float], counted: int, rows: int) -> dict[str, Any]:
        nodes = self._figures()
        dealt = self._meter.dealt(dict(enumerate(self.dealer.plans)), Rows(1, self.past, rows))
        own = self._meter.figures() | {"dealing": self._dealing}
        return {"seconds": seconds, "rows": counted, "desktop": own, "nodes": nodes, "dealt": dealt}


def _sort(link: Connection, mail: dict[int, queue.SimpleQueue[memoryview]]) -> None:
    while True:
        try:
            data = memoryview(link.receive(None))
        except LinkError as error:
            print(error, file=sys.stderr)
            os._exit(1)  # whoever waits for an answer must not wait on
        mail[data[0]].put(data[1:])


def _blocks(rows: int, most: int) -> list[int]:
    return [min(most, rows - at) for at in range(0, rows, most)]


def _room() -> queue.SimpleQueue[None]:
    """An item for each block that may be dealt and not used."""
    room: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(WINDOW_BLOCKS):
        room.put(None)
    return room


def _paced(room: queue.SimpleQueue[None], sizes: Iterable[int]) -> Iterator[int]:
    for size in sizes:
        room.get(timeout=PATIENCE)
        yield size


def main() -> None:
    """Do what stdin asks for, until it closes."""
    config = json.loads(Path(sys.argv[1]).read_text())
    tune_process(DESKTOP_BYTES)  # as the programs do
    meter = Meter()
    install(meter)
    desktop = Desktop(config, meter)
    print("{}", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        what = command.pop("do")
        if what == "connect":
            desktop.connect(command["ports"])
            answer: dict[str, Any] = {}
        elif what == "check":
            answer = desktop.check(Path(config["model"]))
        else:
            answer = getattr(desktop, what)(**command)
        print(json.dumps(answer), flush=True)
    desktop.leave()
    os._exit(0)  # the links' readers still wait; nothing is left to write


if __name__ == "__main__":
    main()
