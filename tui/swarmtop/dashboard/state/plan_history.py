"""Keep the planner's results over time: tokens a second, and how many nodes were degraded.

Filled as frames are answered, so that a live swarm has its last minutes and a recording the moments that were shown or
surveyed. Another model, engine or weight format clears it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Final

import msgspec

KEPT: Final = 2000  # moments; then the oldest go


class Rate(msgspec.Struct, frozen=True):
    at_ns: int
    tokens_per_s: float | None  # p50; None: no placement
    not_well: int  # nodes slow, degraded, stale or lost
    low: float | None = None  # tokens a second, p5: the slow end
    high: float | None = None  # p95


class Rates:
    def __init__(self) -> None:
        self._times: list[int] = []
        self._rates: list[Rate] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, rate: Rate) -> None:
        at = bisect.bisect_left(self._times, rate.at_ns)
        if at < len(self._times) and self._times[at] == rate.at_ns:
            self._rates[at] = rate
            return
        self._times.insert(at, rate.at_ns)
        self._rates.insert(at, rate)
        if len(self._times) > KEPT:
            del self._times[0], self._rates[0]

    @property
    def since_ns(self) -> int:
        """Return the first moment whose speed is known; 0: none."""
        return next((rate.at_ns for rate in self._rates if rate.tokens_per_s is not None), 0)

    @property
    def known(self) -> bool:
        """Return whether the speed of any moment is known."""
        return self.since_ns > 0

    def clear(self) -> None:
        self._times.clear()
        self._rates.clear()

    def over(self, first_ns: int, last_ns: int, buckets: int) -> list[Rate | None]:
        """Return the lowest rate of each of so many equal parts; None: nothing is known of that part."""
        found: list[Rate | None] = [None] * buckets
        low = bisect.bisect_left(self._times, first_ns)
        high = bisect.bisect_right(self._times, last_ns)
        for rate in self._rates[low:high]:
            at = min(buckets - 1, (rate.at_ns - first_ns) * buckets // max(1, last_ns - first_ns + 1))
            before = found[at]
            if before is None or (rate.tokens_per_s or 0.0) <= (before.tokens_per_s or 0.0):
                found[at] = rate
        return found

    def __contains__(self, at_ns: int) -> bool:
        at = bisect.bisect_left(self._times, at_ns)
        return at < len(self._times) and self._times[at] == at_ns


def survey(first_ns: int, last_ns: int, gaps: tuple[tuple[int, int], ...], moments: int) -> Iterator[int]:
    """Return moments to plan, first far apart and then in between, so that the chart is refined. None lies in a gap."""
    seen: set[int] = set()
    parts = 1
    while parts < 2 * moments:
        for part in range(parts + 1):
            at_ns = first_ns + (last_ns - first_ns) * part // parts
            if at_ns not in seen and not any(start < at_ns < end for start, end in gaps):
                yield at_ns
            seen.add(at_ns)
            if len(seen) > moments:
                return
        parts *= 2
