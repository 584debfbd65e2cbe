"""The lines above and below the ranking: the swarm at a glance, the chosen node's cost, events."""

from __future__ import annotations

import numpy as np

from swarm_protocol.snapshot.swarm import Event
from swarmtop.analysis.reasons import reason_lines, why_line
from swarmtop.analysis.states import GLYPH
from swarmtop.dashboard.lines.styled import (  # fmt: skip
    Block,
    Line,
    beside,
    box,
    clean,
    fill_line,
    height,
    line,
    rule,
    separated,
    spread,
    wrap,
)
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

_WORDS = ("ok", "slow", "degraded", "stale", "lost", "unknown")

EVENT_GLYPH = {
    "joined": "+", "back": "+", "left": "-", "lost": "x", "refused": "x", "disk": "!", "spool_gap": "!", "clock": "!",
    "udp_off": "!", "torch_missing": "!", "compute_failed": "!", "throttled": "!", "running": "▶",
    "degraded": "▲", "recovered": "▼", "improved": "▼", "settled": "·",
}  # fmt: skip
_EVENT_ROLE = {
    "+": "ok", "-": "left", "x": "lost", "!": "warn", "·": "dim", "▲": "slow", "▼": "ok", "▶": "strong",
}  # fmt: skip


def summary(view: View, width: int) -> Line:
    """Counts by state, then the swarm's own figures."""
    words = view.words
    # a swarm written by hand has no states to count, but who is slow
    told = [word for word in _WORDS if words.count(word) and not (word == "unknown" and view.standing == "file")]
    counts = separated(((f"{GLYPH[word]}{words.count(word)} {word}", word),) for word in told)
    figures = view.figures
    parts = [counts]
    if figures.links_measured:
        p99 = f" p99 {quantities.figure(figures.links_p99_ms)}" if quantities.known(figures.links_p99_ms) else ""
        parts.append(line(("median link ", "dim"), f"p50 {quantities.figure(figures.links_p50_ms)}{p99} ms"))
        parts.append(line(("loss ", "dim"), quantities.percent(figures.links_loss)))
    pairs = len(view.swarm) * (len(view.swarm) - 1)
    if pairs:
        parts.append(line(("links measured ", "dim"), f"{figures.links_measured} of {pairs}"))
    layer = view.figures.layer_ms[np.isfinite(view.figures.layer_ms)]
    if len(layer):
        parts.append(line(("layer median ", "dim"), quantities.ms(float(np.median(layer)))))
    return fill_line(parts, width, " │ ")


def filter_line(view: View, text: str, shown: int, sort: str, width: int, problem: str = "") -> Line:
    left = line(("filter: ", "dim"), clean(text, 100)) if text else about(view)
    if problem:
        left = line((problem, "error"))
    right = fill_line(
        [line(("sort ", "dim"), sort), line(f"{shown} of {len(view.swarm)} nodes")], max(0, width - 24), "  "
    )
    return spread(left, right, width)


def about(view: View) -> Line:
    """What the ranking is about, in a line: the placement that runs, or the best plan that stands for it."""
    if view.note:
        return line((f"{clean(view.note)}; w changes it", "warn"))
    if view.analysis is None or (view.plan is None and view.analysis.running is None):
        return line(("by round trip, loss and layer time until there is a plan", "dim"))
    now = view.analysis.running
    if now is None:
        return line(("what runs is not told: the plan stands for it", "dim"))
    if not now.placement or now.why_not:
        return line((clean(now.why_not, 200), "warn"))
    return line(("by what the swarm would win; runs as told by ", "dim"), clean(now.told.source or "somebody", 60))


def nobody_matches(text: str) -> Line:
    """In place of the list, where a filter leaves nobody."""
    return line(("      no node matches ", "warn"), (clean(text, 100), "strong"), ("; Esc drops the filter", "warn"))


def event_line(view: View, event: Event, *, node: bool = True) -> Line:
    glyph = EVENT_GLYPH.get(event.kind, "·")
    who = f"{clean(event.node, 40)} " if node and event.node else ""
    if event.kind in ("degraded", "recovered"):  # the sign says it, and the numbers are what matters
        who = f"{who.strip()}: " if who else ""
        return (
            (view.clock(event.at_ns) + " ", "dim"),
            (f"{glyph} ", _EVENT_ROLE[glyph]),
            (who, "strong"),
            (clean(event.detail, 300), ""),
        )
    return (
        (view.clock(event.at_ns) + " ", "dim"),
        (f"{glyph} ", _EVENT_ROLE[glyph]),
        (who, "strong"),
        (clean(event.kind, 20).replace("_", " "), ""),
        (f" {clean(event.detail, 300)}" if event.detail else "", "dim"),
    )


def bottom(view: View, row: int | None, rank: int, width: int, rows: int) -> Block:
    """Below the ranking: one `reasons` and one events line where it is narrow, two boxes where there is room."""
    nobody = line((" no node matches the filter", "dim"))
    if rows >= 6 and width >= 110:
        left = width // 2
        title = clean(view.swarm.facts[row].name, 40) if row is not None else "no node"
        chosen = box(title, _chosen(view, row, left - 4) if row is not None else [nobody], left, rows)
        happened = [event_line(view, e) for e in view.events[: rows - 2]] or [_no_events()]
        return beside([(chosen, left), (box("events", happened, width - left, rows), width - left)])
    events = [event_line(view, e) for e in view.events[:2]]
    return height([
        rule(width),
        why_line(view, row, rank, width) if row is not None else nobody,
        line(" ") + separated(events, "   ") if events else line(" ", _no_events()[0]),
    ], rows)  # fmt: skip


def _no_events() -> Line:
    return line(("no events yet", "dim"))


def _chosen(view: View, row: int, width: int) -> Block:
    facts = view.swarm.facts[row]
    block = reason_lines(view, row, width, most=3)
    worst = int(view.figures.worst[row])
    if worst >= 0:
        p99 = quantities.ms(quantities.optional(float(view.figures.rtt99_ms[row])))
        block.append(line(("worst peer ", "dim"), clean(view.swarm.facts[worst].name, 40), f"  p99 {p99}"))
    if facts.note:
        block.extend(wrap(clean(facts.note), width, "warn"))
    return block


def first_run(view: View | None, join_hint: str, title: str, width: int, rows: int) -> Block:
    """An empty swarm: what to do so that it fills, and what will appear."""
    block: Block = [(), line((f" No machine has joined {clean(title, 60)} yet.", "strong")), ()]
    if join_hint:
        block += [line(" On each GPU machine, paste:"), (), line("   ", (clean(join_hint, 300), "key")), ()]
    else:
        block += [line(" ", ("swarmtop invite", "key"), " prints the line that volunteers paste."), ()]
    block += wrap_indented(
        "What will appear: each machine within seconds; its round trips, jitter and loss after the first window; "
        "upload and layer times in the minutes after; then the best placement, and who holds it back.",
        width,
    )
    if view is not None and view.events:
        block += [(), line((" so far", "dim"))] + [line(" ", *event_line(view, e)) for e in view.events[:4]]
    return height(block, rows)


def nobody_yet(view: View, width: int) -> Block:
    """A moment of a recording at which no machine was there."""
    return [
        (),
        line((f" At {view.date_clock(view.swarm.at_ns)} no machine had joined {clean(view.title, 60)} yet.", "strong")),
        (),
        *wrap_indented("t and j step on, L leads to the end of the recording.", width),
    ]


def wrap_indented(text: str, width: int) -> Block:
    return [line(" ", *row) for row in wrap(text, max(10, width - 2))]


def progress(view: View) -> Line:
    """How far the first measurements are; empty once every node has all of its own."""
    n = len(view.swarm)
    if view.standing == "file" or n == 0:
        return ()
    steps = [
        ("round trips", int(np.isfinite(view.figures.rtt50_ms).sum()) if n > 1 else n),
        ("upload", int(np.isfinite(view.figures.up_mbps).sum()) if n > 1 else n),
        ("layer times", int(np.isfinite(view.figures.layer_ms).sum())),
    ]
    missing = [(what, count) for what, count in steps if count < n]
    if not missing:
        return ()
    parts = [line(f"{what} ", (f"{count}/{n}", "strong")) for what, count in missing]
    return line((" measuring  ", "dim"), *separated(parts, " · "))
