"""Define the figures that are tested for changes, and format their numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    label: str  # in an event's text
    unit: str
    higher_is_worse: bool
    least_ratio: float  # ratio of the levels after and before, whichever is larger; smaller changes are not reported
    least_step: float  # smallest reported difference, in the figure's unit
    noise_floor: float  # lower limit of the scale of ln(value)
    alarm_decades: float  # evidence at which a change is reported; see `level`
    sample_decades: float  # the most evidence that one sample can add
    least_span_s: float  # the evidence must span at least this, unless it is a whole window
    least_baseline: int  # values needed before a change can be detected
    of_link: bool
    least_log_ratio: float = field(init=False)  # ln(least_ratio), which every sample is compared with

    def __post_init__(self) -> None:
        object.__setattr__(self, "least_log_ratio", math.log(self.least_ratio))


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
    """Return the number with three significant digits at most: `0.42`, `9.1`, `21`, `101`, `1250`."""
    if not math.isfinite(value):
        return "?"
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if size >= 99.5 else f"{value:.3g}" if size < 0.995 else f"{value:.2g}"


def step(figure: Figure, before: float, after: float) -> str:
    """Return text such as `RTT 21 → 101 ms`."""
    return f"{figure.label} {number(before)} → {number(after)} {figure.unit}"
