"""Decide when a median is precise enough, and how many distinct layers keep weights out of the cache.

Pure: the clock is passed in, no torch. The interval is the distribution-free one of order statistics (Le Boudec,
Performance Evaluation, 2.2), because layer times are skewed: there is a fastest, and no slowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

TIGHT: Final = 0.02  # half the interval over the median: below this, repetition adds nothing
FEWEST: Final = 8  # below this the interval of the median is the whole range
MIN_PASSES: Final = 3  # even where the budget is spent: one pass has no spread, and may be a disturbed one
MAX_PASSES: Final = 400
PASS_S: Final = 0.005  # shortest timed pass, so that reading the clock and waiting for the device become negligible
MAX_LAYERS: Final = 64
CACHE_TIMES: Final = 8  # weights in a pass over the last-level cache, which keeps some lines of a round however long


class TooSlow(Exception):
    """One pass takes longer than the whole budget; the text says how long it took."""


class PreemptionSource(Protocol):
    """Time that other programs took from this thread (`operating_system.preemption.Preemption`)."""

    def waited_s(self) -> float: ...

    def preemptions(self) -> int: ...

    def used_s(self) -> float: ...

    def least_s(self, used_s: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Timing:
    median_s: float
    p5_s: float
    p95_s: float
    n: int
    tight: bool  # False: the budget ran out first
    waited_share: float  # share of the timed duration that this thread waited for a processor


class Undisturbed:
    """The default of `repeat`: nothing disturbs the measurement."""

    def waited_s(self) -> float:
        return 0.0

    def preemptions(self) -> int:
        return 0

    def used_s(self) -> float:
        return 0.0

    def least_s(self, used_s: float) -> float:
        return 0.0


_NOBODY: Final = Undisturbed()


def quantile(ordered: list[float], q: float) -> float:
    """Interpolate linearly between neighbours; `ordered` ascends and is not empty."""
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def median_interval(ordered: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median: ranks n/2 ∓ 0.98 √n. The whole range where n is small."""
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    low = max(0, math.floor(n / 2 - reach) - 1)
    high = min(n - 1, math.ceil(n / 2 + reach))
    return ordered[low], ordered[high]


def is_tight(ordered: list[float]) -> bool:
    low, high = median_interval(ordered)
    return (high - low) / 2 <= TIGHT * quantile(ordered, 0.5)


def repeat(
    one_pass: Callable[[], object],
    budget_s: float,
    clock: Callable[[], float],
    preemption: PreemptionSource = _NOBODY,
    wait: Callable[[], object] = lambda: None,
    pass_most_s: float = 0.0,
) -> Timing:
    """Time `one_pass` until the median is tight or the budget spent; `wait` returns when the device has finished it.

    The first passes are warm-up. Several runs make one timed pass where one is too short to time, with one wait at its
    end, as an engine gives layer after layer to the device. Time that this thread waited for a processor is subtracted;
    passes in which another of our threads was preempted count only where too few others are left, and none is shorter
    than what a quota allows. Takes up to five budgets where a pass takes nearly one. Raises TooSlow.
    """
    began = clock()
    one_pass()  # allocations, kernel choice
    wait()
    before, waited = clock(), preemption.waited_s()
    one_pass()
    wait()
    single_s = clock() - before - (preemption.waited_s() - waited)
    most_s = max(budget_s, pass_most_s)
    if single_s > most_s:
        raise TooSlow(f"one pass takes {single_s:.1f} s, the budget is {most_s:.1f} s")
    runs = max(1, math.ceil(PASS_S / max(single_s, 1e-7)))
    calm: list[float] = []
    taken: list[float] = []
    first, waited_first = clock(), preemption.waited_s()
    while True:
        aside, used, waited, before = preemption.preemptions(), preemption.used_s(), preemption.waited_s(), clock()
        for _ in range(runs):
            one_pass()
        wait()
        after = clock()
        ran_s = after - before - (preemption.waited_s() - waited)
        each_s = max(0.0, ran_s, preemption.least_s(preemption.used_s() - used)) / runs
        taken.append(each_s)
        if preemption.preemptions() == aside:
            calm.append(each_s)
        ordered = sorted(calm if len(calm) >= FEWEST else taken)
        tight = len(calm) >= FEWEST and is_tight(ordered)
        spent = len(taken) >= MIN_PASSES and after - began + (after - before) > budget_s
        if tight or spent or len(taken) >= MAX_PASSES:
            share = (preemption.waited_s() - waited_first) / max(after - first, 1e-9)
            p5, median, p95 = (quantile(ordered, q) for q in (0.05, 0.5, 0.95))
            return Timing(median, p5, p95, len(ordered), tight, share)


def layers_wanted(touched_bytes: int, cache_bytes: int) -> int:
    """Return the number of distinct layers, so that a pass over all of them exceeds the caches several times."""
    return max(1, min(MAX_LAYERS, math.ceil(CACHE_TIMES * cache_bytes / max(1, touched_bytes))))
