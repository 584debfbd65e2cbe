"""Detect jumps of the wall clock: it was set, or the machine was suspended. Pure: both clocks are passed in.

A jump shows as a change of the offset between the wall clock and the monotonic clock.
"""

from __future__ import annotations

from typing import Final

from swarm_protocol.messages.samples import EventSample
from swarm_protocol.units import NS_PER_S

CLOCK_JUMP_NS: Final = NS_PER_S // 2  # far more than NTP slews a clock between two calls


class ClockWatch:
    """Compares the two clocks at each call of `look`."""

    def __init__(self, wall_ns: int, mono_ns: int) -> None:
        self._offset_ns = wall_ns - mono_ns

    def look(self, wall_ns: int, mono_ns: int) -> EventSample | None:
        """Return an event if the clocks moved apart since the last call; None: they did not."""
        jump_ns = (wall_ns - mono_ns) - self._offset_ns
        self._offset_ns = wall_ns - mono_ns
        if abs(jump_ns) < CLOCK_JUMP_NS:
            return None
        detail = f"the clock jumped by {jump_ns / NS_PER_S:+.1f} s (it was set, or the machine slept)"
        return EventSample(at_ns=max(0, wall_ns), kind="clock", detail=detail)
