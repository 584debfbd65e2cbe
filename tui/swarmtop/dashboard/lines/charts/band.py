"""Draw a series with its band in braille: the middle as a line, the spread around it as sparse dots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from swarmtop.dashboard.lines.charts.series import dot_level, glyph, line_dots, per_dot, set_dot
from swarmtop.dashboard.lines.styled import Block, Span

Values = Sequence[float | None]


def band(low: Values, middle: Values, high: Values, width: int, rows: int, top: float) -> Block:
    """Return `rows` lines of `width` cells from 0 to `top`; slots are of equal width, and None is a gap."""
    if width <= 0 or rows <= 0:
        return [()] * max(0, rows)
    line = line_dots(middle, width, rows, top)
    spread = _between(low, high, width, rows, top)
    block: Block = []
    for on_line, between in zip(line, spread, strict=True):
        cells = [(glyph(a or b), "chart" if a else "band" if b else "") for a, b in zip(on_line, between, strict=True)]
        spans: list[Span] = []
        for role, group in itertools.groupby(cells, key=lambda cell: cell[1]):
            spans.append(("".join(text for text, _ in group), role))
        block.append(tuple(spans))
    return block


def _between(low: Values, high: Values, width: int, rows: int, top: float) -> list[list[int]]:
    """Return the dots between the limits, in every second row and column: sparse enough for the line to stand out."""
    cells = [[0] * width for _ in range(rows)]
    for x, (below, above) in enumerate(zip(per_dot(low, width), per_dot(high, width), strict=True)):
        if x % 2 or below is None or above is None:
            continue
        for y in range(dot_level(below, rows, top), dot_level(above, rows, top) + 1):
            if y % 2:
                set_dot(cells, x, 4 * rows - 1 - y)
    return cells
