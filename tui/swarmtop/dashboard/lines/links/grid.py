"""Decide which links a cell of the matrix stands for: order, groups, zoom, pooling, and where cells are on the screen.

Positions count nodes in the order of the matrix. A cell is a block of rows by a block of columns: one node each, as
many as must share a cell, or a group. Zoom shows a window of nodes around the cursor.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints
from swarmtop.analysis.ranking.node_figures import Bools, link_known
from swarmtop.dashboard.state import link_metrics
from swarmtop.dashboard.state.link_metrics import LINK_METRICS, LinkMetric, since_mark
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

Pool = Literal["max", "median", "min"]
POOLS: Final[tuple[Pool, ...]] = ("max", "median", "min")
Group = Literal["nodes", "region", "device", "state"]
GROUPS: Final[tuple[Group, ...]] = ("nodes", "region", "device", "state")
Look = Literal["matrix", "graph", "map", "spread"]
LOOKS: Final[tuple[Look, ...]] = ("matrix", "graph", "map", "spread")
FIGURES: Final = 7  # cells wide: room for the shade and the figure
WIDEST: Final = 16  # room for most names above it
NUMBERED: Final = 4  # room for numbered columns
SMALLEST_WINDOW: Final = 4  # nodes


@dataclass(frozen=True, slots=True)
class LinksState:
    metric: int = 0
    pool: Pool = "max"
    source: int = 0  # positions in `order`, not rows of the swarm
    target: int = 1
    group: Group = "nodes"
    zoom: int = 0  # each step shows half as many nodes
    top: int = 0  # first source and target of the window
    left: int = 0
    halves: bool = False  # two rows a line, if colours distinguish the shades
    look: Look = "matrix"
    since_mark: bool = False  # the difference from the mark, if there is one

    def window(self, n: int) -> int:
        """Return how many nodes each way are shown."""
        return n if self.group != "nodes" else min(n, max(SMALLEST_WINDOW, -(-n >> self.zoom)))


@dataclass(frozen=True, slots=True)
class Grid:
    """The matrix as drawn: `values[y, x]` of row block y to column block x; NaN = no data."""

    values: Floats
    order: Ints  # position → row of the swarm
    rows: Ints  # first position of each row block, and one past the last
    columns: Ints
    itself: Bools  # cells for a node's link to itself, which does not exist

    @property
    def per_cell(self) -> int:
        return int(np.diff(self.rows).max()) if len(self.rows) > 1 else 1

    def cell(self, source: int, target: int) -> tuple[int, int]:
        """Return row and column of the cell that holds these positions."""
        y = int(np.searchsorted(self.rows, source, "right")) - 1
        x = int(np.searchsorted(self.columns, target, "right")) - 1
        return max(0, min(y, len(self.rows) - 2)), max(0, min(x, len(self.columns) - 2))


@dataclass(frozen=True, slots=True)
class Shape:
    """The position of the matrix on a screen of a given size."""

    per_cell: int  # units (nodes or groups) a cell stands for, each way
    stretch: int  # terminal cells a matrix cell is wide
    left: int  # of the first matrix cell, in the body
    top: int
    labels: int = 0
    high: int = 0  # lines available for the matrix
    side: int = 0  # width of the pane of details; 0: they are below
    details: int = 0  # rows of details below
    foot: int = 1
    halves: bool = False  # two matrix rows a line


def shape(n: int, width: int, rows: int, halves: bool = False) -> Shape:
    """Return how many of `n` units a cell stands for, and where everything is. `halves`: two rows a line if lines run
    out."""
    side = 36 if width >= 120 else 0
    foot = 2 if rows >= 18 and not side else 1
    details = 0 if side else 4 if rows >= 17 else 1
    labels = 17 if width >= 80 else 13
    # heading, legend, the row of marks, and the frame or the rule above the details
    high = max(1, rows - 3 - foot - (2 if side else details + 1))
    wide = max(1, width - side - labels - (7 if side else 3))
    halves = halves and n > high
    room = max(1, min(2 * high if halves else high, wide))
    per_cell = max(1, -(-n // room))
    cells = -(-n // per_cell) if n else 1
    room_each = wide // cells
    stretch = NUMBERED if room_each >= NUMBERED else max(1, min(2, room_each))
    if room_each >= FIGURES and per_cell == 1:
        stretch = min(WIDEST, room_each)
    if halves:
        stretch = min(stretch, 2)
    return Shape(
        per_cell=per_cell, stretch=stretch, left=labels + 2 + (2 if side else 0), top=3 + (1 if side else 0),
        labels=labels, high=high, side=side, details=details, foot=foot, halves=halves,
    )  # fmt: skip


def order(view: View, group: Group = "nodes") -> Ints:
    """Return the order of nodes: by group (single nodes: by region), then by their distance from everyone, so that
    neighbours are adjacent."""
    near = np.nan_to_num(view.figures.rtt50_ms, nan=np.inf)
    names = group_names(view, group)
    return np.array(
        sorted(range(len(view.swarm)), key=lambda r: (names[r], near[r], view.swarm.facts[r].name)), np.int64
    )


def group_names(view: View, group: Group) -> list[str]:
    """Return the group of each row of the swarm."""
    facts = view.swarm.facts
    if group == "device":
        return [f.device or "unknown device" for f in facts]
    if group == "state":
        return list(view.words)
    return [f.region or ("" if group == "nodes" else "unknown region") for f in facts]


def units(view: View, state: LinksState, rows: Ints) -> int:
    """Return the rows of the matrix before any must share a cell."""
    return state.window(len(rows)) if state.group == "nodes" else len(_group_starts(view, state, rows))


def _group_starts(view: View, state: LinksState, rows: Ints) -> Ints:
    names = group_names(view, state.group)
    inside = [names[int(row)] for row in rows]
    return np.array([i for i, name in enumerate(inside) if i == 0 or name != inside[i - 1]], np.int64)


def metric_of(view: View, state: LinksState) -> LinkMetric:
    """Return what the matrix shows; without a mark there is no difference to show."""
    metric = LINK_METRICS[state.metric]
    return since_mark(metric) if state.since_mark and view.mark is not None else metric


def values(view: View, metric: LinkMetric) -> Floats:
    return link_metrics.values(view.swarm, metric, _mark(view))


def _mark(view: View) -> link_metrics.MarkedLinks | None:
    return view.mark.links if view.mark is not None else None


def grid(view: View, state: LinksState, per_cell: int) -> Grid:
    rows = order(view, state.group)
    matrix = values(view, metric_of(view, state))[np.ix_(rows, rows)]
    n = len(rows)
    if state.group == "nodes":
        span = state.window(n)
        down = _edges(np.arange(state.top, state.top + span), per_cell, state.top + span)
        across = _edges(np.arange(state.left, state.left + span), per_cell, state.left + span)
        found = pooled(matrix[state.top : state.top + span, state.left : state.left + span], per_cell, state.pool)
        itself = (np.diff(down) == 1)[:, None] & (down[:-1, None] == across[None, :-1])
    else:
        down = across = _edges(_group_starts(view, state, rows), per_cell, n)
        found = _pooled_blocks(matrix, down, across, state.pool)
        alone = np.diff(down) == 1
        itself = np.eye(len(alone), dtype=bool) & alone[:, None]
    return Grid(found, rows, down, across, itself)


def _edges(starts: Ints, per_cell: int, end: int) -> Ints:
    return np.append(starts[::per_cell], end).astype(np.int64)


def pooled(matrix: Floats, per_cell: int, pool: Pool) -> Floats:
    """Return blocks of `per_cell` × `per_cell` of a square as one value each; NaN only if the whole block has none."""
    n = matrix.shape[0]
    cells = -(-n // per_cell) if n else 0
    if per_cell == 1:
        return matrix
    edges = np.append(np.arange(0, n, per_cell), n)
    if pool != "median":
        return _pooled_blocks(matrix, edges, edges, pool)
    padded = np.full((cells * per_cell, cells * per_cell), np.nan)
    padded[:n, :n] = matrix
    blocks = padded.reshape(cells, per_cell, cells, per_cell).transpose(0, 2, 1, 3).reshape(cells, cells, -1)
    some: Bools = np.asarray(np.isfinite(blocks).any(axis=2))
    return np.where(some, np.nanmedian(np.where(some[..., None], blocks, 0.0), axis=2), np.nan)


def _pooled_blocks(matrix: Floats, down: Ints, across: Ints, pool: Pool) -> Floats:
    """Pool blocks of any size; `down` and `across` are their edges."""
    if pool == "median":
        out = np.full((len(down) - 1, len(across) - 1), np.nan)
        for y, x in np.ndindex(out.shape):
            block = matrix[down[y] : down[y + 1], across[x] : across[x + 1]]
            known = block[np.isfinite(block)]
            out[y, x] = np.median(known) if known.size else np.nan
        return out
    reduce = np.fmax if pool == "max" else np.fmin  # both ignore NaN
    return np.asarray(reduce.reduceat(reduce.reduceat(matrix, down[:-1], axis=0), across[:-1], axis=1))


@dataclass(frozen=True, slots=True)
class Pair:
    """The link that a cell shows: the one chosen by the pooling, or the worst; rows of the swarm."""

    source: int
    target: int
    of: int  # links in the cell that were measured


def pair(view: View, state: LinksState, drawn: Grid) -> Pair:
    y, x = drawn.cell(state.source, state.target)
    metric = metric_of(view, state)
    rows = drawn.order[drawn.rows[y] : drawn.rows[y + 1]]
    columns = drawn.order[drawn.columns[x] : drawn.columns[x + 1]]
    block = link_metrics.values_between(view.swarm, metric, rows, columns, _mark(view))
    known = np.isfinite(block)
    if not known.any():
        return Pair(int(rows[0]), int(columns[-1] if len(columns) > 1 and rows[0] == columns[0] else columns[0]), 0)
    sign = 1.0 if metric.high_is_bad != (state.pool == "min") else -1.0
    at = int(np.argmax(np.where(known, sign * block, -np.inf)))
    return Pair(int(rows[at // len(columns)]), int(columns[at % len(columns)]), int(known.sum()))


def moved(state: LinksState, drawn: Grid, dx: int, dy: int) -> LinksState:
    """Move the cursor within the matrix; the window follows it."""
    y, x = drawn.cell(state.source, state.target)
    n = len(drawn.order)
    source, target = state.source, state.target
    if dy:
        source = _step(drawn.rows, y, dy, n)
    if dx:
        target = _step(drawn.columns, x, dx, n)
    return framed(dataclasses.replace(state, source=source, target=target), n)


def _step(edges: Ints, at: int, by: int, n: int) -> int:
    """Return the first position of the block `by` blocks on; beyond the window's edge, the position next to it."""
    goal = at + by
    if goal < 0:
        return max(0, int(edges[0]) + goal)
    if goal >= len(edges) - 1:
        return min(n - 1, int(edges[-1]) - 1 + goal - (len(edges) - 2))
    return int(edges[goal])


def framed(state: LinksState, n: int) -> LinksState:
    """Return the cursor within the swarm, and a window that contains the cursor."""
    span = state.window(n)
    source, target = max(0, min(state.source, n - 1)), max(0, min(state.target, n - 1))

    def begin(first: int, at: int) -> int:
        return max(0, min(min(max(first, at - span + 1), at), n - span))

    return dataclasses.replace(
        state, source=source, target=target, top=begin(state.top, source), left=begin(state.left, target)
    )


def zoomed(state: LinksState, drawn: Grid, by: int) -> LinksState:
    """Show half as many nodes (`by` 1) or twice (-1), around the cursor. From groups, show the nodes of the chosen
    cell."""
    n = len(drawn.order)
    if state.group != "nodes":
        return state
    deepest = 0
    while dataclasses.replace(state, zoom=deepest).window(n) > SMALLEST_WINDOW and deepest < 20:
        deepest += 1
    zoom = max(0, min(deepest, state.zoom + by))
    made = dataclasses.replace(state, zoom=zoom)
    span = made.window(n)
    return framed(dataclasses.replace(made, top=state.source - span // 2, left=state.target - span // 2), n)


def cell_at(where: Shape, drawn: Grid, x: int, y: int) -> tuple[int, int] | None:
    """Return positions (source, target) of the matrix cell under the mouse."""
    column, row = (x - where.left) // where.stretch, (y - where.top) * (2 if where.halves else 1)
    if not (0 <= column < len(drawn.columns) - 1 and 0 <= row < len(drawn.rows) - 1):
        return None
    return int(drawn.rows[row]), int(drawn.columns[column])


def described(view: View, state: LinksState, drawn: Grid) -> str:
    """Return `200 nodes by region, 50 shown, 4×4 pooled: max`."""
    n = len(view.swarm)
    if state.group != "nodes":
        return f"{len(drawn.rows) - 1} groups by {state.group} of {n} nodes, {state.pool} of each"
    text = f"{n} nodes by region"
    span = state.window(n)
    if span < n:
        text += f", {span}×{span} shown (zoom {state.zoom})"
    if drawn.per_cell > 1:
        text += f", {drawn.per_cell}×{drawn.per_cell} pooled: {state.pool}"
    return text


def label(view: View, state: LinksState, drawn: Grid, first: int, count: int) -> str:
    facts = view.swarm.facts[int(drawn.order[first])]
    if state.group != "nodes":
        name = group_names(view, state.group)[int(drawn.order[first])]
        return f"{name} ({count})"
    return facts.name if count == 1 else facts.region or facts.name


def share_known(view: View) -> str:
    n = len(view.swarm)
    return quantities.percent(int(link_known(view.swarm).sum()) / (n * (n - 1)))
