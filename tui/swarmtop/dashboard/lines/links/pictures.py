"""Draw the links as pictures: machines on the map, a graph of their round trips, and the distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Kind
from swarmtop.analysis.ranking.states import GLYPH
from swarmtop.dashboard.lines.charts.histogram import histogram
from swarmtop.dashboard.lines.drawings import graph, route_lines, world
from swarmtop.dashboard.lines.drawings.dots import Dots
from swarmtop.dashboard.lines.links.grid import LinksState, metric_of, values
from swarmtop.dashboard.lines.styled import (  # fmt: skip
    Block,
    Line,
    beside,
    box,
    clean,
    cut,
    fit,
    height,
    line,
    text_width,
    wrap,
)
from swarmtop.dashboard.state.link_metrics import LINK_METRICS
from swarmtop.dashboard.state.view import View

NAME: Final = 16  # cells
TWO_COLUMNS: Final = 130  # cells from which two distributions are drawn side by side
MIN_ROWS: Final = 8  # of a distribution
NOWHERE: Final = (
    'No machine reports its place. Give nodes a city or a region in a swarm file (city = "Utrecht", '
    'region = "eu-west-1"); the graph needs only round trips.'
)


def screen(view: View, state: LinksState, width: int, rows: int) -> Block:
    """Return the screen; `state.look` chooses the picture."""
    if state.look == "spread":
        return spread_screen(view, state, width, rows)
    return height(_map(view, width, rows - 2) if state.look == "map" else _graph(view, width, rows - 2), rows)


# ---------------------------------------------------------------- machines as points


def _map(view: View, width: int, rows: int) -> Block:
    found = {row: world.place_of(facts.region) for row, facts in enumerate(view.swarm.facts)}
    known = {row: at for row, at in found.items() if at is not None}
    caption = f"   {len(known)} of {len(found)} machines report their place"
    head = fit(line((" map", "title"), (caption, "dim"), *key(view)), width)
    if not known:
        return [head, (), *[line(" ", *row) for row in wrap(NOWHERE, width - 2, "dim")]]
    dots = map_dots(view, known, width - 1, rows)
    missing = [clean(view.swarm.facts[row].name, NAME) for row in found if row not in known]
    foot = f" not on the map: {', '.join(missing)}" if missing else ""
    return [head, *[line(" ", *row) for row in dots.block()], fit(line((foot, "dim")), width)]


def map_dots(view: View, known: Mapping[int, world.Point], width: int, rows: int) -> Dots:
    """The part of the earth with the machines of `known`: row of the swarm → its place."""
    dots = Dots(width, rows)
    frame = world.frame_of(list(known.values()), width, rows)
    world.draw_land(dots, frame)
    _points(view, dots, {row: frame.dot(at) for row, at in known.items()})
    return dots


def graph_dots(view: View, rtt: Floats, width: int, rows: int) -> Dots:
    """The machines of the swarm, each pair as far apart as its round trip is long."""
    dots = Dots(width, rows)
    across, down = 2 * (width - min(NAME + 2, width // 3) - 3), 4 * rows - 5
    at = graph.positions(rtt)
    _points(view, dots, {row: (4 + x * across, 2 + y * down) for row, (x, y) in enumerate(at.tolist())})
    return dots


def _graph(view: View, width: int, rows: int) -> Block:
    n = len(view.swarm)
    caption = "   farther apart: a longer round trip, as far as a plane allows"
    head = fit(line((" graph", "title"), (caption, "dim"), *key(view)), width)
    if n > graph.MAX_NODES:
        return [
            head,
            (),
            fit(line((f" {n} machines are too many for a picture; v shows the next view", "warn")), width),
        ]
    rtt = values(view, LINK_METRICS[0])
    dots = graph_dots(view, rtt, width - 1, rows)
    estimated = int((view.swarm.links["kind"] == Kind.ESTIMATE).sum())
    guessed = f", {estimated} of them estimated" if estimated else ""
    foot = f" {int(np.isfinite(rtt).sum())} of {n * (n - 1)} round trips known{guessed}"
    return [head, *[line(" ", *row) for row in dots.block()], fit(line((foot, "dim")), width)]


def key(view: View) -> Line:
    if not hops(view):
        return ()
    return line(("   ⠒⠒ ", "chart"), ("token route", "dim"), ("   ⠒⠒ ", "slow"), ("its slowest path", "dim"))


def hops(view: View) -> list[tuple[int, int, bool]]:
    """Return (row, row, slowest) of each path of what runs, or of the plan if that is not known."""
    found = view.analysis.stands if view.analysis is not None else None
    if found is None:
        return []
    rows = {name: row for row, name in enumerate(view.swarm.names)}
    return [
        (rows[part.origin], rows[part.name], part.slowest)
        for part in route_lines.route(found).parts
        if part.kind == "path" and part.origin in rows and part.name in rows
    ]


def _points(view: View, dots: Dots, at: dict[int, tuple[float, float]]) -> None:
    """Draw the token's path, then every machine with its name; machines that take part are named first."""
    inside = []
    for a, b, slowest in sorted(hops(view), key=lambda hop: hop[2]):  # the slowest lies above
        inside += [a, b]
        if a in at and b in at:
            dots.line(at[a], at[b], "slow" if slowest else "chart")
    order = [*dict.fromkeys(row for row in inside if row in at), *(row for row in at if row not in inside)]
    cells = {
        row: (min(dots.width - 1, max(0, int(x / 2))), min(dots.rows - 1, max(0, int(y / 4))))
        for row, (x, y) in at.items()
    }
    for row in order:
        word = view.word(row)
        dots.stamp(*cells[row], "●" if word in ("ok", "unknown") else GLYPH[word], _role(word))
    for row in order:
        name = cut(clean(view.swarm.facts[row].name), NAME)
        column, line_of = cells[row]
        left, right = column - text_width(name) - 1, column + 2
        for start, below in ((right, 0), (left, 0), (right, 1), (right, -1), (left, 1), (left, -1)):
            if dots.write(start, line_of + below, name, _role(view.word(row))):
                break


def _role(word: str) -> str:
    return word if word != "unknown" else "strong"


# ---------------------------------------------------------------- distributions


def spread_screen(view: View, state: LinksState, width: int, rows: int) -> Block:
    head = fit(line((" distributions", "title"), ("   p5 to p95 in the darker ink, ▲ percentiles", "dim")), width)
    return height([head, *distributions(view, state, width, rows - 1)], rows)


def distributions(view: View, state: LinksState, width: int, rows: int) -> Block:
    """Return round trips, hops and the time of a token, with the chosen metric first; fewer if there is less room."""
    chosen = metric_of(view, state)
    hop = next(metric for metric in LINK_METRICS if metric.name == "hop")
    wanted = [LINK_METRICS[0], *([hop] if np.isfinite(values(view, hop)).any() else [])]
    if chosen.column not in [metric.column for metric in wanted]:
        wanted.insert(0, LINK_METRICS[state.metric])
    blocks = [(f"{m.title}, {m.unit}", values(view, m).ravel(), m.unit, "links") for m in wanted]
    token = view.analysis.stands if view.analysis is not None else None
    if token is not None and token.tpot_quantiles_ms:
        blocks.append(("time of a token, ms", np.array(token.tpot_quantiles_ms), "ms", "draws"))
    across = 2 if width >= TWO_COLUMNS else 1
    blocks = blocks[: across * max(1, rows // MIN_ROWS)]
    pairs = [blocks[i : i + across] for i in range(0, len(blocks), across)]
    each = rows // len(pairs)
    out: Block = []
    for some in pairs:
        sizes = [width // len(some)] * (len(some) - 1) + [width - width // len(some) * (len(some) - 1)]
        drawn = [
            box(title, histogram(found, unit, of, size - 4, each - 2), size, each)
            for (title, found, unit, of), size in zip(some, sizes, strict=True)
        ]
        out += beside(list(zip(drawn, sizes, strict=True)))
    return out
