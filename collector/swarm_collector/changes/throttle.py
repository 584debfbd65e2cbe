"""Detect when a GPU starts and stops throttling its clock. Pure.

A card at its power limit may throttle in every other reading, so only what lasts is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from swarm_collector.changes.change_thresholds import number
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.units import NS_PER_S

MIN_READINGS: Final = 3
BEGINS_NS: Final = 20 * NS_PER_S
ENDS_NS: Final = 60 * NS_PER_S


class Throttle:
    def __init__(self) -> None:
        self._held: bool | None = None  # as reported; None: no reading yet
        self._since_ns = 0  # of the readings that contradict it
        self._readings = 0
        self._clock_mhz: float | None = None  # the last reading without throttling
        self._reported_ns = 0

    def add(self, sample: HostSample) -> Iterator[tuple[str, Literal["degraded", "recovered"], int]]:
        """Yield (detail, kind, duration) of a change that this reading confirms."""
        held = bool(sample.throttled)
        if not held and sample.clock_mhz is not None and self._held is not True:
            self._clock_mhz = sample.clock_mhz
        if self._held is None:
            self._held = held  # the first reading is no change
        if held == self._held:
            self._readings = 0
            return
        if self._readings == 0:
            self._since_ns = sample.at_ns
        self._readings += 1
        least_ns = BEGINS_NS if held else ENDS_NS
        if self._readings < MIN_READINGS or sample.at_ns < self._since_ns + least_ns:
            return
        self._held, self._readings = held, 0
        gpu = sample.gpu or "GPU"
        clock = ""
        if sample.clock_mhz is not None:
            before = f"{number(self._clock_mhz)} → " if held and self._clock_mhz is not None else ""
            clock = f", clock {before}{number(sample.clock_mhz)} MHz"
        if held:
            why = f" ({sample.throttle})" if sample.throttle else ""
            self._reported_ns = sample.at_ns
            yield f"{gpu} throttled{why}{clock}", "degraded", 0
        elif self._reported_ns:
            yield f"{gpu} no longer throttled{clock}", "recovered", sample.at_ns - self._reported_ns
