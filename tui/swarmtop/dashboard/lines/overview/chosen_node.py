"""Describe the chosen node: its rank, its effect on the swarm, the cause, since when, and its last minute."""

from __future__ import annotations

from swarm_protocol.snapshot.open_changes import open_changes
from swarmtop.analysis.ranking.reasons import reason_lines
from swarmtop.analysis.ranking.states import GLYPH
from swarmtop.dashboard.lines.charts.series import rise
from swarmtop.dashboard.lines.styled import Block, Line, clean, fill_line, line, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

MINUTE: int = 24  # cells of the last minute's round trips


def title(view: View, row: int) -> Line:
    """Return `limper ▲ slow  stage 2, layers 3-5  56% of a token`."""
    facts, word = view.swarm.facts[row], view.word(row)
    found = view.ranked.get(facts.name)
    placement = view.analysis.placement if view.analysis is not None else ()
    at = next((f"stage {i}, layers {s.first}-{s.last}" for i, s in enumerate(placement, 1) if s.node == facts.name), "")
    share = f"{quantities.percent(found.share)} of a token" if found is not None and found.share is not None else ""
    role = "spare" if found is not None and found.role == "spare" else ""
    parts = [line((clean(facts.name, 40), "title"), " ", (f"{GLYPH[word]} {word}", word))]
    return fill_line([*parts, *[line((text, "dim")) for text in (at or role, share) if text]], 80, "  ")


def story(view: View, row: int, width: int) -> Block:
    facts = view.swarm.facts[row]
    block = reason_lines(view, row, width, most=3)
    for change in open_changes(reversed(view.events)):
        if change.node == facts.name:
            block += [line((f"since {view.clock(change.at_ns)} ", "slow"), *wrap_first(change.detail, width - 15))]
            break
    worst = int(view.figures.worst[row])
    if worst >= 0:
        p99 = quantities.ms(quantities.optional(float(view.figures.rtt99_ms[row])))
        peer = clean(view.swarm.facts[worst].name, 30)
        minute = rise(view.recent.series(facts.node_id), MINUTE // 2)
        block.append(fill_line([
            line(("worst path to ", "dim"), peer, f" p99 {p99}"), line(("last minute ", "dim"), (minute, "spark")),
        ], width))  # fmt: skip
    if facts.note:
        block.extend(wrap(clean(facts.note), width, "warn"))
    return block


def wrap_first(text: str, width: int) -> Line:
    """Return the first line of a text, with an ellipsis if it continues."""
    rows = wrap(clean(text, 300), max(10, width))
    return rows[0] if len(rows) == 1 else (*rows[0][:-1], (rows[0][-1][0] + " …", rows[0][-1][1])) if rows else ()
