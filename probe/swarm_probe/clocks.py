"""The two clocks of the probe, and the offset between them; the only place that reads them together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

CLOCK_GAP_NS: Final = 10_000  # two clocks read within this are read together
CLOCK_TRIES: Final = 5


class Clocks:
    """Wall and monotonic clock, and what one showed when the other showed something."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, mono_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.wall_ns = wall_ns
        self.mono_ns = mono_ns

    def offset_ns(self) -> int:
        """Wall − monotonic, now. Read until nothing came in between: a preemption there would look like delay."""
        best_gap, best = None, 0
        for _ in range(CLOCK_TRIES):
            before = self.mono_ns()
            wall = self.wall_ns()
            gap = self.mono_ns() - before
            if best_gap is None or gap < best_gap:
                best_gap, best = gap, wall - before - gap // 2
            if gap <= CLOCK_GAP_NS:
                break
        return best
