"""The table, as Markdown and JSON. Seconds are medians; all runs stand in the JSON and in the row's details."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import context, promises, traffic

MEGA = 1e6
GATES_SHOWN = 40


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [entry for entry in cpuinfo.read_text().splitlines() if entry.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": f"{platform.python_version()} of {sys.base_prefix}",  # builds of one version differ
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def seconds_of(row: dict[str, Any], which: str) -> float:
    """The row's median, a token (decode) or a prompt."""
    return float(median(row[which]["seconds"]))


def promised(row: dict[str, Any]) -> str:
    """Which figure the ratio is made of: all-in for decode, online for prefill."""
    return "all_in" if row["work"]["rows"] == 1 else "online"


def line(row: dict[str, Any], roofline: dict[str, float]) -> str:
    """One line of the table."""
    shape, tokens = row["work"]["shape"], row["work"]["rows"]
    online, all_in = seconds_of(row, "online"), seconds_of(row, "all_in")
    nodes = row["online"]["nodes"]
    steps = row["online"]["rows"] / tokens
    links = row["all_in"]["nodes"]
    peaks = [row["all_in"]["desktop"]["peak_mb"], *(node["peak_mb"] for node in links)]
    cells = [
        row["title"],
        f"{online:.4g}",
        f"{all_in:.4g}",
        f"{tokens / online:.3g} / {tokens / all_in:.3g}",
        f"{cpu(row):.3g}",
        f"{roofline[shape]:.3g}",
        f"{sum(nodes[0]['rounds'].values()) / steps:.0f}",
        " / ".join(f"{value / MEGA:.3f}" for value in link_bytes(row)),
        " / ".join(f"{peak:.0f}" for peak in peaks),
        f"{in_all_mb(row):.0f}",
        f"{row['check']['error']:.3f} / {row['check']['deviation']:.2f}",
    ]
    return f"| {' | '.join([*cells, *_ratios(row)])} |"


def link_bytes(row: dict[str, Any]) -> tuple[float, float, float]:
    """Bytes a token D→E1, D→E2 and between the nodes each way: what the nodes counted, dealt material by the plans.

    While decode is measured online nothing is dealt; of a prompt the all-in run holds just what it needs.
    """
    decode = row["work"]["rows"] == 1
    figures = row["online" if decode else "all_in"]
    first, second = (node["links"]["from_desktop"] / figures["rows"] for node in figures["nodes"])
    peer = row["online"]["nodes"][0]["links"]["to_peer"] / row["online"]["rows"]
    return first, second + (sum(row["online"]["dealt"].values()) if decode else 0), peer


def cpu(row: dict[str, Any]) -> float:
    """Processor seconds of all three parties, a token or a prompt, in the all-in run."""
    figures = row["all_in"]
    total = figures["desktop"]["cpu"] + sum(node["cpu"] for node in figures["nodes"])
    return float(total / figures["rows"] * row["work"]["rows"])


def in_all_mb(row: dict[str, Any]) -> float:
    """Memory of the three parties together, were all at their peaks at once; what two of them map is counted once."""
    parties = [row["all_in"]["desktop"], *row["all_in"]["nodes"]]
    return float(sum(party["memory_mb"].get("most", 0.0) for party in parties))


def _ratios(row: dict[str, Any]) -> list[str]:
    if "peer" not in row:
        return ["", "", "", ""]
    peer, better = row["peer"]["seconds"], row["peer"][row["peer"]["better"]]
    ratios = {which: f"{peer / seconds_of(row, which):.1f}" for which in ("online", "all_in")}
    ratios[promised(row)] = f"**{ratios[promised(row)]}**"
    sent = f"{better['sends']:,} / {better['bytes'] / MEGA:.2f}" if "sends" in better else ""
    return [f"{peer:.3g} ({row['peer']['better']})", sent, ratios["online"], ratios["all_in"]]


HEAD = (
    "work",
    "online s",
    "all-in s",
    "tokens/s online / all-in",
    "CPU s, 3 parties",
    "roofline s",
    "rounds",
    "MB a token D→E1 / D→E2 / E1↔E2 each way",
    "peak MB D / E1 / E2",
    "MB in all",
    "largest error / std",
    "SPU s (better setting)",
    "SPU sends / MB sent of a party",
    "ratio online",
    "ratio all-in",
)


def write(results: dict[str, Any], directory: Path) -> None:
    """report.json and report.md."""
    (directory / "report.json").write_text(json.dumps(results, indent=1))
    here, demo = results["machine"], results.get("demo")
    parts = [
        f"{here['processor']}, {here['cores']} cores, Python {here['python']}, {here['date']},",
        f"load before the run {here['load'][0]}.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(line(row, results["roofline"]) for row in results["rows"]),
    ]
    if demo is not None:
        parts += ["", "## The demo", "", *promises.lines(demo), "", "## Bytes by gate", "", *traffic.lines(demo["traffic"])]
    if growth := context.lines(results["rows"]):
        parts += ["", "## Context", "", *growth]
    for row in results["rows"]:
        parts += ["", f"## {row['title']}", "", *details(row)]
    (directory / "report.md").write_text("\n".join(parts) + "\n")


def details(row: dict[str, Any]) -> list[str]:
    """All runs, what every party did, and gate by gate."""
    out = []
    if made := row["made"]:
        out += [f"Its model was made in {made['seconds']:.0f} s with at most {made['peak_mb']:.0f} MB.", ""]
    for which in ("online", "all_in"):
        figures = row[which]
        runs = " ".join(f"{value:.4g}" for value in figures["seconds"])
        out.append(f"{which}: {runs} s.")
        for name, node in zip(("E1", "E2"), figures["nodes"], strict=True):
            out.append(f"- {name}, a token: {_node(node, figures['rows'])}")
        desktop = figures["desktop"]
        held = [party["memory_mb"].get("own", 0.0) for party in (desktop, *figures["nodes"])]
        out.append(f"- memory of their own, D / E1 / E2: {' / '.join(f'{own:.0f}' for own in held)} MB")
        took = [f"{desktop[kind] / figures['rows']:.4g}" for kind in ("cpu", "dealing")]
        out.append(f"- D, a token: {took[0]} s of processor, dealing {took[1]}")
        out.append("")
    upward = sum(link_bytes(row)[:2])
    speeds = ", ".join(f"{traffic.tokens_per_second(upward, rate):.3g} at {rate} Mbit/s" for rate in traffic.UPLINKS)
    return [*out, f"Tokens/s that the user's uplink allows: {speeds}.", "", *_gates(row)]


def _node(node: dict[str, Any], rows: int) -> str:
    gates, waiting = (sum(node[kind].values()) / rows for kind in ("seconds", "waiting"))
    spent = f"{node['cpu'] / rows:.4g} s of processor, gates {gates:.4g}, rounds and waiting {waiting:.4g}"
    received = node["links"]["from_desktop"] / rows / MEGA
    return f"{spent}, preparing {node['preparing'] / rows:.4g}; received from D {received:.3f} MB"


def _gates(row: dict[str, Any]) -> list[str]:
    """Milliseconds and bytes a token; the nodes' from the online run, the dealer's from the all-in run."""
    online, all_in, tokens = row["online"], row["all_in"], row["work"]["rows"]
    (one, two), counted, steps = online["nodes"], online["rows"], online["rows"] / tokens
    dealing = all_in["desktop"]["seconds"]
    names = sorted(set(one["seconds"]) | set(dealing), key=lambda name: -one["seconds"].get(name, 0))
    head = ("gate", "rounds", "dealt kB", "opened kB", "E1 ms", "E1 waiting ms", "E2 ms", "E2 waiting ms", "D ms")
    out = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names[:GATES_SHOWN]:
        values = [
            f"{one['rounds'].get(name, 0) / steps:.0f}",
            f"{online['dealt'].get(name, 0) / tokens / 1e3:.1f}",
            f"{one['opened'].get(name, 0) / counted / 1e3:.1f}",
            *(f"{node[kind].get(name, 0) / counted * 1e3:.3f}" for node in (one, two) for kind in ("seconds", "waiting")),
            f"{dealing.get(name, 0) / all_in['rows'] * 1e3:.3f}",
        ]
        out.append(f"| {' | '.join([name, *values])} |")
    return out
