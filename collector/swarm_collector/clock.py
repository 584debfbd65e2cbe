"""Read the collector's wall clock and steady clock. How long a commit takes is measured where it happens."""

from __future__ import annotations

import time
from typing import Final

from swarm_protocol.units import NS_PER_S

SET_FROM_NS: Final = 5 * NS_PER_S  # NTP slews smaller steps
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a machine sleeps, on Linux


class Clock:
    """`wall_ns` is what people read and samples carry; it may be set by a year either way. `steady_ns` counts
    intervals: it starts as the wall clock and never goes back."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.clock_gettime_ns(_STEADY)

    def wall_ns(self) -> int:
        return time.time_ns()

    def steady_ns(self) -> int:
        return time.clock_gettime_ns(_STEADY) + self._offset_ns


class StepWatch:
    """Detect that the wall clock was set. Pure."""

    def __init__(self, wall_ns: int, steady_ns: int) -> None:
        self._apart_ns = wall_ns - steady_ns

    def step_ns(self, wall_ns: int, steady_ns: int) -> int:
        """Return by how much the wall clock was set ahead (below 0: back) since the last call; 0: it was not."""
        step_ns = wall_ns - steady_ns - self._apart_ns
        if abs(step_ns) < SET_FROM_NS:
            return 0
        self._apart_ns += step_ns
        return step_ns
