"""Draw the headline: tokens a second of what runs, now and over the last minutes, with the interval and the events."""

from __future__ import annotations

from typing import Final

from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.lines.charts.band import band
from swarmtop.dashboard.lines.charts.digits import digits
from swarmtop.dashboard.lines.charts.series import axis_label, nice_top, parts_of_axis
from swarmtop.dashboard.lines.events import MARKERS
from swarmtop.dashboard.lines.styled import BLANK, Block, Line, Span, beside, fill_line, fit, height, line, pad
from swarmtop.dashboard.state.plan_history import Rate
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

WINDOWS_S: Final = (60, 120, 300, 600)  # of the chart: the shortest that contains what is known
SLOTS: Final = 120  # of a window, so that a steady chart is redrawn only every few seconds
AXIS: Final = 6  # cells before the chart
PANEL: Final = 34  # cells of the figure beside it
MIN_ROWS: Final = 4  # title, two of the chart, axis


def shown(view: View) -> bool:
    """Return whether there is, or will soon be, a speed to show over time."""
    return view.standing != "file" and (view.analysis is None or view.analysis.stands is not None or view.rates.known)


def headline(view: View, width: int, rows: int) -> Block:
    """Return `rows` lines: the chart and, if there is room, the figure in large digits beside it."""
    if rows < 7 or width < 100:
        return [fit(_title(view, width), width), *chart(view, width, rows - 1)]
    legend = line((" " * (AXIS + 1), ""), ("tokens/s ", "title"), ("⠒ ", "chart"), ("median  ", "dim"),
                  ("⠅ ", "band"), (f"p5 … p95   {_window_words(view)}", "dim"))  # fmt: skip
    drawn = [legend, *chart(view, width - PANEL, rows - 1)]
    return beside([(_panel(view, rows), PANEL), (drawn, width - PANEL)])


def _title(view: View, width: int) -> Line:
    found = view.analysis.stands if view.analysis is not None else None
    if found is None:
        return line((" tokens/s", "title"), ("  planning…" if view.analysis is None else "  not known", "dim"))
    rate = found.tokens_per_s
    return fill_line(
        [
            line((" tokens/s ", "title"), (quantities.figure(rate.p50), "figure")),
            line((f"{quantities.figure(rate.p5)} … {quantities.figure(rate.p95)}", "band"), (" p5 … p95", "dim")),
            line((_window_words(view), "dim")),
        ],
        width, "  ",
    )  # fmt: skip


def _panel(view: View, rows: int) -> Block:
    analysis = view.analysis
    found = analysis.stands if analysis is not None else None
    rate = found.tokens_per_s if found is not None else None
    figure = quantities.figure(rate.p50 if rate is not None else None)
    block: Block = [line(("  ", ""), (row, "figure")) for row in digits(figure)]
    block[1] = (*block[1], ("  tokens/s", "title"))
    if analysis is None:
        block.append(line(("  planning…", "dim")))
    if rate is not None and found is not None and analysis is not None:
        block += [
            line(("  p5 … p95  ", "dim"), (f"{quantities.figure(rate.p5)} … {quantities.figure(rate.p95)}", "band")),
            line(("  a token  ", "dim"), quantities.ms(found.tpot_ms.p50)),
            line(("  limited by  ", "dim"), (found.limited_by, "warn")),
        ]
        best = analysis.best
        if best is not None and analysis.running is not None and analysis.running.placement:
            more = best.tokens_per_s.p50 / rate.p50 - 1 if rate.p50 > 0 else 0.0
            gain: Span = (f" (+{100 * more:.0f} %)", "ok") if more >= 0.01 else ("", "")
            block.append(line(("  best plan  ", "dim"), quantities.rate(best.tokens_per_s.p50), gain))
        block.append(line(("  first token  ", "dim"), quantities.ms(found.ttft_ms.p50)))
        block.append(line(("  all streams  ", "dim"), quantities.rate(found.throughput_tokens_per_s)))
    return height(block[:rows], rows)


def window_s(view: View) -> int:
    """Return the seconds of the chart: it grows with what is known, in steps."""
    since = view.rates.since_ns
    known = (view.swarm.at_ns - since) / NS_PER_S if since else 0.0
    return next((window for window in WINDOWS_S if known <= window), WINDOWS_S[-1])


def _window_words(view: View) -> str:
    seconds = window_s(view)
    return f"last {seconds // 60} min" if seconds > 60 else "last minute"


def chart(view: View, width: int, rows: int) -> Block:
    """Return the line, its band, and the events below the axis."""
    inner = max(4, width - AXIS - 2)
    slot_ns = max(1, window_s(view) // SLOTS) * NS_PER_S
    last = (view.swarm.at_ns // slot_ns + 1) * slot_ns
    slots = min(2 * inner, window_s(view) * NS_PER_S // slot_ns)
    first = last - slots * slot_ns
    found = _filled(view, first, last, slots)
    plot = max(1, rows - 1)
    highest = max((r.high or r.tokens_per_s or 0.0 for r in found if r is not None), default=0.0)
    top = nice_top(highest)
    drawn = band(
        [r.low if r else None for r in found], [r.tokens_per_s if r else None for r in found],
        [r.high if r else None for r in found], inner, plot, top,
    ) if highest > 0 else _nothing_yet(view, plot)  # fmt: skip
    step = plot // parts_of_axis(top, plot)
    block: Block = []
    for y, row in enumerate(drawn):
        level = axis_label(top * (plot - y) / plot) if highest > 0 and y % step == 0 else ""
        block.append((((pad(level, AXIS - 1, ">") + "┤"), "dim"), *row))
    return [*block, _axis(view, first, last, inner)]


def _nothing_yet(view: View, rows: int) -> Block:
    words = "planning…" if view.analysis is None else "no speed is known yet"
    return [line((f" {words}", "dim")) if y == rows // 2 else BLANK for y in range(rows)]


def _filled(view: View, first: int, last: int, slots: int) -> list[Rate | None]:
    """Return each answer repeated until the next, but not across a gap of the recording."""
    found = view.rates.over(first, last - 1, slots)
    for x in range(1, slots):
        if found[x] is None:
            at = first + (last - first) * x // slots
            silent = any(start < at < end for start, end in view.gaps)
            found[x] = None if silent or at > view.swarm.at_ns else found[x - 1]
    return found


def _axis(view: View, first: int, last: int, width: int) -> Line:
    """Return the time line with a mark for each event, and the clock at its ends."""
    track: dict[int, tuple[str, str]] = {}
    for event in sorted(view.events, key=lambda event: event.kind in MARKERS):  # changes are drawn over other events
        if first <= event.at_ns < last:
            track[(event.at_ns - first) * width // (last - first)] = MARKERS.get(event.kind, ("·", "strong"))
    left, right = view.clock(first)[:5], view.clock(view.swarm.at_ns)[:5]
    spans: list[Span] = [(pad("0", AXIS - 1, ">") + "┼", "dim")]
    for x in range(len(left) + 1, width - len(right) - 1):
        mark = track.get(x)
        if mark is None and len(spans) > 1 and spans[-1][1] == "track":
            spans[-1] = (spans[-1][0] + "─", "track")
        else:
            spans.append(mark or ("─", "track"))
    return (spans[0], (f"{left} ", "dim"), *spans[1:], (f" {right}", "dim"))
