"""Order the ranking and draw its lines: sort by any column, filter, one line a node.

The order is a numpy array of rows; only the lines on the screen are composed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, overload

from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.swarm import Ints, NodeFacts
from swarmtop.analysis.ranking.filter import Filter
from swarmtop.analysis.ranking.node_figures import badness
from swarmtop.dashboard.lines.charts.series import smooth_bar
from swarmtop.dashboard.lines.columns import BY_NAME, GROUP_OF, MIN_BAR, Column
from swarmtop.dashboard.lines.styled import Line, Span, pad
from swarmtop.dashboard.state.memo import Remembered
from swarmtop.dashboard.state.view import View, row_of_id
from swarmtop.text import quantities

Chosen = Sequence[tuple[Column, int]]
MARGIN = 6  # cursor and rank before the first column


def order(view: View, sort: str, reverse: bool, wanted: Filter) -> Ints:
    """Return the rows of the swarm, worst first by `sort`. Unknown values come last in both directions; ties are in
    order of names."""
    if sort == "gain" and not reverse:
        return _steady(view, wanted)
    column = BY_NAME[sort]
    values = column.values(view)
    descending = column.largest_first != reverse
    rows = _by_name(view.swarm.facts)
    if isinstance(values, list):
        ranked = np.array(sorted(rows.tolist(), key=lambda r: values[r], reverse=descending), np.int64)
    else:
        keys = np.asarray(values, np.float64)[rows]
        ranked = rows[np.argsort(np.where(np.isnan(keys), np.inf, -keys if descending else keys), kind="stable")]
    return ranked[wanted.mask(view)[ranked]] if len(ranked) else ranked


def _steady(view: View, wanted: Filter) -> Ints:
    """Return the order of the analysis, which is stable under noise. Nodes that are not in it yet come last. Before
    there is one, the order is by what is known: round trip, loss, layer time."""
    n = len(view.swarm)
    rank = np.full(n, len(view.ranked) + 1)
    bad = np.array(badness(view.figures), np.float64)
    if view.ranked:
        for row, facts in enumerate(view.swarm.facts):
            found = view.ranked.get(facts.name)
            if found is not None:
                rank[row], bad[row] = found.rank, 0.0
    rows = _by_name(view.swarm.facts)
    ranked = rows[np.lexsort((-bad[rows], rank[rows]))]  # stable: ties stay in order of names
    return ranked[wanted.mask(view)[ranked]] if n else ranked


def _rows_by_name(facts: tuple[NodeFacts, ...]) -> Ints:
    return np.array(sorted(range(len(facts)), key=lambda row: facts[row].name), np.int64)


_by_name: Final = Remembered(_rows_by_name)


class Ids(Sequence[str]):
    """The node ids in the order of the ranking; an id is looked up when it is read."""

    def __init__(self, facts: tuple[NodeFacts, ...], order: Ints) -> None:
        self._facts = facts
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...

    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return Ids(self._facts, self._order[at])
        return self._facts[int(self._order[at])].node_id

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        row = row_of_id(self._facts).get(value)
        if row is None or not len(found := np.flatnonzero(self._order[start:stop] == row)):
            raise ValueError(value)
        return start + int(found[0])


def header(chosen: Chosen, sort: str, reverse: bool) -> Line:
    spans: list[Span] = [("   # ", "head"), (" ", "head")]
    for column, width in chosen:
        arrow = ""
        if column.name == sort:
            arrow = "▼" if column.largest_first != reverse else "▲"
        barred = column.part is not None and width - column.width >= MIN_BAR
        title = pad(column.title + arrow, column.width, column.align) if barred else column.title + arrow
        spans.append((pad(title, width, "<" if barred else column.align), "head sorted" if arrow else "head"))
        spans.append((" ", "head"))
    return tuple(spans)


def group_line(chosen: Chosen) -> Line:
    """Return the group headings above the titles: what adjacent columns have in common."""
    spans: list[Span] = [(" " * MARGIN, "")]
    for words, group in itertools.groupby(chosen, key=lambda entry: GROUP_OF.get(entry[0].name, "")):
        room = sum(width + 1 for _, width in group)
        text = f"{pad(f'╌ {words} ', room - 1, '<')} " if words and room > len(words) // 2 + 4 else " " * room
        spans.append((text, "dim"))
    return tuple(spans)


def column_at(chosen: Chosen, x: int) -> str | None:
    """Return the column under cell `x` of the header, for the mouse."""
    left = MARGIN
    for column, width in chosen:
        if left <= x <= left + width:
            return column.name
        left += width + 1
    return None


def row_line(view: View, chosen: Chosen, row: int, rank: int, selected: bool, mark: str = ">") -> Line:
    """Return a row, with `mark` before the selected one; a line that is not in the table has a mark of its own."""
    spans: list[Span] = [(mark if selected or mark != ">" else " ", "cursor-mark"), (f"{rank:>4} ", "dim")]
    for column, width in chosen:
        text, role = column.cell(view, row)
        if view.swarm.unread and text == quantities.UNMEASURED:  # whether it was measured is not known yet
            text = quantities.UNREAD
        extra = width - column.width
        if column.part is not None and extra >= MIN_BAR:
            share = column.part(view, row)
            spans.append((pad(text, column.width, column.align), role))
            spans.append((" " + smooth_bar(share, extra - 1), "slow" if role == "slow" else "cell-bar"))
        else:
            spans.append((pad(text, width, column.align), role))
        spans.append((" ", ""))
    return tuple(spans)
