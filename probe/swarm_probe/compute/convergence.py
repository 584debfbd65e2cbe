"""Decide when a median is known well enough, and how many distinct layers keep weights out of the cache.

Pure: the clock is handed in, no torch. The interval is the distribution-free one of order statistics (Le Boudec,
Performance Evaluation, 2.2), because layer times are skewed: there is a fastest, and any amount of slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

TIGHT: Final = 0.02  # half the interval over the median: below this more repetition says nothing new
FEWEST: Final = 8  # below this the interval of the median is the whole range
LEAST: Final = 3  # even where the budget is spent: one pass has no spread, and may be the one that was disturbed
MOST: Final = 400
PASS_S: Final = 0.005  # one timed pass is at least so long, so that reading the clock and waiting for the device vanish
LAYERS_MOST: Final = 64
CACHE_TIMES: Final = 8  # weights in a pass over the last-level cache, which keeps some lines of a round however long


class TooSlow(Exception):
    """One pass takes longer than all the time there is; the text says how long it took."""


class Turned(Protocol):
    """What other programs took (turns.Turns)."""

    def waited_s(self) -> float: ...

    def put_aside(self) -> int: ...

    def used_s(self) -> float: ...

    def least_s(self, used_s: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Timing:
    median_s: float
    p5_s: float
    p95_s: float
    n: int
    tight: bool  # False: the budget ended it
    waited_share: float  # of the time that was timed, what this thread waited for a processor


class Undisturbed:
    """The default of `repeat`: nothing disturbs the measurement."""

    def waited_s(self) -> float:
        return 0.0

    def put_aside(self) -> int:
        return 0

    def used_s(self) -> float:
        return 0.0

    def least_s(self, used_s: float) -> float:
        return 0.0


_NOBODY: Final = Undisturbed()


def quantile(ordered: list[float], q: float) -> float:
    """Linear between neighbours; `ordered` ascends and is not empty."""
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def median_interval(ordered: list[float]) -> tuple[float, float]:
    """95 % interval of the median: ranks n/2 ∓ 0.98 √n. The whole range where n is small."""
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
    turns: Turned = _NOBODY,
    wait: Callable[[], object] = lambda: None,
    pass_most_s: float = 0.0,
) -> Timing:
    """Times `one_pass` until the median is tight or the budget spent; `wait` returns when the device is done with it.

    The first passes are warm-up. Several runs make one timed pass where one is too short to time, with one wait at its
    end, as an engine hands layer after layer to the device. What this thread waited for a processor is taken off;
    passes in which another thread of ours was put aside count only where too few others are left, and none is shorter
    than what a quota makes of its work. Takes up to five budgets where a pass takes nearly one. Raises TooSlow.
    """
    began = clock()
    one_pass()  # allocations, kernel choice
    wait()
    before, waited = clock(), turns.waited_s()
    one_pass()
    wait()
    single_s = clock() - before - (turns.waited_s() - waited)
    most_s = max(budget_s, pass_most_s)
    if single_s > most_s:
        raise TooSlow(f"one pass takes {single_s:.1f} s, the budget is {most_s:.1f} s")
    runs = max(1, math.ceil(PASS_S / max(single_s, 1e-7)))
    calm: list[float] = []
    taken: list[float] = []
    first, waited_first = clock(), turns.waited_s()
    while True:
        aside, used, waited, before = turns.put_aside(), turns.used_s(), turns.waited_s(), clock()
        for _ in range(runs):
            one_pass()
        wait()
        after = clock()
        ran_s = after - before - (turns.waited_s() - waited)
        each_s = max(0.0, ran_s, turns.least_s(turns.used_s() - used)) / runs
        taken.append(each_s)
        if turns.put_aside() == aside:
            calm.append(each_s)
        ordered = sorted(calm if len(calm) >= FEWEST else taken)
        tight = len(calm) >= FEWEST and is_tight(ordered)
        spent = len(taken) >= LEAST and after - began + (after - before) > budget_s
        if tight or spent or len(taken) >= MOST:
            share = (turns.waited_s() - waited_first) / max(after - first, 1e-9)
            p5, median, p95 = (quantile(ordered, q) for q in (0.05, 0.5, 0.95))
            return Timing(median, p5, p95, len(ordered), tight, share)


def layers_wanted(touched_bytes: int, cache_bytes: int) -> int:
    """Distinct layers, so that a pass over all of them touches several times what the caches hold."""
    return max(1, min(LAYERS_MOST, math.ceil(CACHE_TIMES * cache_bytes / max(1, touched_bytes))))
