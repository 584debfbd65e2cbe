"""Compute the time of one pass through a pipeline with other micro-batches in it: a closed loop without overtaking.

Micro-batches circulate: each passes the stations (stages, uplinks) in order, first come first served, then starts
again. A pass decodes one token of each sequence in it; some also compute a prompt chunk and take H longer, over all
stations. If all passes took the same time they would space out and never wait for each other:

    cycle = max(way, m · busiest station)                         with m micro-batches in flight

No pass overtakes another, so a long pass delays those behind it: the i-th one behind it by H − i·g, where g is the gap
between two passes that can close. A pass computes a prompt chunk with chance L, so the largest such delay D has

    P(D ≤ x) = Π (1 − L · P(H > x + i·g)),   i = 0 … m − 1            cycle = E[max(way + D, B)]

with g = cycle/m − busiest station, for decoding alone, and B the work of the busiest station in a cycle: m · decoding
and its prompt chunks, on average m · busiest station. If prompts are rare or long, they cause D: then B is decoding,
the part of D spent at that station, and the mean of what further prompts add. If they are frequent and short, B is
close to its mean. B is interpolated between the two by the squared chance that a loop has any prompt, and by way / H;
these weights were fitted to the event simulation of `python -m bench serving`.

At a station that other routes visit too, the way includes the wait for their visits; a station that all routes together
would overload makes all of them wait equally (`queueing.shared_stations`). The busiest station is then what the other
routes leave of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats

POINTS: Final = 48  # of the integral over delays
ROUNDS: Final = 40  # of the fixed point
CLOSE: Final = 1e-4  # relative
TINY_MS: Final = 1e-9


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
    mean = float(each.part_chance @ each.part_ms)
    alone = each.way_ms + each.parts * mean
    if in_flight == 1:
        return max(alone, full)
    decoding = in_flight * float(each.token_ms.max())
    busiest = int(each.station_ms.argmax())
    there = min(float(each.station_ms[busiest] - each.token_ms[busiest]) / max(each.parts * mean, TINY_MS), 1.0)
    longest = float(each.part_ms[-1])
    delays = np.linspace(0.0, longest, POINTS)
    gap_of = float((each.token_ms / each.left).max())
    behind = np.arange(in_flight)
    above = np.append(np.cumsum(each.part_chance[::-1])[::-1], 0.0)  # P(H ≥ part_ms[k])
    at_once = 1 - (1 - each.parts * above[np.searchsorted(each.part_ms, delays, side="right")]) ** in_flight
    decoding += there * max(0.0, in_flight * each.parts * mean - float(np.trapezoid(at_once, delays)))
    # prompts are wherever one looks, and none is long: the busiest station's work is about its mean
    often_share = (1 - (1 - each.parts) ** in_flight) ** 2 * min(1.0, each.way_ms / max(mean, TINY_MS))
    cycle = max(alone, full)
    for _ in range(ROUNDS):
        gap = max(0.0, cycle / in_flight - gap_of)
        longer = above[np.searchsorted(each.part_ms, delays[:, None] + behind[None, :] * gap, side="right")]
        exceeds = 1 - np.prod(1 - each.parts * longer, axis=1)  # P(D > x)
        rarely = _longer(delays, exceeds, each.way_ms, decoding, there)
        often = full + _beyond(delays, exceeds, full - each.way_ms)
        found = max(full, (1 - often_share) * rarely + often_share * often)
        if abs(found - cycle) < CLOSE * cycle:
            return found
        cycle = (cycle + found) / 2
    return cycle


def _longer(delays: Floats, exceeds: Floats, way_ms: float, decoding_ms: float, there: float) -> float:
    """Return E[max(way + D, decoding + there · D)], of a delay D with P(D > x) at given points; D is at least 0."""
    mean = float(np.trapezoid(exceeds, delays))
    if there >= 1:
        return max(way_ms, decoding_ms) + mean
    above = _beyond(delays, exceeds, (decoding_ms - way_ms) / (1 - there))
    return decoding_ms + there * mean + (1 - there) * above


def _beyond(delays: Floats, exceeds: Floats, least: float) -> float:
    """Return E[max(D, least)] − least, of a delay D with P(D > x) at given points; D is at least 0."""
    if least <= 0:
        return float(np.trapezoid(exceeds, delays)) - least
    if least >= delays[-1]:
        return 0.0
    at = np.append(least, delays[delays > least])
    return float(np.trapezoid(np.interp(at, delays, exceeds), at))
