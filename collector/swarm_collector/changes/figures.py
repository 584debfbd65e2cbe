"""Which figures are tested for changes, and how their numbers are written. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    label: str  # in an event's text
    unit: str
    higher_is_worse: bool
    least_ratio: float  # of the levels after and before, whichever is larger: smaller changes are not told
    least_step: float  # and at least this far apart, in the figure's unit
    noise_floor: float  # of ln(value): no series is taken to be steadier than this
    alarm_decades: float  # evidence that is told; see `level`
    sample_decades: float  # the most that one sample can say: the others must agree with it
    least_span_s: float  # the evidence comes from at least so long, unless a whole window says so
    least_baseline: int  # values before anything can be called a change
    of_link: bool


# Figures that come every few seconds for every link need more evidence than those that come a few times an hour.
RTT: Final = Figure("rtt", "RTT", "ms", True, 1.25, 3.0, 0.05, 8.0, 4.0, 2.0, 3, True)
JITTER: Final = Figure("jitter", "jitter", "ms", True, 2.5, 10.0, 0.25, 8.0, 2.5, 10.0, 4, True)
LOSS: Final = Figure("loss", "loss", "%", True, 3.0, 5.0, 0.0, 8.0, 3.0, 4.0, 2, True)
UPLINK: Final = Figure("uplink", "upload", "Mbit/s", False, 1.5, 1.0, 0.15, 5.0, 2.6, 0.0, 1, False)
LAYER: Final = Figure("layer", "layer time", "ms", True, 1.25, 0.0, 0.06, 5.0, 1.8, 0.0, 1, False)
VISIT: Final = Figure("visit", "visit", "ms", True, 2.0, 0.3, 0.25, 5.0, 1.8, 0.0, 1, False)
PLAN: Final = Figure("plan", "plan", "tok/s", False, 1.25, 0.0, 0.05, 5.0, 2.0, 60.0, 2, False)

OF_LINKS: Final = (RTT, LOSS, JITTER)


def number(value: float) -> str:
    """Three figures at most: `0.42`, `9.1`, `21`, `101`, `1250`."""
    if not math.isfinite(value):
        return "?"
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if size >= 99.5 else f"{value:.3g}" if size < 0.995 else f"{value:.2g}"


def step(figure: Figure, before: float, after: float) -> str:
    """`RTT 21 → 101 ms`."""
    return f"{figure.label} {number(before)} → {number(after)} {figure.unit}"
