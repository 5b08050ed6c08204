"""What the program deals, draws and sends, as digests: the plans, the public words, and one small session byte by byte.

All of it follows from committed inputs, so that it is the same on every machine: the specifications in `golden_specs.json`, the
sharing in `tests/engine/provision/shared_before` (its tables and masked words too, which a processor may round in its own way)
and fixed keys. A digest stands for one thing, so that a difference is named.

    python -m tests.engine.models.golden_plans > tests/engine/models/golden_plans.json

writes the file anew. That is right only where a change is meant to be seen on the wire or in a pack.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from engine.gates.rotary import whole_angles
from engine.gates.truncation import alarm_seed
from engine.host.memory import Halves
from engine.models.config import PROGRAM_VERSION, ModelSpec
from engine.models.planning import plans, table_shapes
from engine.parties.dealer import Dealer
from engine.parties.evaluator import Evaluator
from engine.parties.masks import TILE_WORDS
from engine.prf import FAST, Label, Stream

# Everything of the engine that the golden file is made with; a module that moves changes a line here, and none below.
from engine.program.plan import Plan, dealt_bytes, made_bytes, round_bytes
from engine.provision.pack import ALIKE, FORMAT, load_client_model, load_node_pack
from engine.ring.kernels.attention import level_hashes
from engine.ring.kernels.words import mix
from engine.rows.run import Extent, Rows
from tests.engine.trio import Mail, key, together

Tree = dict[str, Any]  #: names to digests, numbers, lists or trees

HERE = Path(__file__).parent
GOLDEN, SPECS = HERE / "golden_plans.json", HERE / "golden_specs.json"
SHARED_BEFORE = HERE.parent / "provision" / "shared_before"
LISTED = "private"  #: the specification whose plans are listed slot by slot, in words
BLOCKS = [Rows(1, 0, 1), Rows(1, 23, 20), Rows(1000, 90, 1), Rows((1 << 40) + 7, 1, 64)]


def digest(*parts: object) -> str:
    """16 hex digits of what is given: arrays and bytes as they are, everything else as text."""
    out = blake2b(digest_size=8)
    for part in parts:
        raw = bytes(part) if isinstance(part, bytes | memoryview) else str(part).encode()
        out.update(f"{len(raw)} ".encode() + raw)
    return out.hexdigest()


def compute() -> Tree:
    """Everything that the golden file holds."""
    specs = {name: ModelSpec.model_validate(value) for name, value in json.loads(SPECS.read_text("utf-8")).items()}
    return {
        "listed": {section: _listed(plan) for section, plan in _named(specs[LISTED]) if section != "layer 1"},
        "versions": {"program": PROGRAM_VERSION, "pack": FORMAT, "tile words": TILE_WORDS, "fast": FAST}
        | {f"label {label.name}": int(label) for label in Label},
        "programs": {name: spec.digest() for name, spec in specs.items()},
        "tables": {name: digest(sorted(table_shapes(spec).items())) for name, spec in specs.items()},
        "plans": {name: dict(_program(spec)) for name, spec in specs.items()},
        "public words": _public_words(specs["demo"]),
        "session": _session(),
    }


# The plans.


def _named(spec: ModelSpec) -> Iterator[tuple[str, Plan]]:
    names = ["embedding", *(f"layer {i}" for i in range(spec.layers)), "answer"]
    return zip(names, plans(spec), strict=True)


def _program(spec: ModelSpec) -> Iterator[tuple[str, Tree]]:
    recorded = plans(spec)
    for name, plan in _named(spec):
        yield name, _section(plan)
    totals = [(dealt_bytes(recorded, b, role), made_bytes(recorded, b, role)) for b in BLOCKS for role in (1, 2)]
    yield "whole", {"bytes": digest(totals), "longest message": digest([round_bytes(recorded, b) for b in BLOCKS])}


def _section(plan: Plan) -> Tree:
    listed = _listed(plan)
    bytes_ = [
        [plan.dealt_bytes(b, 1), plan.dealt_bytes(b, 2), plan.made_bytes(b, 1), plan.made_bytes(b, 2), plan.round_bytes(b)]
        for b in BLOCKS
    ]
    bounds = [[(_slot(k), at) for k, at in plan.keyed_bounds(b).items()] for b in BLOCKS]
    return {name: digest(*lines) for name, lines in listed.items()} | {"bytes": digest(bytes_), "keyed bounds": digest(bounds)}


def _listed(plan: Plan) -> dict[str, list[str]]:
    """A section's plan in words."""
    slots = [
        f"{_slot(k)} {s.kind.value} {_extent(s.extent)} *{s.factor} {'bits' if s.bit else f'{s.width} bytes'}"
        for k, s in plan.slots.items()
    ]
    out = {
        "slots": slots,
        "products": [f"{_slot(p.slot)} {p.weight} {_slot(p.lam)}" for p in plan.products],
        "rounds": [" ".join(f"{_extent(e)}:{int(bits)}" for e, bits in opened) for opened in plan.rounds],
        "dealt": [f"{_slot(k)} {at}" for k, at in plan.dealt.items()] + [str(plan.dealt_words)],
        "both": [f"{_slot(k)} {at}" for k, at in plan.both.items()] + [str(plan.both_words)],
    }
    for role, drawn in enumerate(plan.drawn, 1):
        places = [f"{_slot(k)} {at.start} {at.stop}" for part in (drawn.online, drawn.ahead) for k, at in part.items()]
        keyed = [_slot(k) for k in drawn.keyed]
        out[f"drawn from k{role}"] = [*places, *keyed, f"{drawn.online_words} {drawn.words}"]
    return out


def _slot(key: tuple[int, str]) -> str:
    return f"{key[0]}.{key[1]}"


def _extent(extent: Extent) -> str:
    return f"{extent.row}+{extent.key}k"


# The public words.


def _public_words(demo: ModelSpec) -> Tree:
    seeds = [alarm_seed(section, gate) for section in range(demo.sections) for gate in range(256)]
    numbers = [*range(-1000, 1000), *(1 << i for i in range(63))]
    angles = {
        f"angles of head_dim {d}": digest(*(part.tobytes() for part in whole_angles(3, 40, d, theta, 14)))
        for d, theta in ((demo.head_dim, demo.rope_theta), (6, 1e4))
    }
    return {
        "mix": digest([int(mix(np.int64(x))) for x in numbers]),
        "alarm seeds": digest(seeds),
        "level hashes, 1 word, 16 levels": digest(_hashes(1, 16).tobytes()),
        "level hashes, 2 words, 12 levels": digest(_hashes(2, 12).tobytes()),
        **angles,
    }


def _hashes(words: int, levels: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The hash words of a maximum over two rows of three heads, from numbers that nobody drew."""
    rows, heads = Rows(9, 4, 2), 3
    count = int(rows.offsets(Extent(key=heads))[-1])
    c, bits = (np.array([int(mix(np.int64(n + i))) for i in range(size)]) for n, size in ((0, count), (1 << 20, count * words)))
    out = np.empty((rows.count, heads, levels), np.int64)
    level_hashes(c, bits, 26, -48, -20, rows.serials, rows.keys, rows.starts, alarm_seed(3, 17), out)
    return out


# A session of the sharing of before, under fixed keys.


class _Drawn:
    """Every range of every stream, by phase, holder and stream."""

    def __init__(self, names: dict[bytes, str]) -> None:
        self.phase = self.holder = ""
        self.ranges: dict[tuple[str, str, str], Counter[tuple[int, ...]]] = defaultdict(Counter)
        self._names = names

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Streams made meanwhile are recorded for whoever is the `holder` then."""
        made, names = Stream.__init__, self._names

        def init(stream: Stream, secret: bytes, record: object = None) -> None:
            del record
            name, holder = names[bytes(secret)], self.holder
            made(stream, secret, lambda *drawn: self.ranges[self.phase, holder, name].update([drawn]))

        with patch.object(Stream, "__init__", init):
            yield

    def summary(self, phase: str) -> Tree:
        """A digest of the ranges (label, row, section, slot, start, stop) a holder and stream, in their own order."""
        mine = {f"{h} {name}": r for (p, h, name), r in self.ranges.items() if p == phase}
        return {name: digest(sorted(ranges.items())) for name, ranges in sorted(mine.items())}


@contextmanager
def shared_before() -> Iterator[Path]:
    """The committed sharing, with what both nodes hold alike copied to the second, for it is committed once."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / "shared"
        shutil.copytree(SHARED_BEFORE, place)
        for name in ALIKE:
            shutil.copyfile(place / "node1" / name, place / "node2" / name)
        yield place


class _Session:
    """A dealer and two evaluators; what is dealt, sent and drawn goes into `out`, a phase at a time."""

    def __init__(self, place: Path) -> None:
        client = load_client_model(place / "client")
        k1, k2, own = (key("golden", i) for i in range(3))
        self.drawn = _Drawn({k1: "k1", k2: "k2", own: "own", client.seeds[0]: "w1", client.seeds[1]: "w2"})
        self.out: Tree = {}
        prefix, context = len(client.spec.prefix), client.spec.context
        with self.drawn.watch(), self._phase("load"):
            self.drawn.holder = "evaluator 1"
            packs = [load_node_pack(place / "node1", halves=Halves.STORED)]
            self.drawn.holder = "evaluator 2"
            packs.append(load_node_pack(place / "node2", halves=Halves.DRAWN))
            self.drawn.holder = "dealer"
            self.dealer = Dealer(client.spec, client.seeds, (k1, k2), own, prefix=prefix, context=context)
            self.evaluators = []
            for role, (pack, secret) in enumerate(zip(packs, (k1, k2), strict=True), 1):
                self.drawn.holder = f"evaluator {role}"
                self.evaluators.append(Evaluator(pack, secret, prefix=prefix, context=context))

    @contextmanager
    def _phase(self, name: str) -> Iterator[Tree]:
        self.drawn.phase, self.out[name] = name, {}
        yield self.out[name]
        self.out[name]["streams"] = self.drawn.summary(name)

    def deal(self, name: str, count: int) -> None:
        """Deal a block of rows and prepare it."""
        first, position = self.dealer.next_row, self.dealer.dealt_position
        with self._phase(name) as out:
            out["first row, position"] = f"{first}, {position}"
            for e in self.evaluators:
                e.announce(first, count, position)
            for section, material in self.dealer.deal(count):
                for role, (e, part) in enumerate(zip(self.evaluators, material, strict=True), 1):
                    out[f"section {section} to evaluator {role}"] = f"{len(part)} {digest(part)}"
                    e.prepare(first, section, part)

    def step(self, name: str, tokens: Sequence[int], answers: int) -> None:
        """Run the tokens at both evaluators."""
        mail = Mail()
        with self._phase(name) as out:
            request = self.dealer.request(tokens, answers)

            def side(i: int) -> Callable[[], Any]:
                return lambda: self.evaluators[i].step(request, mail.exchange(i), lambda rows, section: None)

            out["request"] = [request.first_row, request.first_position, request.answers]
            out["deltas"], out["kappa2"] = digest(request.deltas.tobytes()), digest(request.kappa2.tobytes())
            one, two = together(side(0), side(1))
            for role, sent in enumerate(mail.sent, 1):
                out[f"messages of evaluator {role}"] = [f"{len(message)} {digest(message)}" for message in sent]
            for role, answer in enumerate((one, two), 1):
                out[f"answer of evaluator {role}"] = f"{answer.rounds} {answer.alarm} {digest(answer.data)}"  # type: ignore[attr-defined]
            out |= self._answer(request.first_row + len(tokens) - 1, one, answers)

    def _answer(self, last: int, answer: Any, answers: int) -> Tree:
        size = len(answer.data) // answers
        out: Tree = {"wrapped": self.dealer.wrapped(last, answer.alarm)}
        for i in range(answers):
            logits = self.dealer.logits(last - answers + 1 + i, answer.data[i * size : (i + 1) * size])
            out[f"logits {i}"] = f"{int(logits.argmax())} {digest(logits.tobytes())}"
        return out

    def rewind(self, position: int) -> None:
        """Cut the context at all three."""
        self.dealer.rewind(position)
        for e in self.evaluators:
            e.rewind(position)


def _session() -> Tree:
    """A prompt of 20 tokens in two blocks, a token behind it, a rewind with rows in the queue, and two tokens behind that."""
    with shared_before() as place:
        session = _Session(place)
        tokens = [3 + (37 * i) % 300 for i in range(20)]
        session.deal("deal 1", 12)
        session.deal("deal 2", 8)
        session.step("prefill", tokens, 1)
        session.deal("deal 3", 4)
        session.step("decode", [17], 1)
        session.rewind(13)
        session.deal("deal 4", 3)
        session.step("behind the rewind", [41, 250], 2)
        return session.out


def flat(tree: Tree | list[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """(name, value) of each leaf; a list has a leaf an item."""
    items = tree.items() if isinstance(tree, dict) else ((str(i), value) for i, value in enumerate(tree))
    for name, value in items:
        if isinstance(value, dict | list):
            yield from flat(value, (*path, name))
        else:
            yield " / ".join((*path, name)), value


if __name__ == "__main__":
    print(json.dumps(compute(), indent=0, separators=(",", ":")))
