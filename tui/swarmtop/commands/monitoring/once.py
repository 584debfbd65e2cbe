"""`swarmtop --once`: the ranking as a table, as JSON or as CSV, without the dashboard.

One list of columns makes all three, so that a cell is the same everywhere: text in the table, the plain value in
JSON and CSV.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import dataclasses
import io
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from swarm_predict.types import Placement, Quantiles
from swarm_protocol.snapshot.estimates.pooled_loss import loss_error
from swarm_protocol.snapshot.swarm import Kind, Path, Swarm, Transport, Why
from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop.analysis.analysis import Analysis, Row, analyse
from swarmtop.analysis.ranking.states import with_glyph
from swarmtop.commands.common import one_frame, table_width
from swarmtop.parsed_options import open_question, open_source, question
from swarmtop.progress import progress
from swarmtop.sources.source import Source
from swarmtop.text import json_csv, quantities
from swarmtop.text.ascii_text import as_written

LISTED_NODES: Final = 50  # up to here every pair is measured, and there are no more than 2,450


@dataclass(frozen=True, slots=True)
class Column:
    key: str  # in JSON and CSV
    title: str  # in the table; empty: not shown there
    value: Callable[[Row], json_csv.Value]
    text: Callable[[Row], str]
    keep: int = 0  # the higher, the sooner it gives way on a narrow terminal
    right: bool = True


def without(row: Row) -> str:
    """Return the rate of the swarm re-planned without a node."""
    impossible = row.role == "in" and row.share is not None and row.without_tokens_per_s is None
    return "not possible" if impossible else quantities.figure(row.without_tokens_per_s)


def more(value: float | None) -> str:
    """`+3.10`; what would read as nothing has no sign."""
    text = quantities.figure(value)
    return text if value is None or text in ("0", "0.00") else f"+{text}"


COLUMNS: Final[tuple[Column, ...]] = (
    Column("rank", "#", lambda r: r.rank, lambda r: str(r.rank)),
    Column("name", "NODE", lambda r: r.name, lambda r: safe(r.name), right=False),
    Column("state", "STATE", lambda r: r.word, lambda r: with_glyph(r.word), right=False),
    Column("role", "ROLE", lambda r: r.role, lambda r: r.role, right=False),
    Column("share", "SHARE", lambda r: r.share, lambda r: quantities.percent(r.share), 2),
    Column("win_tokens_per_s", "GAIN tok/s", lambda r: r.win_tokens_per_s, lambda r: more(r.win_tokens_per_s)),
    Column("cause", "CAUSE", lambda r: r.cause, lambda r: r.cause or quantities.UNMEASURED, 1, right=False),
    Column("typical_tokens_per_s", "IF TYPICAL", lambda r: r.typical_tokens_per_s,
           lambda r: quantities.figure(r.typical_tokens_per_s), 3),
    Column("without_tokens_per_s", "WITHOUT", lambda r: r.without_tokens_per_s, without, 3),
    Column("cost_ms", "COST ms", lambda r: r.cost_ms, lambda r: quantities.figure(r.cost_ms), 5),
    Column("gain_ms", "", lambda r: r.gain_ms, lambda r: quantities.figure(r.gain_ms)),
    Column("in_placement", "", lambda r: r.in_placement, lambda r: "yes" if r.in_placement else "no"),
    Column("rtt_p50_ms", "RTT ms", lambda r: r.rtt_p50_ms, lambda r: quantities.figure(r.rtt_p50_ms, r.rtt_kind), 2),
    Column("jitter_ms", "JITTER ms", lambda r: r.jitter_ms, lambda r: quantities.figure(r.jitter_ms), 6),
    Column("loss", "LOSS", lambda r: r.loss, lambda r: quantities.percent(r.loss), 4),
    Column("up_mbps", "UP Mbit/s", lambda r: r.up_mbps, lambda r: quantities.figure(r.up_mbps, r.up_kind), 4),
    Column("layer_ms", "LAYER ms", lambda r: r.layer_ms, lambda r: quantities.figure(r.layer_ms), 4),
    Column("device", "DEVICE", lambda r: r.device, lambda r: safe(r.device) or quantities.UNMEASURED, 8, right=False),
    Column("vram_free_gib", "FREE GiB", lambda r: r.vram_free_gib, lambda r: quantities.figure(r.vram_free_gib), 9),
    Column("age_s", "AGE", lambda r: r.age_s, lambda r: quantities.seconds(r.age_s), 7),
    Column("nat", "", lambda r: r.nat, lambda r: r.nat or quantities.UNMEASURED),
    Column("nat_age_s", "", lambda r: r.nat_age_s, lambda r: quantities.seconds(r.nat_age_s)),
    Column("why", "WHY", lambda r: r.why, lambda r: safe(r.why, 120), 10, right=False),
)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    open_question(args)  # report an invalid question before anybody waits
    source = open_source(args)
    width = table_width()

    def write(frame: Swarm, previous: Analysis | None) -> Analysis:
        swarm, chosen = question(args, frame)
        with progress(f"planning {chosen.model.name} on {len(swarm)} nodes"):
            found = analyse(swarm, chosen.model, chosen.workload, previous)
        if chosen.note:
            found = dataclasses.replace(found, notes=(chosen.note, *found.notes))
        if args.json:
            text = json_csv.dumps(as_object(swarm, found)) + "\n"
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
    """Each new state as it comes; a state that came while the last was computed is skipped for the newest."""
    previous: Analysis | None = None
    frames = cast("AsyncGenerator[Swarm, None]", source.frames())
    try:
        async for swarm in frames:
            previous = await asyncio.to_thread(write, swarm, previous)
    finally:
        await frames.aclose()
        await source.close()


# ---------------------------------------------------------------- the three forms


SCHEMA: Final = 1  # of the JSON: raised where a key changes its meaning


def as_object(swarm: Swarm, found: Analysis) -> dict[str, object]:
    """Return plain numbers; null where something is not known. docs/reference/once.schema.json describes it."""
    best, now = found.best, found.running
    return {
        "schema": SCHEMA,
        "time": iso_utc(swarm.at_ns) if swarm.at_ns else None,
        "collector": swarm.source,
        "model": found.model,
        "weights": found.weights,
        "engine": found.engine,
        "tokens_per_s": spread_object(best.tokens_per_s) if best is not None else None,
        "running": None
        if now is None
        else {
            "placement": stages_object(now.placement),
            "source": now.reported.source,
            "engine": now.reported.engine or None,
            "tokens_per_s": spread_object(now.tokens_per_s) if now.tokens_per_s is not None else None,
            "limited_by": now.prediction.limited_by if now.prediction is not None else None,
            "why": now.why_not or None,
        },
        "best": None
        if best is None
        else {
            "placement": stages_object(best.placement),
            "tokens_per_s": spread_object(best.tokens_per_s),
            "limited_by": best.limited_by,
        },
        "why_not": found.why_not,
        "notes": list(found.notes),
        "links": _links(swarm),
        "nodes": [{c.key: c.value(row) for c in COLUMNS} for row in found.rows],
    }


def spread_object(speed: Quantiles) -> dict[str, float]:
    return {"p5": speed.p5, "p50": speed.p50, "p95": speed.p95}


def stages_object(placement: Placement) -> list[dict[str, object]]:
    """Return a placement as `predict --json` writes it."""
    return [{"node": stage.node, "first": stage.first, "last": stage.last} for stage in placement]


def _links(swarm: Swarm) -> list[dict[str, object]] | None:
    """Each measured or tried pair: its path, why it has none, round trip and what kind of figure that is. None: too
    many to list; `swarmtop export --kind link` has them."""
    if len(swarm) > LISTED_NODES:
        return None
    links = swarm.links

    def ends(i: int, j: int) -> tuple[str, str]:
        return swarm.facts[i].node_id, swarm.facts[j].node_id

    ways = {(facts.node_id, way.peer): way for facts in swarm.facts for way in facts.ways}
    return [
        {
            "src": swarm.facts[i].name,
            "dst": swarm.facts[j].name,
            "path": Path(int(links["path"][i, j])).name.lower(),
            "why": Why(int(links["why"][i, j])).name.lower().replace("_", "-") if links["why"][i, j] else None,
            "kind": Kind(int(links["kind"][i, j])).name.lower(),
            "rtt_p50_ms": quantities.optional(links["rtt_p50_ms"][i, j]),
            "loss": quantities.optional(links["loss"][i, j]),
            "pooled_loss": quantities.optional(links["pooled_loss"][i, j]),
            "pooled_loss_error": quantities.optional(
                float(loss_error(links["pooled_loss"][i, j], links["pooled_sent"][i, j]))
            ),
            "hop_p50_ms": quantities.optional(links["hop_p50_ms"][i, j]),
            "hop_transport": Transport(int(links["hop_transport"][i, j])).name.lower()
            if links["hop_bytes"][i, j]
            else None,
            "address": way.address or None if (way := ways.get(ends(i, j))) is not None else None,
            "interface": way.interface or None if way is not None else None,
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
    writer.writerows([json_csv.cell(c.value(row)) for c in COLUMNS] for row in found.rows)
    return out.getvalue()


def as_table(swarm: Swarm, found: Analysis, width: int | None) -> str:
    """Return text for people: a headline, the ranking, and missing measurements."""
    cells = [[as_written(c.text(row), sys.stdout) for c in COLUMNS] for row in found.rows]
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
    """Wrap a sentence; text is never cut."""
    return [text] if width is None else textwrap.wrap(text, width, break_on_hyphens=False)


def headline(swarm: Swarm, found: Analysis) -> str:
    when = f" · {quantities.moment(swarm.at_ns)}" if swarm.at_ns else ""
    return f"{safe(swarm.source)}{when} · {found.model} {found.weights} {found.engine} · {found.headline()}"


def _columns_that_fit(widths: list[int], width: int | None) -> list[int]:
    shown = [i for i, column in enumerate(COLUMNS) if column.title]
    while width is not None and sum(widths[i] + 2 for i in shown) - 2 > width:
        goes = max(shown, key=lambda i: COLUMNS[i].keep)
        if COLUMNS[goes].keep == 0:
            break
        shown.remove(goes)
    return shown
