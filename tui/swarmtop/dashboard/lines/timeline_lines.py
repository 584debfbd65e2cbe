"""Draw what happened and when: alerts, events, and for a recording its time line with gaps and the moment shown."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.lines.charts.band import band
from swarmtop.dashboard.lines.charts.series import SPARK, axis_label, nice_top, spark
from swarmtop.dashboard.lines.events import MARKERS, event_line
from swarmtop.dashboard.lines.header_footer import alerts
from swarmtop.dashboard.lines.styled import Block, Line, Span, beside, box, clean, fit, height, line, pad, rule
from swarmtop.dashboard.state.mark import change_lines
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

_RELATIVE = re.compile(r"([+-])(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


SPARE: Final = 8  # lines that events and alerts must leave over before there are more boxes
MIN_SINCE: Final = 8  # lines of what changed since the mark
TALLEST_CHART: Final = 14


class TimeError(ValueError):
    """Text that is not a time; the message says how to write one."""


@dataclass(frozen=True, slots=True)
class TimeState:
    event: int = 0  # line of the event list that the cursor is on


def screen(view: View, state: TimeState, width: int, rows: int) -> Block:
    return laid_out(view, state, width, rows)[0]


def laid_out(view: View, state: TimeState, width: int, rows: int) -> tuple[Block, bool]:
    """The screen, and whether it has room for advice."""
    strip = _not_recorded(view)
    if view.has_past:
        strip = time_line(view, width - 4 if width >= 120 else width, tall=rows >= 18)
    found = alerts(view)
    if width >= 120 and rows >= 20:
        return _wide(view, state, found, strip, width, rows), _has_room(view, found, rows - len(strip) - 2)
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
    return [*height(block, rows - len(strip) - 1), rule(width), *strip], False


def _has_room(view: View, found: Block, rows: int) -> bool:
    """Return whether events and alerts leave lines for more."""
    since = MIN_SINCE if view.mark is not None else 0
    return view.analysis is not None and rows - max(len(view.events), len(found) + since) - 2 >= SPARE


def _wide(view: View, state: TimeState, found: Block, strip: Block, width: int, rows: int) -> Block:
    top = rows - len(strip) - 2
    left = width * 3 // 5
    right = width - left
    low: Block = []
    if _has_room(view, found, top):
        since = MIN_SINCE if view.mark is not None else 0
        needed = max(len(view.events), len(found) + since, 1) + 2
        tall = min(TALLEST_CHART, max(0, (top - needed) // 2)) if view.has_past else 0
        low = _more(view, width, top - needed - tall + bool(tall))
        if tall:  # and whatever the boxes leave
            blank = next((y for y, row in enumerate(reversed(low)) if any(text.strip() for text, _ in row)), len(low))
            low = low[: len(low) - blank]
            strip = time_line(view, width - 4, tall=True, chart_rows=tall + blank)
        top = needed
    pane_rows = top if view.mark is None else min(top - 4, max(3, len(found) + 2))
    pane = box("alerts now", found or [line(("none", "dim"))], right, pane_rows)
    if view.mark is not None:
        title = f"changes since the mark at {view.clock(view.mark.at_ns)}"
        pane += box(title, change_lines(view, view.mark, right - 4), right, top - pane_rows)
    happened = box("events, newest first", event_list(view, state, top - 2), left, top)
    return [
        *beside([(happened, left), (pane, right)]),
        *low,
        *box("time", strip, width, len(strip) + 2),
    ]


def _more(view: View, width: int, rows: int) -> Block:
    from swarmtop.dashboard.lines.panels import box_catalogue
    from swarmtop.dashboard.lines.panels.arrange import arrange, columns, inner_width

    return arrange(box_catalogue.on_time(view, inner_width(width, columns(width))), width, rows)


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
        return [line((" A swarm file has no history.", "dim"))]
    return [line((" The last minutes are kept from now on; swarmtop --db FILE opens a whole recording.", "dim"))]


LABEL: Final = 8  # before each line of time
_MARKERS: Final = {kind: mark for kind, (mark, _) in MARKERS.items() if mark in "◆◇"}
NEWEST: Final = 6  # after it: the figure of the moment shown


def time_line(view: View, width: int, *, tall: bool = True, chart_rows: int = 0) -> Block:
    """From the first moment to the last: tokens a second, who was not well, where nothing was recorded, the mark (M),
    events and where the screen stands (▲). `chart_rows`: lines of tokens a second with their spread; 0: one line."""
    room = max(10, width - LABEL - NEWEST)
    first, last = view.first_ns, max(view.last_ns, view.first_ns + 1)

    def column(at_ns: int) -> int:
        return max(0, min(room - 1, (at_ns - first) * (room - 1) // (last - first)))

    silent = {x for start, end in view.gaps for x in range(column(start), column(end) + 1)}
    track = ["╌" if x in silent else "─" for x in range(room)]
    for event in sorted(
        view.events, key=lambda event: _MARKERS.get(event.kind, "") != ""
    ):  # changes are drawn over other events
        if first <= event.at_ns <= last:
            track[column(event.at_ns)] = _MARKERS.get(event.kind, "·")
    if view.mark and first <= view.mark.at_ns <= last:
        track[column(view.mark.at_ns)] = "M"
    here = column(view.swarm.at_ns)
    track[here] = "▲"
    before, after = "".join(track[:here]), "".join(track[here + 1 :])
    rows: list[Line] = _charts(view, room, silent, chart_rows) if tall else []
    rows.append(line(" " * LABEL, (before, "chart"), ("▲", "cursor-mark"), (after, "chart")))
    rows.append(line(" " * LABEL, *_ends(view, first, last, here, room)))
    if tall:
        gaps = f"{len(view.gaps)} gap{'' if len(view.gaps) == 1 else 's'}" if view.gaps else "no gaps"
        what = clean(view.title, 60) if view.is_recording else "kept here"
        looks = f"planned at {len(view.rates)} moment{'' if len(view.rates) == 1 else 's'}"
        span = quantities.seconds((last - first) / NS_PER_S)
        rows.append(
            line(
                (
                    f" {what}: {span}, {gaps}, {looks} (╌ nothing recorded, · event, ◆ ◇ change and its end, M mark)",
                    "dim",
                )
            )
        )
    return [fit(row, width) for row in rows]


MIN_CHART: Final = 4  # lines below which a line of blocks says as much


def _charts(view: View, room: int, silent: set[int], rows: int = 0) -> list[Line]:
    """Tokens a second and the nodes that are not well; each answer stands until the next, but over no gap."""
    found = view.rates.over(view.first_ns, max(view.last_ns, view.first_ns + 1), room)
    for x in range(1, room):
        if found[x] is None and x not in silent and x - 1 not in silent:
            found[x] = found[x - 1]
    now = next((rate for rate in view.rates.over(view.swarm.at_ns, view.swarm.at_ns, 1) if rate), None)

    def drawn(values: list[float | None], top: float | None) -> str:
        text = spark(values, room, top)
        return "".join("╌" if x in silent else c for x, c in enumerate(text))

    zero_glyph = str.maketrans({SPARK[0]: "·"})  # its own glyph: all nodes are well
    speed = [rate.tokens_per_s if rate else None for rate in found]
    not_ok = [rate.not_well + 1.0 if rate and rate.not_well else 0.0 if rate else None for rate in found]
    most = float(min(8, max(4, len(view.swarm))))
    figure = quantities.figure(now.tokens_per_s) if now else quantities.UNMEASURED
    count = str(now.not_well) if now else quantities.UNMEASURED
    not_ok_line = line((pad(" not ok", LABEL), "dim"), (drawn(not_ok, most).translate(zero_glyph), "warn"),
                    (pad(count, NEWEST, ">"), "strong"))  # fmt: skip
    highest = max((rate.high or rate.tokens_per_s or 0.0 for rate in found if rate), default=0.0)
    if rows >= MIN_CHART and highest > 0:
        lows, highs = [rate.low if rate else None for rate in found], [rate.high if rate else None for rate in found]
        top = nice_top(highest)
        block: list[Line] = []
        for y, row in enumerate(band(lows, speed, highs, room, rows, top)):
            label = axis_label(top) if y == 0 else "tok/s" if y == 1 else "0" if y == rows - 1 else ""
            end = (pad(figure, NEWEST, ">"), "strong") if y == rows // 2 else ("", "")
            block.append((*line((pad(label, LABEL - 2, ">") + " ┤", "dim")), *fit(row, room), end))
        return [*block, not_ok_line]
    return [
        line((pad(" tok/s", LABEL), "dim"), (drawn(speed, None), "spark"), (pad(figure, NEWEST, ">"), "strong")),
        not_ok_line,
    ]  # fmt: skip


def _ends(view: View, first: int, last: int, here: int, room: int) -> list[Span]:
    """Return the first and last moment below the ends, and the moment shown below the ▲, if there is room between
    them."""
    long = room >= 90
    write = view.date_clock if long else view.clock
    left, middle, right = write(first), write(view.swarm.at_ns), write(last)
    at = max(0, min(room - len(middle), here - len(middle) // 2))
    row = [(0, left, "dim"), (room - len(right), right, "dim")]
    if view.swarm.at_ns < last:
        row = [part for part in row if part[0] + len(part[1]) < at or part[0] > at + len(middle)]
        row.append((at, middle, "strong"))
    spans: list[Span] = []
    x = 0
    for start, text, role in sorted(row):
        spans += [(" " * (start - x), ""), (text, role)]
        x = start + len(text)
    return spans


def parse_time(text: str, view: View) -> int:
    """Parse `14:02[:17]` (on the day of the screen), `2026-11-23 14:02`, `-10m` (before the screen's moment). Raises
    TimeError."""
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
        raise TimeError(
            f"{clean(words, 30) or 'nothing'} is not a time; write 14:02, 2026-11-23 14:02 or -10m"
        ) from None
    return int(moment.timestamp()) * NS_PER_S
