"""Draw the matrix of all directed links: one metric as shades, pooled if there are more nodes than cells.

A row is the source, a column the destination. "?" is "no data" and never looks like a small value. If lines run out and
there are colours, a line holds two rows of the matrix (▀). `grid` decides which links a cell stands for.
"""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from swarm_protocol.csv_cells import csv_cell
from swarm_protocol.snapshot.swarm import Kind
from swarmtop.dashboard.lines.links import pictures
from swarmtop.dashboard.lines.links.grid import (
    FIGURES,
    NUMBERED,
    Grid,
    LinksState,
    Shape,
    described,
    grid,
    label,
    metric_of,
    order,
    pair,
    shape,
    share_known,
    units,
    values,
)
from swarmtop.dashboard.lines.links.pair_details import cell_details
from swarmtop.dashboard.lines.styled import (  # fmt: skip
    Block,
    Line,
    Span,
    beside,
    box,
    clean,
    fill_line,
    fit,
    height,
    line,
    pad,
    rule,
)
from swarmtop.dashboard.state.link_metrics import LinkMetric, scaled
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

SHADES = "·░▒▓█"
SIDE_SPARE = 20  # lines that the details of a cell must leave over before the worst links stand below them
MIN_PICTURES = 12  # lines of map and graph, with their frames
TALLEST = 18  # lines of distributions below the matrix
_KIND_ROLE = {Kind.BOUND: "bound", Kind.ESTIMATE: "estimate"}


def shade(value: float, metric: LinkMetric) -> Span:
    """Return the shade: more ink is worse, whichever direction of the metric is bad."""
    if np.isnan(value):
        return "?", "heat?"
    level = sum(value > limit for limit in metric.limits)
    if not metric.high_is_bad:
        level = 4 - level
    return SHADES[level], f"heat{level}"


def legend(metric: LinkMetric, *, halves: bool = False, shut: bool = False) -> Line:
    """Explain the shades; if two rows share a line, only their colours differ. `shut`: some pairs have no path."""
    limits = [f"{limit:+g}" if metric.since_mark else f"{limit:g}" for limit in metric.limits]
    shades = SHADES if metric.high_is_bad else SHADES[::-1]
    spans: list[Span] = [(" ", "")]
    for level, text in enumerate([f"≤{limit}" for limit in limits] + [f">{limits[-1]}"]):
        if (
            text[1:] in limits[: level if text[0] == "≤" else 0]
        ):  # many links with one value: skip a shade that none has
            continue
        heat = level if metric.high_is_bad else 4 - level
        spans += [("█" if halves else shades[level], f"heat{heat}"), (f"{text}  ", "dim")]
    unit = metric.unit if metric.since_mark else f"{metric.unit}, fifths of what is shown"
    spans += [(unit, "dim"), ("   █ ", "half-none") if halves else ("   ? ", "heat?"), ("no data", "dim")]
    if shut and not halves:
        spans += [("   × ", "heat?"), ("no path", "dim")]
    return tuple(spans)


def screen(view: View, state: LinksState, width: int, rows: int) -> Block:
    metric = metric_of(view, state)
    n = len(view.swarm)
    if n < 2:
        return height([(), line((" A link needs two nodes; there is " + str(n) + ".", "dim"))], rows)
    where, drawn = laid_out(view, state, width, rows)
    metric = scaled(metric, drawn.values)
    title = f"{metric.title} {metric.unit}"
    head = fit(line((f" links: {title}", "title"), (f"   {described(view, state, drawn)}, row to column", "dim"),
                    (f"   {share_known(view)} of pairs known", "dim")), width)  # fmt: skip
    body = (_halved_lines if where.halves else matrix_lines)(view, state, drawn, where, metric)
    chosen = pair(view, state, drawn)
    if where.side:
        body = _with_distributions(view, state, body, width - where.side - 4, where.high + 1)
        pane = box(title, body, width - where.side, where.high + 3)
        cell = _side(view, metric, cell_details(view, state, chosen, where.side - 4), where.side, where.high + 3)
        body = beside([(pane, width - where.side), (cell, where.side)])
    else:
        details = cell_details(view, state, chosen, width)
        body = _with_distributions(view, state, body, width, where.high + 1)
        body += [rule(width), *(details[:1] if where.details == 1 else height(details, where.details))]
    block = [
        head,
        fit(legend(metric, halves=where.halves, shut=bool(np.any(view.swarm.links["why"]))), width),
        *body,
        *([rule(width)] if where.foot == 2 else []),
        worst_line(view, metric, width),
    ]
    return height(block, rows) if len(block) <= rows else block[:rows]


def _side(view: View, metric: LinkMetric, details: Block, width: int, rows: int) -> Block:
    """The chosen cell, and below it the worst links, where it leaves lines for them."""
    left = rows - len(details) - 2
    if left < SIDE_SPARE:
        return box("cell", details, width, rows)
    from swarmtop.dashboard.lines.panels import paths  # brings drawings, as what stands below the matrix does

    worst = paths.worst(view, metric, width - 4, left - 2)
    block = box("cell", details, width, len(details) + 2)
    return block + box(f"worst {metric.title} {metric.unit}", worst, width, len(worst) + 2) if worst else block


def _with_distributions(view: View, state: LinksState, body: Block, width: int, rows: int) -> Block:
    """Add distributions of the figures below a small matrix, which would leave most of the screen empty."""
    room = rows - len(body) - 1
    if room < pictures.MIN_ROWS:
        return height(body, rows)
    tall = TALLEST if room - TALLEST >= MIN_PICTURES else room  # what is too little for a map is theirs
    drawn = [*body, (), *pictures.distributions(view, state, width, min(room, tall))]
    return height([*drawn, *_pictures(view, width, rows - len(drawn))], rows)


def _pictures(view: View, width: int, rows: int) -> Block:
    """The map and the graph, where even the distributions leave lines; each only where it shows anything."""
    from swarmtop.dashboard.lines.panels import box_catalogue
    from swarmtop.dashboard.lines.panels.arrange import arrange

    found = [*box_catalogue.world(view), *box_catalogue.graph(view)]
    return arrange(found, width, rows, len(found)) if found and rows >= MIN_PICTURES else []


def laid_out(view: View, state: LinksState, width: int, rows: int) -> tuple[Shape, Grid]:
    where = shape(units(view, state, order(view, state.group)), width, rows, state.halves)
    return where, grid(view, state, where.per_cell)


def matrix_lines(view: View, state: LinksState, drawn: Grid, where: Shape, metric: LinkMetric) -> Block:
    cell_y, cell_x = drawn.cell(state.source, state.target)
    block: Block = [_columns_line(view, state, drawn, where, cell_x)]
    for y in range(len(drawn.rows) - 1):
        chosen = y == cell_y
        text = _row_label(view, state, drawn, y)
        if where.stretch == NUMBERED:
            text = f"{y + 1:>2} {text}"
        spans: list[Span] = [(">" if chosen else " ", "cursor-mark")]
        spans += [(pad(text, where.labels), "strong" if chosen else "dim"), (" ", "")]
        for x in range(len(drawn.columns) - 1):
            itself = bool(drawn.itself[y, x])
            kind, shut = Kind.MEASURED, False
            if drawn.rows[y + 1] - drawn.rows[y] == 1 == drawn.columns[x + 1] - drawn.columns[x]:
                source, target = int(drawn.order[drawn.rows[y]]), int(drawn.order[drawn.columns[x]])
                kind, shut = kind_of(view, metric, source, target), bool(view.swarm.links["why"][source, target])
            value = float(drawn.values[y, x])
            for text, role in _cell(value, metric, where.stretch, kind, itself=itself, shut=shut):
                _extend(spans, text, "cell" if chosen and x == cell_x else role)
        block.append(tuple(spans))
    return block


def _halved_lines(view: View, state: LinksState, drawn: Grid, where: Shape, metric: LinkMetric) -> Block:
    """Return two rows of the matrix a line: the upper one in the foreground of ▀, the lower one in its background."""
    cell_y, cell_x = drawn.cell(state.source, state.target)
    count = len(drawn.rows) - 1
    heats = _heats(drawn, metric)
    block: Block = [_columns_line(view, state, drawn, where, cell_x)]
    for y in range(0, count, 2):
        chosen = cell_y in (y, y + 1)
        text = _row_label(view, state, drawn, cell_y if chosen else y)
        spans: list[Span] = [(">" if chosen else " ", "cursor-mark")]
        spans += [(pad(text, where.labels), "strong" if chosen else "dim"), (" ", "")]
        below = heats[y + 1] if y + 1 < count else ["n"] * len(heats[y])
        for x, (upper, lower) in enumerate(zip(heats[y], below, strict=True)):
            if chosen and x == cell_x:
                upper, lower = ("c", lower) if cell_y == y else (upper, "c")
            _extend(spans, "▀" * where.stretch, f"half-{upper}{lower}")
        block.append(tuple(spans))
    return block


def _heats(drawn: Grid, metric: LinkMetric) -> list[list[str]]:
    """Return a letter for each cell: its shade, `q` no data, `n` nothing (a node's link to itself)."""
    level = np.searchsorted(np.array(metric.limits), drawn.values, "left")
    if not metric.high_is_bad:
        level = 4 - level
    letters = np.array(list("01234"))[np.clip(level, 0, 4)]
    letters = np.where(np.isnan(drawn.values), "q", letters)
    return [[str(letter) for letter in row] for row in np.where(drawn.itself, "n", letters)]


def _row_label(view: View, state: LinksState, drawn: Grid, y: int) -> str:
    first = int(drawn.rows[y])
    return clean(label(view, state, drawn, first, int(drawn.rows[y + 1]) - first))


def kind_of(view: View, metric: LinkMetric, source: int, target: int) -> Kind:
    """Return the kind of this pair's figure: measured, a bound or an estimate."""
    if metric.since_mark:
        return Kind.MEASURED
    column = {"mbps": "mbps_kind", "rtt_p50_ms": "kind", "rtt_p99_ms": "kind", "jitter_ms": "kind"}.get(metric.column)
    if metric.column == "oneway_ms" and np.isfinite(view.swarm.links["oneway_error_ms"][source, target]):
        return Kind.ESTIMATE
    return Kind(int(view.swarm.links[column][source, target])) if column else Kind.MEASURED


def _columns_line(view: View, state: LinksState, drawn: Grid, where: Shape, cell_x: int) -> Line:
    """Return the line above the columns: names, numbers, or the cursor's mark alone."""
    spans: list[Span] = [(" " * (where.labels + 2), "")]
    for x in range(len(drawn.columns) - 1):
        first = int(drawn.columns[x])
        if where.stretch >= FIGURES:
            name = clean(label(view, state, drawn, first, int(drawn.columns[x + 1]) - first))
            text = pad(name, where.stretch - 1, ">") + " "
        elif where.stretch == NUMBERED:
            text = pad(str(x + 1), NUMBERED - 1, ">") + " "
        else:
            text = pad("▼" if x == cell_x else "", where.stretch)
        _extend(spans, text, "strong" if x == cell_x else "dim")
    return tuple(spans)


def _cell(value: float, metric: LinkMetric, stretch: int, kind: Kind, *, itself: bool, shut: bool) -> Line:
    """Return the shade and, if there is room, the figure beside it: undimmed if measured. `shut`: the pair has no
    path."""
    if itself:
        return ((pad("\\ " if stretch >= NUMBERED else "\\", stretch, ">"), "dim"),)
    glyph, role = shade(value, metric)
    if shut and math.isnan(value):
        glyph = "×"
    if stretch < FIGURES:
        return ((glyph * stretch, role),)
    figure = figure_of(value, metric, kind)
    ink = "dim" if figure == quantities.UNMEASURED else _KIND_ROLE.get(kind, "")
    room = 6 if stretch > FIGURES or len(figure) > 5 else 5
    apart = " " if stretch > room + 1 else ""
    return ((pad(glyph, stretch - room - len(apart), ">"), role), (pad(figure, room, ">") + apart, ink))


def figure_of(value: float, metric: LinkMetric, kind: Kind) -> str:
    if not metric.since_mark or math.isnan(value):
        return quantities.figure(quantities.optional(value), kind)
    return f"{value:+.1f}" if metric.column == "loss" else f"{value:+.0f}"


def _extend(spans: list[Span], text: str, role: str) -> None:
    """Add a cell, merging neighbours of one role into a span: a matrix of one shade is one write."""
    if spans and spans[-1][1] == role:
        spans[-1] = (spans[-1][0] + text, role)
    else:
        spans.append((text, role))


def worst_pairs(view: View, metric: LinkMetric, count: int) -> list[tuple[int, int, float]]:
    matrix = values(view, metric)
    key = np.where(np.isnan(matrix), -np.inf, matrix if metric.high_is_bad else -matrix).ravel()
    count = min(count, int(np.isfinite(key).sum()))
    if not count:
        return []
    least = np.partition(key, -count)[-count]
    among = np.flatnonzero(key >= least)
    best = among[np.argsort(-key[among], kind="stable")][:count]  # of equals the first, on every machine
    n = matrix.shape[0]
    return [(int(i) // n, int(i) % n, float(matrix.flat[i])) for i in best]


def worst_line(view: View, metric: LinkMetric, width: int) -> Line:
    def name(row: int) -> str:
        return clean(view.swarm.facts[row].name, 16)

    parts = [
        line(
            (f"{i} ", "dim"), f"{name(a)}→{name(b)} ", (figure_of(value, metric, kind_of(view, metric, a, b)), "strong")
        )
        for i, (a, b, value) in enumerate(worst_pairs(view, metric, 8), 1)
    ]
    found = fill_line(parts, width - 8) or line(("nothing measured", "dim"))
    return fit(((" worst  ", "dim"), *found), width)


def as_csv(view: View, metric: LinkMetric) -> str:
    """Return CSV: plain numbers in the metric's unit, empty if there is no data; names are escaped for spreadsheets."""
    matrix = values(view, metric)
    names = [csv_cell(name) for name in view.swarm.names]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    what = f"{metric.title}, {metric.unit}," if metric.since_mark else metric.column
    writer.writerow([f"{what} from \\ to", *names])
    for name, row in zip(names, matrix.tolist(), strict=True):
        writer.writerow([name, *("" if math.isnan(value) else repr(value) for value in row)])
    return out.getvalue()
