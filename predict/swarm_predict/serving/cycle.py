"""Time of one pass through a pipeline while other micro-batches are in it: a closed loop without overtaking.

Micro-batches circulate: each passes the stations (stages, uplinks) in order, first come first served, then starts
again. A pass decodes one token of each sequence in it; some also compute parts of prompts and take H longer, all
stations together. If all passes were alike they would space out and never wait for each other:

    cycle = max(way, m · busiest station)                         with m micro-batches in flight

Nobody overtakes, so a long pass delays those behind it: the one i places behind, with a gap of g between any two that
could close, by H − i·g. A pass computes a part of a prompt with chance L, so the largest such delay D has

    P(D ≤ x) = Π (1 − L · P(H > x + i·g)),   i = 0 … m − 1            cycle = E[max(way + D, m · busiest station)]

with g = cycle/m − busiest station, of decoding alone. The mean of H itself is in the busiest station's time.

Where other routes visit a station as well the way has the wait for a visit of theirs, and a station that all of them
together keep busy makes them wait alike (`shared`); the busiest station is then what others leave of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats

POINTS: Final = 48  # of the integral over delays
ROUNDS: Final = 40  # of the fixed point
CLOSE: Final = 1e-4  # relative


@dataclass(frozen=True, slots=True)
class Pass:
    """What one micro-batch's pass takes."""

    station_ms: Floats  # (stations,) service, on average
    token_ms: Floats  # (stations,) of it, for decoding alone
    left: Floats  # (stations,) share of the time that other routes leave
    way_ms: float  # of decoding alone, every service and what is between, without waiting for others of this route
    least_ms: float  # with the wait at stations that other routes keep busy all the time
    parts: float  # chance that a part of a prompt is in it
    part_ms: Floats  # (lengths,) what one takes longer, all stations together, ascending
    part_chance: Floats  # (lengths,)


def cycle_ms(each: Pass, in_flight: int) -> float:
    """Return the mean time from one start of a pass to the next, with so many micro-batches in flight."""
    full = max(in_flight * float(each.station_ms.max()), each.least_ms)
    alone = each.way_ms + each.parts * float(each.part_chance @ each.part_ms)
    if in_flight == 1:
        return max(alone, full)
    longest = float(each.part_ms[-1])
    delays = np.linspace(0.0, longest, POINTS)
    busiest = float((each.token_ms / each.left).max())
    behind = np.arange(in_flight)
    above = np.append(np.cumsum(each.part_chance[::-1])[::-1], 0.0)  # P(H ≥ part_ms[k])
    cycle = max(alone, full)
    for _ in range(ROUNDS):
        gap = max(0.0, cycle / in_flight - busiest)
        longer = above[np.searchsorted(each.part_ms, delays[:, None] + behind[None, :] * gap, side="right")]
        exceeds = 1 - np.prod(1 - each.parts * longer, axis=1)  # P(D > x)
        found = full + _beyond(delays, exceeds, full - each.way_ms)
        if abs(found - cycle) < CLOSE * cycle:
            return found
        cycle = (cycle + found) / 2
    return cycle


def _beyond(delays: Floats, exceeds: Floats, least: float) -> float:
    """Return E[max(D, least)] − least, of a delay D with P(D > x) at given points; D is at least 0."""
    if least <= 0:
        return float(np.trapezoid(exceeds, delays)) - least
    if least >= delays[-1]:
        return 0.0
    at = np.append(least, delays[delays > least])
    return float(np.trapezoid(np.interp(at, delays, exceeds), at))
