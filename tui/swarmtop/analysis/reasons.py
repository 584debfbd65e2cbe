"""What a node does to the swarm and why, in words: the sentences of the ranking, on every screen the same.

A cause's milliseconds are what a token would win were that one thing of the node typical; causes overlap, so they are
never shown as shares of the whole.
"""

from __future__ import annotations

from swarmtop.analysis.node_rows import Row
from swarmtop.dashboard.lines.charts import bar
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, line, pad, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

LONGEST_BAR = 40  # longer ones shout


def causes(row: Row) -> list[tuple[str, float]]:
    """(cause, ms a token would win were it typical), the one that is named first; only what would win anything."""
    return [(cause, ms) for cause, ms in row.cause_ms.items() if ms > 0]


def no_reason(view: View, row: int) -> str:
    """Why nothing is known of a node's part."""
    if view.analysis is None:
        return "planning…"
    if view.analysis.plan is None:
        return f"no placement to compare with: {clean(view.analysis.why_not or 'not known', 200)}"
    note = view.swarm.facts[row].note
    return clean(note) if note else "what it does to the swarm cannot be known from what is measured"


def why_of(view: View, row: int) -> str:
    """The one line of the ranking, or why there is none."""
    found = view.ranked.get(view.swarm.facts[row].name)
    if found is None or (found.role == "out" and view.plan is None):
        return no_reason(view, row)
    note = view.swarm.facts[row].note
    return clean(note if note and found.role == "out" else found.why, 300)


def why_line(view: View, row: int, rank: int, width: int) -> Line:
    """`why #1 kiln  rtt: typical here would give +3.10 tok/s; re-planned without it +1.20 tok/s`."""
    name = view.swarm.facts[row].name
    head: list[Span] = [(" why ", "dim"), (f"#{rank} {clean(name, 40)}", "strong"), ("  ", "")]
    found = view.ranked.get(name)
    return (*head, (why_of(view, row), "" if found is not None and found.role == "in" else "dim"))


def reason_lines(view: View, row: int, width: int, most: int = 4) -> Block:
    """Why it stands where it does, and a bar for each cause: what a token would win were that typical."""
    found = view.ranked.get(view.swarm.facts[row].name)
    known = found is not None and found.role == "in"
    block: Block = list(wrap(why_of(view, row), width, "strong" if known else "dim"))[:5]
    parts = causes(found)[:most] if found is not None else []
    if parts:
        block.append(line(("a token would win, were it typical in", "dim")))
    top = max((ms for _, ms in parts), default=0.0)
    for cause, ms in parts:
        room = max(4, min(LONGEST_BAR, width - 22))
        block.append(line((f" {pad(cause, 9)}", "dim"), f"{pad('−' + quantities.ms(ms), 10, '>')} ",
                          (bar(ms / top, room), cause_role(cause))))  # fmt: skip
    return block


def cause_role(cause: str) -> str:
    return "compute" if cause in ("compute", "memory") else "overhead" if cause == "overhead" else "network"
