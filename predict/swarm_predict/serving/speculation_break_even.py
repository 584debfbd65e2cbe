"""Find the request rate up to which speculative decoding pays.

Verifying widens every pass, and a full batch has no idle compute for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from swarm_predict.serving.replicas import Replicas

LIGHT: Final = 0.01  # of the most that is sustained: nobody waits
STEPS: Final = 12  # of the search for the rate where it turns
NEARLY: Final = 0.999


@dataclass(frozen=True, slots=True)
class Drafting:
    """Answers with guesses beside answers without."""

    guesses: int
    windows: int  # of a sequence in flight
    tokens_a_pass: float  # of a sequence, on average
    pays_to_per_s: float  # requests a second; below, answers take less with guesses. 0: never; infinity: always
    filled: str  # the machine or wire that is busiest where it turns; empty where it does not
    without_most_per_s: float
    without_tpot_ms: float  # on average, at the rate that was asked about; infinity: not sustained


def drafting(guessing: Replicas, plain: Replicas, guesses: int, arrivals_per_s: float) -> Drafting:
    """Compare the same placements with guesses and without."""
    route = max(zip(guessing.shares, guessing.routes, strict=True), key=lambda pair: pair[0])[1]
    turns = _turns_at(guessing, plain)
    filled = ""
    if 0 < turns < math.inf:
        loaded, served = guessing.together.under(min(turns, NEARLY * guessing.most_per_s))
        busy = {
            station.name: part
            for each, found in zip(loaded, served, strict=True)
            for station, part in zip(each.route.stations, found.busy, strict=True)
        }
        filled = max(busy, key=lambda name: busy[name])
    here = plain.at(arrivals_per_s).tpot_ms.mean if arrivals_per_s < plain.most_per_s else math.inf
    return Drafting(guesses, route.windows, route.tokens_a_pass, turns, filled, plain.most_per_s, here)


def _turns_at(guessing: Replicas, plain: Replicas) -> float:
    """Return the arrival rate above which an answer takes less without guesses, from arrival to its last token."""
    further = guessing.traffic.generate.mean - 1
    high = min(guessing.most_per_s, plain.most_per_s) * NEARLY
    low = high * LIGHT

    def pays(rate: float) -> bool:
        answers = [(each.ttft_ms.mean, each.tpot_ms.mean) for each in (guessing.at(rate), plain.at(rate))]
        one, other = (first + further * token for first, token in answers)
        return one < other

    if not pays(low):
        return 0.0
    if pays(high):
        return math.inf if guessing.most_per_s >= plain.most_per_s else guessing.most_per_s
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if pays(middle) else (low, middle)
    return low
