"""Bytes of one decoded token by gate, exact and without a run: from the plans, and from the openings that planning issues."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from benchmarks.meter import Meter, gate_watcher
from engine.models.config import ModelSpec
from engine.models.planning import plans
from engine.program.codec import Codec
from engine.program.evaluation import Evaluation
from engine.ring.fixed import Ring
from engine.rows.run import Extent, Rows
from engine.wire import Opening

UPLINKS = (20, 100, 1000)  #: Mbit/s
TLS_RECORD, TLS_OVERHEAD = 16384, 22  #: bytes of a record's content, and what TLS 1.3 adds to it
FRAME_BYTES = 26 + 14  #: of a message: the engine's header, and a masked websocket frame's longest


@dataclass(frozen=True, slots=True)
class GateBytes:
    """One gate's bytes a token, all layers together."""

    gate: str
    dealt: int  #: by D, to E1 and E2 together
    opened: int  #: by each evaluator to the other


def by_gate(spec: ModelSpec, keys: int) -> list[GateBytes]:
    """Every gate of a decode step that sees `keys` keys, the most expensive first."""
    meter, issued = Meter(), list[tuple[str, Codec, Extent]]()
    plain_open = Evaluation.open

    def opened(e: Evaluation, masked: Ring, extent: Extent, codec: Codec = Codec.WORDS) -> Opening:
        issued.append((meter.running, codec, extent))
        return plain_open(e, masked, extent, codec)

    with gate_watcher(meter, opened):
        made = plans(spec)
    row = Rows(0, keys - 1, 1)
    dealt, sent = meter.dealt(dict(enumerate(made)), row), defaultdict[str, int](int)
    for name, codec, extent in issued:
        sent[name] += -(-int(row.offsets(extent)[-1]) * codec // 8)
    found = [GateBytes(name, dealt.get(name, 0), sent[name]) for name in dealt.keys() | sent.keys()]
    return sorted(found, key=lambda gate: (-gate.dealt - gate.opened, gate.gate))


def framed(payload: float, messages: float) -> float:
    """Bytes of TCP's payload: with the messages' frames and TLS records."""
    plain = payload + messages * FRAME_BYTES
    return plain + math.ceil(plain / TLS_RECORD) * TLS_OVERHEAD


def tokens_per_second(upward: float, megabits: float) -> float:
    """What an uplink of that rate allows when a token sends `upward` bytes through it."""
    return megabits * 1e6 / 8 / upward


def measure_traffic(spec: ModelSpec, keys: int, block_rows: int) -> dict[str, Any]:
    """What the report needs: gates, and what a token sends up the user's link, dealt in blocks of `block_rows`."""
    gates = by_gate(spec, keys)
    dealt = sum(gate.dealt for gate in gates)
    asked = [8 + 4 + 4 + 4 + 4, 8 + 4 + 4 + 4 + 4 + 8 * spec.d_model]  # a step's row, position, counts, index; κ2 at E2
    upward = framed(dealt, spec.sections / block_rows) + sum(framed(message, 1) for message in asked)
    return {
        "name": spec.name,
        "keys": keys,
        "gates": [(gate.gate, gate.dealt, gate.opened) for gate in gates],
        "dealt": dealt,
        "opened": sum(gate.opened for gate in gates),
        "asked": sum(asked),
        "upward": upward,
        "tokens_per_second": {rate: tokens_per_second(upward, rate) for rate in UPLINKS},
    }


def lines(traffic: dict[str, Any]) -> list[str]:
    """Both tables as Markdown."""
    dealt, opened = traffic["dealt"], traffic["opened"]
    out = [
        f"{traffic['name']}, a token at {traffic['keys']} keys, exact; prepared rows cost the same bytes, only earlier.",
        "",
        "| gate | dealt, kB | share | opened each way, kB | share |",
        "|---|---|---|---|---|",
    ]
    for gate, d, o in traffic["gates"]:
        out.append(f"| {gate} | {d / 1e3:.1f} | {d / dealt:.1%} | {o / 1e3:.1f} | {o / opened:.1%} |")
    out.append(f"| **all** | **{dealt / 1e3:.1f}** | | **{opened / 1e3:.1f}** | |")
    rates = " | ".join(f"{rate} Mbit/s" for rate in traffic["tokens_per_second"])
    allowed = " | ".join(f"{value:.3g}" for value in traffic["tokens_per_second"].values())
    return [
        *out,
        "",
        f"Up the user's link a token sends {traffic['upward'] / 1e6:.3f} MB: {dealt / 1e6:.3f} dealt, "
        f"{traffic['asked'] / 1e3:.1f} kB online, and the frames of messages, websocket and TLS.",
        "TCP and IP add 3 to 4 % that are not counted.",
        "",
        f"| tokens/s that an uplink allows | {rates} |",
        f"|---|{'---|' * len(traffic['tokens_per_second'])}",
        f"| | {allowed} |",
    ]
