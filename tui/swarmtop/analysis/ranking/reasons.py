"""Explain what a node does to the swarm and why: the sentences of the ranking, the same on every screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmtop.dashboard.lines.charts.series import bar
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, line, pad, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

if TYPE_CHECKING:
    from swarmtop.analysis.ranking.node_rows import Row

LONGEST_BAR = 40  # longer ones shout
HEADING: Line = (("per token, if this were typical", "dim"),)


def causes(row: Row) -> list[tuple[str, float]]:
    """Return (cause, ms a token would save if it were typical), the named one first; only causes with a saving."""
    return [(cause, ms) for cause, ms in row.cause_ms.items() if ms > 0]


def no_reason(view: View, row: int) -> str:
    """Return why a node's effect is not known."""
    if view.analysis is None:
        return "its links are being read…" if view.swarm.unread else "planning…"
    if view.analysis.plan is None:
        return f"no placement to compare with: {clean(view.analysis.why_not or 'not known', 200)}"
    note = view.swarm.facts[row].note
    return clean(note) if note else "what it does to the swarm cannot be known from what is measured"


def why_of(view: View, row: int) -> str:
    """Return the reason in one line, as in the ranking, or why there is none."""
    found = view.ranked.get(view.swarm.facts[row].name)
    if found is None or (found.role == "out" and view.plan is None):
        return no_reason(view, row)
    note = view.swarm.facts[row].note
    return clean(note if note and found.role == "out" else found.why, 300)


def why_line(view: View, row: int, rank: int, width: int) -> Line:
    """Return `why #1 kiln  rtt: typical here would give +3.10 tok/s; re-planned without it +1.20 tok/s`."""
    name = view.swarm.facts[row].name
    head: list[Span] = [(" why ", "dim"), (f"#{rank} {clean(name, 40)}", "strong"), ("  ", "")]
    found = view.ranked.get(name)
    return (*head, (why_of(view, row), "" if found is not None and found.role == "in" else "dim"))


def reason_lines(view: View, row: int, width: int, most: int = 4) -> Block:
    """Return why the node has its rank, and a bar for each cause: what a token would save if that were typical."""
    found = view.ranked.get(view.swarm.facts[row].name)
    known = found is not None and found.role == "in"
    block: Block = list(wrap(why_of(view, row), width, "strong" if known else "dim"))[:5]
    parts = causes(found)[:most] if found is not None else []
    if parts:
        block.append(HEADING)
    top = max((ms for _, ms in parts), default=0.0)
    for cause, ms in parts:
        room = max(4, min(LONGEST_BAR, width - 22))
        block.append(line((f" {pad(cause, 9)}", "dim"), f"{pad('−' + quantities.ms(ms), 10, '>')} ",
                          (bar(ms / top, room), cause_role(cause))))  # fmt: skip
    return block


def whole(block: Block) -> Block:
    """Reasons cut to the lines there are: without the heading where no bar is left below it."""
    return block[:-1] if block and block[-1] == HEADING else block


def cause_role(cause: str) -> str:
    return "compute" if cause in ("compute", "memory") else "overhead" if cause == "overhead" else "network"
