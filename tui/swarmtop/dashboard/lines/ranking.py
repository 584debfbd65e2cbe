"""The order of the ranking, and its lines: sort by any column, filter, one line a node.

The order is a numpy array of rows; only the lines on the screen are ever made.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from swarm_protocol.snapshot.swarm import Ints
from swarmtop.analysis.filter import Filter
from swarmtop.analysis.node_rows import badness
from swarmtop.dashboard.lines.columns import BY_NAME, GROUP_OF, Column
from swarmtop.dashboard.lines.styled import Line, Span, pad
from swarmtop.dashboard.state.view import View

Chosen = Sequence[tuple[Column, int]]
MARGIN = 6  # cursor and rank before the first column


def order(view: View, sort: str, reverse: bool, wanted: Filter) -> Ints:
    """Rows of the swarm, worst first by `sort`. Unknown values come last both ways; ties keep the names' order."""
    if sort == "win" and not reverse:
        return _steady(view, wanted)
    column = BY_NAME[sort]
    values = column.values(view)
    descending = column.largest_first != reverse
    rows = np.array(sorted(range(len(view.swarm)), key=lambda r: view.swarm.facts[r].name), np.int64)
    if isinstance(values, list):
        ranked = np.array(sorted(rows.tolist(), key=lambda r: values[r], reverse=descending), np.int64)
    else:
        keys = np.asarray(values, np.float64)[rows]
        ranked = rows[np.argsort(np.where(np.isnan(keys), np.inf, -keys if descending else keys), kind="stable")]
    return ranked[wanted.mask(view)[ranked]] if len(ranked) else ranked


def _steady(view: View, wanted: Filter) -> Ints:
    """The order of the analysis, which does not reshuffle for noise; nodes it has not seen yet come last, and before
    there is one all are in the order of what is known: round trip, loss, layer time."""
    last = len(view.ranked) + 1
    known = badness(view.figures)

    def key(row: int) -> tuple[int, float, str]:
        name = view.swarm.facts[row].name
        found = view.ranked.get(name)
        return (found.rank, 0.0, name) if found is not None else (last, -known[row], name)

    rows = sorted(range(len(view.swarm)), key=key)
    ranked = np.array(rows, np.int64)
    return ranked[wanted.mask(view)[ranked]] if rows else ranked


def header(chosen: Chosen, sort: str, reverse: bool) -> Line:
    spans: list[Span] = [("   # ", "head"), (" ", "head")]
    for column, width in chosen:
        arrow = ""
        if column.name == sort:
            arrow = "▼" if column.largest_first != reverse else "▲"
        spans.append((pad(column.title + arrow, width, column.align), "head sorted" if arrow else "head"))
        spans.append((" ", "head"))
    return tuple(spans)


def group_line(chosen: Chosen) -> Line:
    """Words above the titles that belong together: what these columns are about."""
    spans: list[Span] = [(" " * MARGIN, "")]
    for words, group in itertools.groupby(chosen, key=lambda entry: GROUP_OF.get(entry[0].name, "")):
        room = sum(width + 1 for _, width in group)
        text = f"{pad(f'╌ {words} ', room - 1, '<')} " if words and room > len(words) // 2 + 4 else " " * room
        spans.append((text, "dim"))
    return tuple(spans)


def column_at(chosen: Chosen, x: int) -> str | None:
    """The column under cell `x` of the header, for the mouse."""
    left = MARGIN
    for column, width in chosen:
        if left <= x <= left + width:
            return column.name
        left += width + 1
    return None


def row_line(view: View, chosen: Chosen, row: int, rank: int, selected: bool, mark: str = ">") -> Line:
    """`mark` before the selected line; one of its own marks a line that is not of the table."""
    spans: list[Span] = [(mark if selected or mark != ">" else " ", "cursor-mark"), (f"{rank:>4} ", "dim")]
    for column, width in chosen:
        text, role = column.cell(view, row)
        spans.append((pad(text, width, column.align), role))
        spans.append((" ", ""))
    return tuple(spans)
