"""Draw histograms: bars on an axis, with percentiles marked below it.

If values span decades, the axis is logarithmic and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats
from swarmtop.dashboard.lines.charts.series import SPARK, nice_top
from swarmtop.dashboard.lines.styled import Block, Span, line, pad, text_width
from swarmtop.text import quantities

PERCENTILES: Final = (50, 95, 5, 99)  # in the order in which they get room
DECADES: Final = 1.3  # share of the values that a linear axis would squeeze into its first cells
AXIS: Final = 7
MIN_BINS: Final = 16


@dataclass(frozen=True, slots=True)
class Scale:
    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Return the position along the axis, 0..1."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(max(value, self.low)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def at(self, share: float) -> float:
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)


def scale_of(values: Floats) -> Scale:
    """Return a scale from zero to a round figure, logarithmic if the values span decades."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and math.log10(high / low) >= DECADES:
        return Scale(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)), True)
    if low > 0 and high / low < 2 and high > low:  # all alike: show how they differ
        step = nice_top((high - low) / 4)
        return Scale(
            max(0.0, math.floor(low / step) * step), math.ceil(high / step) * step + step * (high == low), False
        )
    return Scale(0.0, nice_top(high), False)


def histogram(values: Floats, unit: str, of: str, width: int, rows: int, scale: Scale | None = None) -> Block:
    """`rows` lines: the bars, the axis with its figures, the percentiles. NaNs are left out. `of`: what is counted.
    `scale`: one that holds the values of other histograms as well."""
    known = values[np.isfinite(values)]
    if not len(known) or rows < 4 or width < 24:
        return [line(("  nothing measured", "dim"))][:rows]
    scale = scale or scale_of(known)
    room = width - AXIS - 2
    places = np.array([scale.place(float(value)) for value in known])
    bins = min(room, max(MIN_BINS, round(3 * math.sqrt(len(known)))))
    held = np.bincount(np.clip((places * bins).astype(int), 0, bins - 1), minlength=bins)
    counts = held[np.arange(room) * bins // room]
    plot = rows - 3
    most = int(counts.max())
    low, high = (np.quantile(known, q) for q in (0.05, 0.95))
    block: Block = []
    for y in range(plot):
        label = str(most) if y == 0 else of if y == 1 and plot > 2 else ""
        spans: list[Span] = [(pad(label, AXIS - 1, ">") + "┤", "dim")]
        for x, count in enumerate(counts.tolist()):
            level = count / most * plot * 8 - (plot - 1 - y) * 8
            glyph = " " if count == 0 or level <= 0 else SPARK[min(7, max(0, math.ceil(level) - 1))]
            inside = low <= scale.at((x + 0.5) / room) <= high
            role = "spark" if inside else "band-edge"
            if len(spans) > 1 and spans[-1][1] == role:
                spans[-1] = (spans[-1][0] + glyph, role)
            else:
                spans.append((glyph, role))
        block.append(tuple(spans))
    marks, names = [" "] * room, [" "] * (room + 12)
    for q in PERCENTILES:
        value = float(np.quantile(known, q / 100))
        x = min(room - 1, max(0, int(scale.place(value) * room)))
        marks[x] = "▲"
        text = f"p{q} {quantities.figure(value)}"
        at = min(max(0, x - text_width(text) // 2), room - len(text))
        if all(c == " " for c in names[max(0, at - 1) : at + len(text) + 1]):
            names[at : at + len(text)] = text
    block.append(_axis(scale, room, unit, marks))
    block.append(line((" " * AXIS + "".join(names[: room + 2]), "strong")))
    spread = f"{len(known)} {of}, mean {quantities.figure(float(known.mean()))} {unit}"
    block.append(line((pad(" " * AXIS + spread + (", log scale" if scale.log else ""), width), "dim")))
    return block


def _axis(scale: Scale, room: int, unit: str, marks: Sequence[str]) -> tuple[Span, ...]:
    """Return the axis: figures at the ends and the middle, percentiles as ▲."""
    row = ["─"] * room
    ends = [(0, quantities.figure(scale.low)), (room // 2, quantities.figure(scale.at(0.5)))]
    last = f"{quantities.figure(scale.high)} {unit}"
    for at, text in (*ends, (room - len(last), last)):
        row[at : at + len(text)] = text
    spans: list[Span] = [(" " * (AXIS - 1) + "└", "dim")]
    for x, character in enumerate(row):
        if marks[x] == "▲" and character == "─":
            spans.append(("▲", "cursor-mark"))
        elif spans[-1][1] == "dim":
            spans[-1] = (spans[-1][0] + character, "dim")
        else:
            spans.append((character, "dim"))
    return tuple(spans)
