"""Draw the members before the first frame: what a source knows at once, in the rows where the ranking will be.

It needs no figures and therefore no numpy. Members are in order of their names, what is not known yet is "…".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_protocol.snapshot.swarm import Member
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.analysis.ranking.states import with_glyph, word_of
from swarmtop.dashboard.lines.columns import MIN_BAR, choose, offered
from swarmtop.dashboard.lines.overview import around_ranking, ranking
from swarmtop.dashboard.lines.overview.layout import heights
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, height, line, pad, spread
from swarmtop.dashboard.state.view import RunningSummary
from swarmtop.text import quantities

_UNREAD: Final[Span] = (quantities.UNREAD, "dim")


def screen(
    members: Sequence[Member], standing: RunningSummary, names: Sequence[str], sort: str, width: int, rows: int
) -> Block:
    """Return all lines between header and status line. `names`: the columns that a person chose; empty: all."""
    share = heights(width, rows, len(members), chart=standing != "file", way=True)
    chosen = choose(width - ranking.MARGIN - 1, offered(names, marked=False, past=standing != "file"))
    route = line((" token route", "title"), ("  reading…", "dim"))
    block = [*_summary(members, standing, sort, width), *height([], share.chart)]
    block += height([route], share.way + share.layers) if share.way else []
    if share.head > 1:
        block.append(ranking.group_line(chosen))
    block.append(ranking.header(chosen, sort, False))
    room = max(0, rows - len(block) - share.below)
    for rank, member in enumerate(sorted(members, key=lambda member: member.name)[:room], 1):
        block.append(_row(member, chosen, rank))
    return block


def _summary(members: Sequence[Member], standing: RunningSummary, sort: str, width: int) -> Block:
    words = [word_of(member.state) for member in members]
    counts = around_ranking.counts(words, standing)
    above = line(*counts, (" │ " if counts else "", "dim"), ("figures are being read…", "dim"))
    count = line(("sort ", "dim"), f"{sort}  {len(members)} of {len(members)} nodes")
    return [above, spread(line(("by name until the links are read", "dim")), count, width)]


def _row(member: Member, chosen: ranking.Chosen, rank: int) -> Line:
    cells = _cells(member)
    spans: list[Span] = [(">" if rank == 1 else " ", "cursor-mark"), (f"{rank:>4} ", "dim")]
    for column, width in chosen:
        text, role = cells.get(column.name, _UNREAD)
        barred = column.part is not None and width - column.width >= MIN_BAR
        shown = pad(pad(text, column.width, column.align), width) if barred else pad(text, width, column.align)
        spans += [(shown, role), (" ", "")]
    return tuple(spans)


def _cells(member: Member) -> dict[str, Span]:
    word = word_of(member.state)
    faded = word in ("stale", "lost")
    memory_gib = None if member.memory_bytes is None else member.memory_bytes / BYTES_PER_GIB
    figures = {"vram": memory_gib, "up": member.up_mbps, "down": member.down_mbps}
    found: dict[str, Span] = {
        "node": (clean(member.name), "faded" if faded else "name"),
        "state": (with_glyph(word), word),
    }
    found |= {name: (clean(text), "dim") for name, text in (("region", member.region),) if text}
    found |= {"device": (clean(member.device), "faded" if faded else "")} if member.device else {}
    found |= {name: (quantities.figure(value), "") for name, value in figures.items() if value is not None}
    return found
