"""Show the machines of the token route and the round trips between them: a small heat map, and the map or the graph."""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Ints, Kind
from swarmtop.dashboard.lines.charts.series import smooth_bar
from swarmtop.dashboard.lines.drawings import graph, world
from swarmtop.dashboard.lines.links import matrix, pictures
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, fill_line, line, pad
from swarmtop.dashboard.state.link_metrics import LINK_METRICS, LinkMetric, scaled, values, values_between
from swarmtop.dashboard.state.memo import Remembered
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

RTT: Final = LINK_METRICS[0]
NAME: Final = 14  # cells
CELL: Final = 8  # of a figure with its shade
MAX_MACHINES: Final = 12  # machines
MIN_MAP: Final = 10  # lines
WORST_BAR: Final = 6  # cells
MIN_PLACES: Final = 2


def machines(view: View, width: int) -> Ints:
    """Rows of the swarm: those of the placement in a token's order, then others by the ranking, as many as fit."""
    most = min(MAX_MACHINES, max(0, (width - NAME - 2) // CELL))
    placement = view.analysis.placement if view.analysis is not None else ()
    rows = {name: row for row, name in enumerate(view.swarm.names)}
    ranked = [row.name for row in view.analysis.rows] if view.analysis is not None else []
    names = dict.fromkeys((*(stage.node for stage in placement), *ranked, *view.swarm.names))
    return np.array([rows[name] for name in names if name in rows][:most], np.int64)


def has_round_trips(view: View) -> bool:
    n = len(view.swarm)
    return n > 1 and bool((np.isfinite(view.swarm.links["rtt_p50_ms"]) & ~np.eye(n, dtype=bool)).any())


def heat_wanted(view: View, width: int) -> int:
    """Lines: names, a line for each machine, the key."""
    return len(machines(view, width)) + 2


def heat(view: View, width: int, rows: int) -> Block:
    """Round trips from row to column, as shades and figures."""
    some = machines(view, width)[: max(0, rows - 2)]
    if len(some) < 2:
        return []
    found = values_between(view.swarm, RTT, some, some)
    metric = scaled(RTT, found)
    inside = {stage.node for stage in view.analysis.placement} if view.analysis is not None else set()
    cell = min(CELL + 5, (width - NAME - 2) // len(some))
    names = [clean(view.swarm.facts[int(row)].name, 40) for row in some]
    head: list[Span] = [(" " * (NAME + 1), "")]
    head += [(pad(name, cell - 1, ">") + " ", "strong" if name in inside else "dim") for name in names]
    block: Block = [tuple(head)]
    for y, row in enumerate(some.tolist()):
        spans: list[Span] = [(pad(names[y], NAME) + " ", "strong" if names[y] in inside else "dim")]
        for x, column in enumerate(some.tolist()):
            if row == column:
                spans.append((pad("\\", cell - 1, ">") + " ", "dim"))
                continue
            glyph, role = matrix.shade(float(found[y, x]), metric)
            kind = Kind(int(view.swarm.links["kind"][row, column]))
            figure = quantities.figure(quantities.optional(float(found[y, x])), kind)
            ink = "dim" if figure == quantities.UNMEASURED else "estimate" if kind is Kind.ESTIMATE else ""
            spans += [(pad(glyph * min(2, cell - 7), cell - 7, ">"), role), (pad(figure, 6, ">") + " ", ink)]
        block.append(tuple(spans))
    block.append(_legend(metric, width, gaps=int(np.isnan(found).sum()) > len(some)))
    return block


def _legend(metric: LinkMetric, width: int, *, gaps: bool) -> Line:
    """The shades in use; `gaps`: some pairs are not known."""
    key = matrix.legend(metric)
    pairs = [(key[i], key[i + 1]) for i in range(1, len(key) - 1)]
    shades = [pair for pair in pairs if pair[0][1].startswith("heat") and pair[0][1] != "heat?"]
    return fill_line([*shades, (("? ", "heat?"), ("no data", "dim")) if gaps else ()], width, "")


def worst(view: View, metric: LinkMetric, width: int, rows: int) -> Block:
    """The worst links by this metric, a line each."""
    found = matrix.worst_pairs(view, metric, rows)
    most = max((abs(value) for _, _, value in found), default=0.0)
    block: Block = []
    for a, b, value in found:
        name = f"{clean(view.swarm.facts[a].name, 20)} → {clean(view.swarm.facts[b].name, 20)}"
        figure = matrix.figure_of(value, metric, matrix.kind_of(view, metric, a, b))
        share = abs(value) / most if most > 0 else 0.0
        block.append(
            line(
                (pad(name, max(8, width - WORST_BAR - 8)), ""),
                (pad(figure, 7, ">") + " ", "strong"),
                (smooth_bar(share, WORST_BAR), "cell-bar"),
            )
        )
    return block


# ---------------------------------------------------------------- map and graph


def _places(facts: tuple[object, ...]) -> dict[int, world.Point]:
    found = {row: world.place_of(each.region) for row, each in enumerate(facts)}  # type: ignore[attr-defined]
    return {row: at for row, at in found.items() if at is not None}


_known = Remembered(_places)


def places(view: View) -> dict[int, world.Point]:
    return _known(view.swarm.facts)


def drawn_of(view: View) -> tuple[object, ...]:
    """Return what the map and the graph show apart from figures: the machines, their states, and the token route."""
    return (view.swarm.facts, " ".join(view.words), repr(pictures.hops(view)))


def has_map(view: View) -> bool:
    """Return whether machines are in more than one known place."""
    return len(set(places(view).values())) >= MIN_PLACES


def has_graph(view: View) -> bool:
    return has_round_trips(view) and len(view.swarm) <= graph.MAX_NODES


def map_title(view: View) -> Line:
    known, n = len(places(view)), len(view.swarm)
    missing = (f"  {n - known} not on the map", "dim") if known < n else ("", "")
    return line(("map", "title"), missing, *pictures.key(view))


def graph_title(view: View) -> Line:
    return line(("graph", "title"), ("  farther apart: a longer round trip", "dim"), *pictures.key(view))


def map_of(view: View, width: int, rows: int) -> Block:
    return pictures.map_dots(view, places(view), width, rows).block()


def graph_of(view: View, width: int, rows: int) -> Block:
    return pictures.graph_dots(view, values(view.swarm, RTT), width, rows).block()
