"""Lay out boxes in columns: each as high as its content, and spare lines go to charts that can use them.

A box is left out where its least height does not fit. Pure: widths and heights in, lines out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from swarmtop.dashboard.lines.styled import Block, Line, beside, box

FRAME: Final = 2  # lines of a box that are not its content
SIDES: Final = 4  # cells of a box that are not its content
TWO_COLUMNS: Final = 110  # cells
THREE_COLUMNS: Final = 170
FOUR_COLUMNS: Final = 260


@dataclass(frozen=True, slots=True)
class Panel:
    """A box. Heights are those of its content, in lines."""

    title: str | Line
    draw: Callable[[int, int], Block]  # (cells, lines) of the content → the content
    wants: int
    least: int = 1  # with fewer it is left out
    most: int = 0  # that it profits from; 0: as many as it wants
    chart: bool = False  # takes spare lines before lists do

    @property
    def top(self) -> int:
        return max(self.wants, self.most)


def columns(width: int) -> int:
    return 1 + sum(width >= edge for edge in (TWO_COLUMNS, THREE_COLUMNS, FOUR_COLUMNS))


def inner_width(width: int, count: int) -> int:
    """Cells of the content of a box, in the narrowest column."""
    return max(0, width // count - SIDES)


def arrange(panels: Sequence[Panel], width: int, rows: int, count: int | None = None) -> Block:
    """`rows` lines with as many of `panels`, from the first, as fit in `count` columns (None: by the width)."""
    count = count or columns(width)
    stacks = assign(panels, count, rows)
    each = [width // count] * (count - 1) + [width - width // count * (count - 1)]
    drawn: list[tuple[Block, int]] = []
    for stack, cells in zip(stacks, each, strict=True):
        block: Block = []
        for panel, lines in stack:
            block += box(panel.title, panel.draw(max(0, cells - SIDES), lines), cells, lines + FRAME)
        drawn.append((block + [()] * (rows - len(block)), cells))
    return beside(drawn)


def assign(panels: Sequence[Panel], count: int, rows: int) -> list[list[tuple[Panel, int]]]:
    """Assign boxes to columns, from the top, each with its lines of content."""
    stacks: list[list[tuple[Panel, int]]] = [[] for _ in range(count)]
    room = [rows] * count
    for panel in panels:
        fits = [x for x in range(count) if room[x] >= panel.least + FRAME]
        if not fits:
            continue
        # one chart a column, so that none is left with blank lines
        at = max(fits, key=lambda x: (not (panel.chart and _has_chart(stacks[x])), room[x], -x))
        lines = min(panel.wants, room[at] - FRAME)
        stacks[at].append((panel, lines))
        room[at] -= lines + FRAME
    return [_stretched(stack, left) for stack, left in zip(stacks, room, strict=True)]


def _has_chart(stack: Sequence[tuple[Panel, int]]) -> bool:
    return any(panel.chart for panel, _ in stack)


def _stretched(stack: list[tuple[Panel, int]], left: int) -> list[tuple[Panel, int]]:
    """Distribute a column's spare lines: to charts in equal parts, then to lists that are cut."""
    lines = [each for _, each in stack]
    for charts in (True, False):
        growing = [i for i, (panel, _) in enumerate(stack) if panel.chart == charts]
        while left > 0 and (some := [i for i in growing if lines[i] < stack[i][0].top]):
            for i in some[:left]:
                lines[i] += 1
            left -= len(some[:left])
    return [(panel, each) for (panel, _), each in zip(stack, lines, strict=True)]
