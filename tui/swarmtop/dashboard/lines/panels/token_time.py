"""Draw the time of a token: its distribution, and its parts by machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.types import Prediction
from swarmtop.dashboard.lines.charts.histogram import histogram, scale_of
from swarmtop.dashboard.lines.charts.series import stacked
from swarmtop.dashboard.lines.drawings import route_lines
from swarmtop.dashboard.lines.drawings.token_route import Part, Route
from swarmtop.dashboard.lines.styled import Block, Span, clean, line, pad, text_width
from swarmtop.text import quantities

MIN_LINES: Final = 6  # lines of a distribution
WANTS: Final = 10
MAX_LINES: Final = 26
FIGURE: Final = 8  # cells
SHARE: Final = 5
COMPUTE: Final = "█"
PATH: Final = "▓"
REST: Final = "▒"
_ROLE: Final = {COMPUTE: "compute", PATH: "network", REST: "overhead"}


def can_spread(found: Prediction) -> bool:
    return len(found.tpot_quantiles_ms) > 1


def spread(shown: Sequence[tuple[str, Prediction]], width: int, rows: int) -> Block:
    """The distribution of the time per token of each prediction, one above the other on one axis."""
    known = [(name, np.array(found.tpot_quantiles_ms)) for name, found in shown if can_spread(found)]
    count = len(known) if len(known) < 2 or rows >= 2 * (MIN_LINES + 1) else 1
    known = known[:count]
    if not known:
        return [line(("  not known", "dim"))][:rows]
    scale = scale_of(np.concatenate([values for _, values in known]))
    if len(known) == 1:
        return histogram(known[0][1], "ms", "draws", width, rows, scale)
    block: Block = []
    for i, (name, values) in enumerate(known):
        each = rows // count + (i < rows % count)
        middle = f"{quantities.ms(float(np.median(values)))} a token"
        block.append(line((f" {name}  ", "head"), (middle, "")))
        block += histogram(values, "ms", "draws", width, each - 1, scale)
    return block


def parts_wanted(found: Prediction) -> int:
    """Return the lines of `by_machine`: one for each machine, the return path, the rest, and the key."""
    return len(_rows(route_lines.route(found))) + 1


def by_machine(found: Prediction, width: int, rows: int) -> Block:
    """For each machine its own time and that of the path to it; the longest ones where there is no room for all."""
    drawn = route_lines.route(found)
    listed = _rows(drawn)
    keep = max(1, rows - 1)
    left_out = 0
    if len(listed) > keep:
        longest = sorted(range(len(listed)), key=lambda i: -listed[i].total_ms)[: keep - 1]
        left_out = len(listed) - len(longest)
        listed = [listed[i] for i in sorted(longest)]
    names = min(max((text_width(row.name) for row in listed), default=8), max(8, width // 3))
    room = max(4, width - names - FIGURE - SHARE - 3)
    most = max((row.total_ms for row in listed), default=0.0)
    block: Block = []
    for row in listed:
        own = COMPUTE if row.machine else REST
        cells = stacked(((row.own_ms, own), (row.path_ms, PATH)), most, room)
        spans: list[Span] = [(pad(row.name, names) + " ", "slow" if row.slowest else "" if row.machine else "dim")]
        for glyph, count in cells:
            spans.append((glyph * count, "slow" if glyph in row.slowest else _ROLE[glyph]))
        spans.append((" " * max(0, room - sum(count for _, count in cells)), ""))
        share = quantities.percent(row.total_ms / drawn.total_ms if drawn.total_ms else None)
        spans += [(pad(quantities.ms(row.total_ms), FIGURE + 1, ">"), "strong"), (pad(share, SHARE + 1, ">"), "dim")]
        block.append(tuple(spans))
    if left_out:
        block.append(line((f"… {left_out} more, each shorter", "dim")))
    key: list[Span] = []
    for glyph, words in ((COMPUTE, "its layers"), (PATH, "the path to it"), (REST, "software, head")):
        key += [(glyph, _ROLE[glyph]), (f" {words}  ", "dim")]
    block.append((*key, ("mean ms", "dim")))
    return block[:rows]


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    own_ms: float
    path_ms: float
    machine: bool = True
    slowest: str = ""  # the glyph of its part that takes longest of all

    @property
    def total_ms(self) -> float:
        return self.own_ms + self.path_ms


def _rows(drawn: Route) -> list[_Row]:
    """Return, in a token's order: each machine with the path to it, the return path, the rest."""
    found: list[_Row] = []
    path: Part | None = None
    for part in drawn.parts:
        if part.kind == "path":
            path = part
        elif part.kind == "machine":
            name = clean(part.name, 40) + (f" +{part.machines - 1}" if part.machines > 1 else "")
            slowest = COMPUTE if part.slowest else PATH if path is not None and path.slowest else ""
            found.append(_Row(name, part.ms, path.ms if path is not None else 0.0, slowest=slowest))
            path = None
        else:
            found += [] if path is None else [_back(path)]
            path = None
            found.append(_Row(part.name, part.ms, 0.0, machine=False))
    return found if path is None else [*found, _back(path)]


def _back(path: Part) -> _Row:
    name = f"back to {clean(path.name, 40) or 'the client'}"
    return _Row(name, 0.0, path.ms, machine=False, slowest=PATH if path.slowest else "")
