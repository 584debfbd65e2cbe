"""Divide the height of the overview among its parts: the most important get their lines first, and no line stays blank.

From top to bottom: counts and filter, the headline with its chart, a token's path with the layers, the ranking, and the
chosen machine's details beside the events.
"""

from __future__ import annotations

from typing import Final

import msgspec

from swarmtop.dashboard.lines.styled import NARROW

SUMMARY: Final = 2
WIDE: Final = 110  # cells from which the details and the events are side by side
TALL: Final = 28  # lines from which there are group headings above the titles, and boxes below the list
MIN_LIST: Final = 5  # nodes in sight before anything else grows
MAX_CHART: Final = 18
PHONE_ROWS: Final = 24  # of a narrow screen in portrait orientation
PHONE_WAY: Final = 10
MIN_BOXES: Final = 8
MAX_BOXES: Final = 16
MAX_LINES: Final = 6  # below the list, where there are no boxes
MIN_PANELS: Final = 9  # lines below the list from which a narrow screen has boxes of what else there is


class Heights(msgspec.Struct, frozen=True):
    """Lines of each part; 0: it is left out."""

    chart: int
    way: int  # with its heading
    layers: int
    head: int  # titles of the ranking
    below: int


def heights(width: int, rows: int, nodes: int, *, chart: bool, way: bool) -> Heights:
    """Divide the lines. `chart`, `way`: whether there is something to draw there. The list gets what is left."""
    boxes = rows >= TALL and width >= WIDE
    head = 2 if boxes else 1
    below = MIN_BOXES if boxes else 3 if rows >= 14 else 1
    left = rows - SUMMARY - head - below - min(nodes, MIN_LIST)
    way_rows = layers = chart_rows = 0
    if way and width < NARROW and rows >= PHONE_ROWS:  # a line for each machine and path
        way_rows = min(PHONE_WAY, left // 2)
        left -= way_rows
    elif way and left >= 2:
        way_rows = 3 if left >= 3 and rows >= 16 else 2
        left -= way_rows
    if chart and left >= 4:
        chart_rows = 4
        left -= chart_rows
    if way and width >= 80 and left >= 1 and rows >= 22:
        way_rows, left = way_rows + 1, left - 1
    if chart_rows and boxes and left >= 4:
        chart_rows, left = chart_rows + 4, left - 4
    if way and rows >= TALL and left >= 2:
        layers, left = 2, left - 2
    left -= max(0, min(left, nodes - MIN_LIST))  # the list takes what its nodes need
    if chart_rows and left > 0:
        grown = min(left, MAX_CHART - chart_rows, max(0, rows // 3 - chart_rows))
        chart_rows, left = chart_rows + max(0, grown), left - max(0, grown)
    if boxes and left > 0:
        grown = min(left, MAX_BOXES - below)
        below, left = below + grown, left - grown
    if left > 0:
        if chart_rows and not boxes:
            chart_rows += left // 2
            left -= left // 2
        if boxes or (way and width >= NARROW and below + left >= MIN_PANELS):
            below += left
        else:
            below += max(0, min(left, MAX_LINES - below))
    if chart_rows > 6 and chart_rows % 2:  # so that the middle of its axis is a line
        chart_rows, below = chart_rows - 1, below + (boxes or below < MAX_LINES)
    return Heights(chart_rows, way_rows, layers, head, below)
