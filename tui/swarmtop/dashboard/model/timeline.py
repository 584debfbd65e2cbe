"""What happened and when: alerts, events, and for a recording the line of time with its gaps and where one stands."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from swarm_protocol.units import NS_PER_S
from swarmtop import show
from swarmtop.dashboard.model.frame import alerts
from swarmtop.dashboard.model.lines import Block, Line, Span, beside, box, clean, fit, height, line, rule
from swarmtop.dashboard.model.mark import change_lines
from swarmtop.dashboard.model.overview import event_line
from swarmtop.dashboard.model.view import View

_RELATIVE = re.compile(r"([+-])(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


class TimeError(ValueError):
    """This is no time; one line says how to write one."""


@dataclass(frozen=True, slots=True)
class TimeState:
    event: int = 0  # line of the events' list the cursor is on


def screen(view: View, state: TimeState, width: int, rows: int) -> Block:
    strip = _not_recorded(view)
    if view.has_past:
        strip = time_line(view, width - 4 if width >= 120 else width, tall=rows >= 18)
    found = alerts(view)
    if width >= 120 and rows >= 20:
        top = rows - len(strip) - 2
        left = width * 3 // 5
        right = width - left
        pane_rows = top if view.mark is None else min(top - 4, max(3, len(found) + 2))
        pane = box("alerts now", found or [line(("none", "dim"))], right, pane_rows)
        if view.mark is not None:
            title = f"changes since the mark at {view.clock(view.mark.at_ns)}"
            pane += box(title, change_lines(view, view.mark, right - 4), right, top - pane_rows)
        return [
            *beside([
                (box("events, newest first", event_list(view, state, top - 2), left, top), left),
                (pane, right),
            ]),
            *box("time", strip, width, len(strip) + 2),
        ]  # fmt: skip
    alert_rows = min(len(found), max(1, rows // 4))
    block: Block = []
    if found:
        block += [line((" ALERTS NOW", "head")), *[line(" ", *row) for row in height(found, alert_rows)]]
    if view.mark is not None:
        since = change_lines(view, view.mark, width - 2)
        block.append(line((f" SINCE THE MARK at {view.clock(view.mark.at_ns)}", "head")))
        block += [line(" ", *row) for row in height(since, min(len(since), max(1, rows // 4)))]
    block.append(line((" EVENTS, newest first", "head")))
    block += event_list(view, state, max(1, rows - len(block) - len(strip) - 1))
    return [*height(block, rows - len(strip) - 1), rule(width), *strip]


def event_list(view: View, state: TimeState, rows: int) -> Block:
    if not view.events:
        return height([line(("   nothing has happened yet", "dim"))], rows)
    cursor = max(0, min(state.event, len(view.events) - 1))
    start = max(0, min(cursor - rows // 2, len(view.events) - rows))
    return height(
        [
            line((" > " if i == cursor else "   ", "cursor-mark"), *event_line(view, view.events[i]))
            for i in range(start, min(len(view.events), start + rows))
        ],
        rows,
    )


def _not_recorded(view: View) -> Block:
    if view.standing == "file":
        return [line((" A file written by hand has no past.", "dim"))]
    return [line((" The last minutes are kept from now on; swarmtop --db FILE opens a whole recording.", "dim"))]


def time_line(view: View, width: int, *, tall: bool = True) -> Block:
    """From the first moment to the last: where nothing was recorded, the mark (M), and where the screen stands (▲)."""
    room = max(10, width - 2)
    first, last = view.first_ns, max(view.last_ns, view.first_ns + 1)

    def column(at_ns: int) -> int:
        return max(0, min(room - 1, (at_ns - first) * (room - 1) // (last - first)))

    track = ["─"] * room
    for start, end in view.gaps:
        for x in range(column(start), column(end) + 1):
            track[x] = "╌"
    for event in view.events:
        if first <= event.at_ns <= last:
            track[column(event.at_ns)] = "·"
    if view.mark and first <= view.mark.at_ns <= last:
        track[column(view.mark.at_ns)] = "M"
    here = column(view.swarm.at_ns)
    if not tall:
        track[here] = "▲"
    pointer: list[Span] = [(" " * (here + 1), ""), ("▲", "cursor-mark")]
    ends = view.date_clock(first), view.date_clock(last)
    middle = f"{view.date_clock(view.swarm.at_ns)}"
    gap = max(1, (room - len(ends[0]) - len(ends[1]) - len(middle)) // 2)
    gaps = f"{len(view.gaps)} gap{'' if len(view.gaps) == 1 else 's'}" if view.gaps else "no gaps"
    span = show.seconds((last - first) / NS_PER_S)
    what = clean(view.title, 60) if view.is_recording else "kept here"
    rows: list[Line] = [
        line(" ", ("".join(track), "chart")),
        tuple(pointer),
        line(" ", (ends[0], "dim"), " " * gap, (middle, "strong"), " " * gap, (ends[1], "dim")),
        line((f" {what}: {span}, {gaps} (╌ nothing recorded, · event)", "dim")),
    ]
    return [fit(row, width) for row in (rows if tall else rows[:3:2])]


def parse_time(text: str, view: View) -> int:
    """`14:02[:17]` (the day of the screen), `2026-11-23 14:02`, `-10m` (from the screen's moment). Raises TimeError."""
    words = text.strip()
    if relative := _RELATIVE.fullmatch(words):
        sign = 1 if relative[1] == "+" else -1
        return view.swarm.at_ns + sign * round(float(relative[2]) * _SECONDS[relative[3]] * NS_PER_S)
    try:
        here = dt.datetime.fromtimestamp(view.swarm.at_ns // NS_PER_S, view.zone)
        if clock := _CLOCK.fullmatch(words):
            moment = here.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0))
        else:
            moment = dt.datetime.fromisoformat(words)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=view.zone)
    except ValueError:
        raise TimeError(f"{clean(words, 30) or 'nothing'} is no time; write 14:02, 2026-11-23 14:02 or -10m") from None
    return int(moment.timestamp()) * NS_PER_S
