"""Draw a token's path through several placements, one above the other on one scale: shorter is faster."""

from __future__ import annotations

from collections.abc import Sequence

from swarm_predict.types import Prediction
from swarmtop.dashboard.lines.drawings import route_lines
from swarmtop.dashboard.lines.drawings.token_route import Route
from swarmtop.dashboard.lines.styled import Block, Line, fill_line, line, pad
from swarmtop.text import quantities

NAME = 9  # cells


def rows_wanted(count: int) -> int:
    """Return the number of lines for so many paths, drawn large."""
    return 4 * count


def compared(shown: Sequence[tuple[str, Prediction]], width: int, rows: int) -> Block:
    """Return as many as fit in `rows`, from the first: each with a heading and two or three lines."""
    routes = [route_lines.route(found) for _, found in shown]
    longest = max((route.total_ms for route in routes), default=0.0)
    count = min(len(shown), max(1, rows // 3)) if rows >= 3 else 0
    each = min(4, rows // count) if count else 0
    block: Block = []
    for (name, found), route in list(zip(shown, routes, strict=True))[:count]:
        block.append(_heading(name, found, route, width))
        block += route_lines.strip(route, width, each - 1, longest)
    return block


def _heading(name: str, found: Prediction, route: Route, width: int) -> Line:
    slowest = route.slowest
    return fill_line(
        [
            line(" ", (pad(name, NAME), "head"), (quantities.rate(found.tokens_per_s.p50), "strong")),
            line((quantities.ms(route.total_ms), ""), (" a token, mean", "dim")),
            line(("slowest ", "dim"), (route_lines.said(slowest), "slow")) if slowest is not None else (),
            line(("○ via the client", "dim")) if any(part.by_client for part in route.parts) else (),
        ],
        width, "  ",
    )  # fmt: skip
