"""`swarmtop --once`: the ranking as a table, as JSON or as CSV, without the dashboard.

One list of columns makes all three, so that a cell is the same everywhere: text in the table, the plain value in
JSON and CSV.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from swarm_protocol.snapshot.swarm import Kind, Path, Swarm, Transport, Why
from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop.analysis.analysis import Analysis, Row, analyse
from swarmtop.commands.common import one_frame, table_width
from swarmtop.config import open_source, question
from swarmtop.progress import progress
from swarmtop.sources.source import Source
from swarmtop.text import plain, quantities

LISTED_NODES: Final = 50  # up to here every pair is measured, and there are no more than 2,450


@dataclass(frozen=True, slots=True)
class Column:
    key: str  # in JSON and CSV
    title: str  # in the table; empty: not shown there
    value: Callable[[Row], plain.Value]
    text: Callable[[Row], str]
    keep: int = 0  # the higher, the sooner it gives way on a narrow terminal
    right: bool = True


COLUMNS: Final[tuple[Column, ...]] = (
    Column("rank", "#", lambda r: r.rank, lambda r: str(r.rank)),
    Column("name", "NODE", lambda r: r.name, lambda r: safe(r.name), right=False),
    Column(
        "state", "STATE", lambda r: quantities.STATE_WORD[r.state], lambda r: quantities.state(r.state), right=False
    ),
    Column("cost_ms", "COST ms", lambda r: r.cost_ms, lambda r: quantities.figure(r.cost_ms)),
    Column("gain_ms", "GAIN ms", lambda r: r.gain_ms, lambda r: quantities.figure(r.gain_ms), 3),
    Column("cause", "CAUSE", lambda r: r.cause, lambda r: r.cause or quantities.UNMEASURED, 1, right=False),
    Column("in_placement", "PLAN", lambda r: r.in_placement, lambda r: "yes" if r.in_placement else "no", 5, False),
    Column("rtt_p50_ms", "RTT ms", lambda r: r.rtt_p50_ms, lambda r: quantities.figure(r.rtt_p50_ms, r.rtt_kind), 2),
    Column("jitter_ms", "JITTER ms", lambda r: r.jitter_ms, lambda r: quantities.figure(r.jitter_ms), 6),
    Column("loss", "LOSS", lambda r: r.loss, lambda r: quantities.percent(r.loss), 4),
    Column("up_mbps", "UP Mbit/s", lambda r: r.up_mbps, lambda r: quantities.figure(r.up_mbps, r.up_kind), 3),
    Column("layer_ms", "LAYER ms", lambda r: r.layer_ms, lambda r: quantities.figure(r.layer_ms), 2),
    Column("device", "DEVICE", lambda r: r.device, lambda r: safe(r.device) or quantities.UNMEASURED, 8, right=False),
    Column("vram_free_gib", "FREE GiB", lambda r: r.vram_free_gib, lambda r: quantities.figure(r.vram_free_gib), 9),
    Column("age_s", "AGE", lambda r: r.age_s, lambda r: quantities.seconds(r.age_s), 7),
    Column("nat", "", lambda r: r.nat, lambda r: r.nat or quantities.UNMEASURED),
    Column("nat_age_s", "", lambda r: r.nat_age_s, lambda r: quantities.seconds(r.nat_age_s)),
)


def run(args: argparse.Namespace) -> int:
    source = open_source(args)
    model, load = question(args)
    width = table_width()

    def write(swarm: Swarm, previous: Analysis | None) -> Analysis:
        with progress(f"planning {model.name} on {len(swarm)} nodes"):
            found = analyse(swarm, model, load, previous)
        if args.json:
            text = plain.dumps(as_object(swarm, found)) + "\n"
        elif args.csv:
            text = as_csv(found, header=previous is None)
        else:
            text = as_table(swarm, found, width) + ("\n" if args.stream else "")
        sys.stdout.write(text)
        sys.stdout.flush()
        return found

    if args.stream:
        asyncio.run(_stream(source, write))
        return 0
    write(one_frame(source), None)
    return 0


async def _stream(source: Source, write: Callable[[Swarm, Analysis | None], Analysis]) -> None:
    """Each new state as it comes; a state that came while the last was worked out is skipped for the newest."""
    previous: Analysis | None = None
    frames = cast("AsyncGenerator[Swarm, None]", source.frames())
    try:
        async for swarm in frames:
            previous = await asyncio.to_thread(write, swarm, previous)
    finally:
        await frames.aclose()
        await source.close()


# ---------------------------------------------------------------- the three forms


def as_object(swarm: Swarm, found: Analysis) -> dict[str, object]:
    """Plain numbers; null where something is not known."""
    speed = found.plan.prediction.tokens_per_s if found.plan else None
    return {
        "time": iso_utc(swarm.at_ns) if swarm.at_ns else None,
        "collector": swarm.source,
        "model": found.model,
        "weights": found.weights,
        "engine": found.engine,
        "tokens_per_s": {"p5": speed.p5, "p50": speed.p50, "p95": speed.p95} if speed else None,
        "links": _links(swarm),
        "nodes": [{c.key: c.value(row) for c in COLUMNS} for row in found.rows],
    }


def _links(swarm: Swarm) -> list[dict[str, object]] | None:
    """Each measured or tried pair: its path, why it has none, round trip and what kind of figure that is. None: too
    many to list; `swarmtop export --kind link` has them."""
    if len(swarm) > LISTED_NODES:
        return None
    links = swarm.links
    return [
        {
            "src": swarm.facts[i].name,
            "dst": swarm.facts[j].name,
            "path": Path(int(links["path"][i, j])).name.lower(),
            "why": Why(int(links["why"][i, j])).name.lower().replace("_", "-") if links["why"][i, j] else None,
            "kind": Kind(int(links["kind"][i, j])).name.lower(),
            "rtt_p50_ms": quantities.optional(links["rtt_p50_ms"][i, j]),
            "loss": quantities.optional(links["loss"][i, j]),
            "hop_p50_ms": quantities.optional(links["hop_p50_ms"][i, j]),
            "hop_transport": Transport(int(links["hop_transport"][i, j])).name.lower()
            if links["hop_bytes"][i, j]
            else None,
            "age_s": quantities.age_s(int(links["at_ns"][i, j]), swarm.at_ns),
        }
        for i, j in np.argwhere((links["kind"] != Kind.NONE) | (links["at_ns"] > 0)).tolist()
        if i != j
    ]


def as_csv(found: Analysis, *, header: bool = True) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow([c.key for c in COLUMNS])
    writer.writerows([plain.cell(c.value(row)) for c in COLUMNS] for row in found.rows)
    return out.getvalue()


def as_table(swarm: Swarm, found: Analysis, width: int | None) -> str:
    """For people: a headline, the ranking, and what is missing."""
    cells = [[c.text(row) for c in COLUMNS] for row in found.rows]
    widths = [max([len(c.title), *(quantities.width(line[i]) for line in cells)]) for i, c in enumerate(COLUMNS)]
    shown = _columns_that_fit(widths, width)
    table = [
        "  ".join(quantities.pad(line[i], widths[i], right=COLUMNS[i].right) for i in shown).rstrip()
        for line in ([c.title for c in COLUMNS], *cells)
    ]
    if not found.rows:
        table.append("`swarmtop invite` prints the line that volunteers paste")
    remarks = ([found.why_not] if found.why_not else []) + [n for n in found.notes if n != found.why_not]
    lines = [*_folded(headline(swarm, found), width), ""]
    lines += table if width is None else [quantities.fit(line, width) for line in table]
    if remarks:
        lines += ["", *(line for remark in remarks for line in _folded(remark, width))]
    return "\n".join(lines) + "\n"


def _folded(text: str, width: int | None) -> list[str]:
    """What is said in words is never cut, only folded."""
    return [text] if width is None else textwrap.wrap(text, width, break_on_hyphens=False)


def headline(swarm: Swarm, found: Analysis) -> str:
    when = f" · {quantities.moment(swarm.at_ns)}" if swarm.at_ns else ""
    speed = found.plan.prediction.tokens_per_s if found.plan else None
    rate = quantities.spread(speed.p5, speed.p50, speed.p95, "tok/s") if speed else "no plan"
    return f"{safe(swarm.source)}{when} · {found.model} {found.weights} {found.engine} · {rate}"


def _columns_that_fit(widths: list[int], width: int | None) -> list[int]:
    shown = [i for i, column in enumerate(COLUMNS) if column.title]
    while width is not None and sum(widths[i] + 2 for i in shown) - 2 > width:
        goes = max(shown, key=lambda i: COLUMNS[i].keep)
        if COLUMNS[goes].keep == 0:
            break
        shown.remove(goes)
    return shown
