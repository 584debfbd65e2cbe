"""Read the probe's two clocks, and the offset between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

CLOCK_GAP_NS: Final = 10_000  # two clocks read within this count as read together
CLOCK_TRIES: Final = 5


class Clocks:
    """Wall and monotonic clock, and what one showed when the other showed a given time."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, mono_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.wall_ns = wall_ns
        self.mono_ns = mono_ns
        self.epoch_ns = self.offset_ns()  # UTC at 0 of the monotonic clock, as it was when the probe started

    def offset_ns(self) -> int:
        """Return wall − monotonic, now. Retries after a preemption between the reads, which would look like delay."""
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

    def steady_ns(self, wall_ns: int) -> int:
        """Return the same moment by a wall clock that has not been set since the start, as one-way delays need it."""
        return wall_ns - self.offset_ns() + self.epoch_ns
