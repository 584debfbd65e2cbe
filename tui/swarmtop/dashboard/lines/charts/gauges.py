"""Draw gauges: a share as a bar on a track with its figure, all of the same width so that they align."""

from __future__ import annotations

import math
from typing import Final

from swarmtop.dashboard.lines.charts.series import smooth_bar
from swarmtop.dashboard.lines.styled import Span, pad
from swarmtop.text import quantities

WARM: Final = 0.8  # share of the scale from which a gauge is drawn as a warning
HOT: Final = 0.92


def gauge(label: str, share: float, figure: str, width: int, *, high_is_bad: bool = True) -> list[Span]:
    """Return `width` cells: label, bar, figure. An unknown share has no bar, and "–" as its figure."""
    known = math.isfinite(share)
    tail = max(6, len(figure))
    room = max(2, width - len(label) - tail - 2)
    role = "gauge"
    if known and high_is_bad and share >= WARM:
        role = "error" if share >= HOT else "warn"
    filled = smooth_bar(share, room).rstrip() if known else ""
    text = figure if known else quantities.UNMEASURED
    return [(f"{label} ", "dim"), (filled, role), ("·" * (room - len(filled)), "track"),
            (pad(text, tail + 1, ">"), role if role != "gauge" else "" if known else "dim")]  # fmt: skip
