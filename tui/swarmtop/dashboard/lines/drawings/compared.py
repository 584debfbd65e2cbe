"""Draw a token's path through several placements, one above the other on one scale: the shorter is the faster."""

from __future__ import annotations

from collections.abc import Sequence

from swarm_predict.types import Prediction
from swarmtop.dashboard.lines.drawings import way_lines
from swarmtop.dashboard.lines.drawings.token_way import Way
from swarmtop.dashboard.lines.styled import Block, Line, fill_line, line, pad
from swarmtop.text import quantities

NAME = 9  # cells


def rows_wanted(count: int) -> int:
    """Return the number of lines for so many paths, drawn large."""
    return 4 * count


def compared(shown: Sequence[tuple[str, Prediction]], width: int, rows: int) -> Block:
    """Return as many as fit in `rows`, from the first: each with a heading and two or three lines."""
    ways = [way_lines.way(found) for _, found in shown]
    longest = max((way.total_ms for way in ways), default=0.0)
    count = min(len(shown), max(1, rows // 3)) if rows >= 3 else 0
    each = min(4, rows // count) if count else 0
    block: Block = []
    for (name, found), way in list(zip(shown, ways, strict=True))[:count]:
        block.append(_heading(name, found, way, width))
        block += way_lines.strip(way, width, each - 1, longest)
    return block


def _heading(name: str, found: Prediction, way: Way, width: int) -> Line:
    slowest = way.slowest
    return fill_line(
        [
            line(" ", (pad(name, NAME), "head"), (quantities.rate(found.tokens_per_s.p50), "strong")),
            line((quantities.ms(way.total_ms), ""), (" a token, mean", "dim")),
            line(("slowest ", "dim"), (way_lines.said(slowest), "slow")) if slowest is not None else (),
            line(("○ by way of the client", "dim")) if any(part.by_client for part in way.parts) else (),
        ],
        width, "  ",
    )  # fmt: skip
