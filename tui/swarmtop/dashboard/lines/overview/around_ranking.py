"""Draw the lines above and below the ranking: counts, a token's path, the chosen node's cost, events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_predict.types import Prediction
from swarm_protocol.snapshot.lazy_numpy import np
from swarmtop.analysis.ranking.node_figures import middle
from swarmtop.analysis.ranking.reasons import why_line, why_of
from swarmtop.analysis.ranking.states import GLYPH, NOT_WELL
from swarmtop.dashboard.lines.events import event_line
from swarmtop.dashboard.lines.overview import cards, chosen_node
from swarmtop.dashboard.lines.overview.layout import MIN_PANELS
from swarmtop.dashboard.lines.styled import (  # fmt: skip
    NARROW,
    Block,
    Line,
    beside,
    box,
    clean,
    fill_line,
    height,
    line,
    line_width,
    rule,
    separated,
    spread,
    wrap,
)
from swarmtop.dashboard.state.view import RunningSummary, View
from swarmtop.text import quantities

BOXES_ROWS: Final = 6  # lines below the ranking from which there are boxes
BOXES_WIDTH: Final = 110
THREE_WIDTH: Final = 170
FEW: Final = 2  # lines of a reason, and events, where boxes follow them
MAX_EVENTS: Final = 8  # before other boxes have their lines
SPARE: Final = 8  # lines that the boxes must leave over before there are more of them
_WORDS = ("ok", "slow", "degraded", "stale", "lost", "unknown")


def summary(view: View, width: int) -> Line:
    """Return the counts by state, then the swarm's own figures."""
    figures = view.figures
    parts = [counts(view.words, view.standing)]
    if figures.links_measured:
        p99 = f" p99 {quantities.figure(figures.links_p99_ms)}" if quantities.known(figures.links_p99_ms) else ""
        parts.append(line(("median link ", "dim"), f"p50 {quantities.figure(figures.links_p50_ms)}{p99} ms"))
        parts.append(line(("loss ", "dim"), quantities.percent(figures.links_loss)))
    pairs = len(view.swarm) * (len(view.swarm) - 1)
    if view.swarm.unread:
        parts.append(line(("links and layer times are being read…", "dim")))
    elif pairs:
        parts.append(line(("links measured ", "dim"), f"{figures.links_measured} of {pairs}"))
    layer = middle(view.figures.layer_ms)
    if quantities.known(layer):
        parts.append(line(("layer median ", "dim"), quantities.ms(layer)))
    return fill_line(parts, width, " │ ")


def counts(words: Sequence[str], standing: RunningSummary) -> Line:
    """Return how many nodes have each state; a swarm file has no states to count, except slow nodes."""
    present = [word for word in _WORDS if words.count(word) and not (word == "unknown" and standing == "file")]
    return separated(((f"{GLYPH[word]}{words.count(word)} {word}", word),) for word in present)


def filter_line(view: View, text: str, shown: int, sort: str, width: int, problem: str = "") -> Line:
    left = line(("filter: ", "dim"), clean(text, 100)) if text else about(view)
    if problem:
        left = line((problem, "error"))
    right = fill_line(
        [line(("sort ", "dim"), sort), line(f"{shown} of {len(view.swarm)} nodes")], max(0, width - 24), "  "
    )
    return spread(left, right, width)


def about(view: View) -> Line:
    """Return one line on what the ranking is about: the placement that runs or, if that is not known, the best plan."""
    if view.note:
        return line((f"{clean(view.note)}; w changes it", "warn"))
    if view.swarm.unread:
        return line(("by name until the links are read", "dim"))
    if view.analysis is None or (view.plan is None and view.analysis.running is None):
        return line(("by round trip, loss and layer time until there is a plan", "dim"))
    now = view.analysis.running
    if now is None:
        return line(("by the best plan; running placement unknown", "dim"))
    if not now.placement or now.why_not:
        return line((clean(now.why_not, 200), "warn"))
    return line(
        ("by what the swarm would gain; running placement reported by ", "dim"),
        clean(now.reported.source or "somebody", 60),
    )


def route(view: View, found: Prediction | None, width: int, rows: int, layers: int) -> Block:
    """Return a token's path through what runs, or through the plan, and below it which node holds which layers."""
    if rows < 1:
        return []
    if found is None:
        return height(
            [line((" token route", "title"), ("  reading…" if view.swarm.unread else "  planning…", "dim"))],
            rows + layers,
        )
    # imported with the first plan, which the first paint does not wait for
    from swarmtop.dashboard.lines.drawings import route_lines
    from swarmtop.dashboard.lines.drawings.coverage import coverage

    drawn = route_lines.route(found)
    title = " token route" if view.analysis is None or view.analysis.running is None else " token route, running"
    head = [] if rows < 3 else [route_lines.heading(title, drawn, found, width)]
    words = {facts.name: word for facts, word in zip(view.swarm.facts, view.words, strict=True) if word in NOT_WELL}
    block = [*head, *route_lines.strip(drawn, width, rows - len(head))]
    return [*height(block, rows), *height(coverage(found.placement, words, width, layers), layers)]


def nobody_matches(text: str) -> Line:
    """Return what is shown in place of the list if no node matches the filter."""
    return line(("      no node matches ", "warn"), (clean(text, 100), "strong"), ("; Esc clears the filter", "warn"))


def bottom(view: View, row: int | None, rank: int, width: int, rows: int) -> Block:
    """Below the ranking: lines where it is narrow; where there is room, boxes of the chosen machine's story, of all
    cards and of events, and, if lines are left, further boxes about what limits the swarm."""
    nobody = line((" no node matches the filter", "dim"))
    if rows >= BOXES_ROWS and width >= BOXES_WIDTH:
        if has_room(view, row, width, rows):
            return _panels(view, row, width, rows)
        third = width >= THREE_WIDTH and cards.shown(view)
        left = width * 2 // 5 if third else width // 2
        right = width * 3 // 10 if third else width - left
        title = chosen_node.title(view, row) if row is not None else line(("no node", "title"))
        chosen = box(title, chosen_node.story(view, row, left - 4) if row is not None else [nobody], left, rows)
        happened = [event_line(view, e) for e in view.events[: rows - 2]] or [_no_events()]
        boxes = [(chosen, left)]
        if third:
            middle = width - left - right
            boxes.append((box("cards", cards.all_cards(view, middle - 4, rows - 2), middle, rows), middle))
        return beside([*boxes, (box("events", happened, right, rows), right)])
    events = [event_line(view, e) for e in view.events[: max(1, rows - 2)]]
    why = why_line(view, row, rank, width) if row is not None else nobody
    if rows < 3:
        return [why, line(" ", *(events[0] if events else _no_events()))][:rows]
    if rows == 3:
        both = separated(events[:2], "   ") if events else _no_events()
        return [rule(width), why, line(" ", *both)]
    more = [why]
    if row is not None and line_width(why) > width:
        more = wrap_indented(f"#{rank} {clean(view.swarm.facts[row].name, 40)}: {why_of(view, row)}", width)
    more = more[: max(1, rows - 2)]
    happened = [line(" ", *event) for event in events or [_no_events()]]
    if has_room(view, row, width, rows):
        block = [rule(width), *more[:FEW], *(happened[:FEW] if events else [])]
        return [*block, *_narrow_extra(view, width, rows - len(block))]
    return height([rule(width), *more, *happened[: rows - 1 - len(more)]], rows)


def has_room(view: View, row: int | None, width: int, rows: int) -> bool:
    """Return whether the boxes of story, cards and events leave lines for more."""
    if view.analysis is None:
        return False
    if width < BOXES_WIDTH:
        return view.plan is not None and width >= NARROW and rows >= MIN_PANELS
    if rows < BOXES_ROWS + SPARE:
        return False
    story_rows = len(chosen_node.story(view, row, width * 2 // 5 - 4)) if row is not None else 1
    return rows - max(story_rows, min(len(view.events), MAX_EVENTS), len(cards.said(view))) - 2 >= SPARE


def _narrow_extra(view: View, width: int, rows: int) -> Block:
    """Draw further boxes on a screen too narrow for two columns."""
    from swarmtop.dashboard.lines.panels import box_catalogue
    from swarmtop.dashboard.lines.panels.arrange import arrange, inner_width

    return arrange(box_catalogue.on_overview(view, inner_width(width, 1)), width, rows, 1)


def _panels(view: View, row: int | None, width: int, rows: int) -> Block:
    # with the first plan, which the first paint does not wait for
    from swarmtop.dashboard.lines.panels import box_catalogue
    from swarmtop.dashboard.lines.panels.arrange import Panel, arrange, columns, inner_width

    inner = inner_width(width, columns(width))
    panels: list[Panel] = []
    if row is not None:
        story_lines = chosen_node.story(view, row, inner)
        panels.append(
            Panel(chosen_node.title(view, row), lambda _width, lines: story_lines[:lines], max(1, len(story_lines)))
        )
    own = cards.said(view)
    if own:
        panels.append(Panel("cards", lambda cells, lines: cards.all_cards(view, cells, lines), min(12, len(own)),
                            most=len(own)))  # fmt: skip
    happened = [event_line(view, e) for e in view.events[:rows]] or [_no_events()]
    if view.events or view.standing != "file":  # nothing ever happens in a file
        panels.append(Panel("events", lambda _width, lines: happened[:lines], min(MAX_EVENTS, len(happened)),
                            most=len(happened)))  # fmt: skip
    return arrange([*panels, *box_catalogue.on_overview(view, inner)], width, rows)


def _no_events() -> Line:
    return line(("no events yet", "dim"))


def first_run(view: View | None, join_hint: str, title: str, width: int, rows: int) -> Block:
    """Return what to do with an empty swarm, and what will appear."""
    block: Block = [(), line((f" No machine has joined {clean(title, 60)} yet.", "strong")), ()]
    if join_hint:
        block += [line(" On each GPU machine, paste this one line (", ("i", "key"), " copies it):"), ()]
        block += [line("   ", *row) for row in wrap(clean(join_hint, 1200), max(10, width - 6), "key")] + [()]
    else:
        block += [line(" ", ("swarmtop invite", "key"), " prints the line that volunteers paste."), ()]
    block += wrap_indented(
        "What will appear: each machine within seconds; its round trips, jitter and loss after the first window; "
        "upload and layer times in the minutes after; then the best placement, and what slows it down.",
        width,
    )
    if view is not None and view.events:
        block += [(), line((" so far", "dim"))] + [line(" ", *event_line(view, e)) for e in view.events[:4]]
    return height(block, rows)


def nobody_yet(view: View, width: int) -> Block:
    """Return what is shown at a moment of a recording without any machine."""
    return [
        (),
        line((f" At {view.date_clock(view.swarm.at_ns)} no machine had joined {clean(view.title, 60)} yet.", "strong")),
        (),
        *wrap_indented("t and j step forward, L goes to the end of the recording.", width),
    ]


def wrap_indented(text: str, width: int) -> Block:
    return [line(" ", *row) for row in wrap(text, max(10, width - 2))]


def progress(view: View) -> Line:
    """Return how far the first measurements are; empty once every node has all of its own."""
    n = len(view.swarm)
    if view.standing == "file" or n == 0:
        return ()
    if view.swarm.unread:
        return line((f" reading {view.title}: members first, then their links and layer times…", "dim"))
    steps = [
        ("round trips", int(np.isfinite(view.figures.rtt50_ms).sum()) if n > 1 else n),
        ("upload", int(np.isfinite(view.figures.up_mbps).sum()) if n > 1 else n),
        ("layer times", int(np.isfinite(view.figures.layer_ms).sum())),
    ]
    missing = [(what, count) for what, count in steps if count < n]
    if not missing:
        return ()
    parts = [line(f"{what} ", (f"{count}/{n}", "strong")) for what, count in missing]
    doing = "measured" if view.standing == "replay" else "measuring"
    return line((f" {doing}  ", "dim"), *separated(parts, " · "))
