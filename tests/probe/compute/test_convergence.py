"""A median is taken until it is known well enough, and never for longer than the budget."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.compute.timing.convergence import (
    FEWEST,
    MAX_LAYERS,
    MAX_PASSES,
    TooSlow,
    layers_wanted,
    median_interval,
    quantile,
    repeat,
)
from swarm_probe.operating_system.preemption import Preemption


class Clock:
    """Time passes only while a pass runs."""

    def __init__(self, costs: Iterator[float]) -> None:
        self.now = 0.0
        self._costs = costs

    def one_pass(self) -> None:
        self.now += next(self._costs)

    def __call__(self) -> float:
        return self.now


def timed(cost: Callable[[int], float], budget_s: float) -> tuple[object, Clock]:
    clock = Clock(cost(i) for i in range(10**6))
    return repeat(clock.one_pass, budget_s, clock), clock


def test_a_steady_machine_is_done_after_the_fewest_passes_and_warm_up_does_not_count() -> None:
    timing, _ = timed(lambda i: 5.0 if i == 0 else 0.01, 60.0)
    assert (timing.median_s, timing.n, timing.tight) == (pytest.approx(0.01), FEWEST, True)


def test_a_restless_machine_is_measured_until_the_budget_and_says_that_it_is_not_tight() -> None:
    rng = random.Random(1)
    timing, clock = timed(lambda _: rng.choice((0.01, 0.05)), 2.0)
    assert not timing.tight
    assert 1.8 < clock.now <= 2.0
    assert timing.p95_s == pytest.approx(0.05)


def test_passes_too_short_to_time_are_timed_together() -> None:
    timing, clock = timed(lambda _: 0.000_01, 60.0)
    assert timing.median_s == pytest.approx(0.000_01)
    assert clock.now > FEWEST * 0.005


def test_a_pass_longer_than_the_budget_is_no_figure_but_a_reason() -> None:
    with pytest.raises(TooSlow, match=r"^one pass takes 3.0 s, the budget is 2.0 s$"):
        timed(lambda _: 3.0, 2.0)


def test_even_a_spent_budget_gives_more_than_one_pass() -> None:
    timing, _ = timed(lambda _: 0.9, 1.0)
    assert timing.n == 3


def test_repetition_has_an_end_without_a_budget() -> None:
    rng = random.Random(1)
    timing, _ = timed(lambda _: rng.choice((0.01, 0.5)), 1e9)
    assert timing.n <= MAX_PASSES


@given(st.lists(st.floats(min_value=0.001, max_value=10), min_size=1, max_size=50))
def test_the_interval_holds_the_median_and_quantiles_are_the_usual_ones(values: list[float]) -> None:
    ordered = sorted(values)
    low, high = median_interval(ordered)
    assert low <= quantile(ordered, 0.5) <= high
    assert quantile(ordered, 0.5) == pytest.approx(statistics.median(values))
    assert quantile(ordered, 0.0) == ordered[0]
    assert quantile(ordered, 1.0) == ordered[-1]


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    rng = random.Random(3)
    hits = 0
    for _ in range(2000):
        low, high = median_interval(sorted(rng.lognormvariate(0.0, 1.0) for _ in range(40)))
        hits += low <= 1.0 <= high
    assert hits / 2000 >= 0.95


@pytest.mark.parametrize(
    ("touched", "cache", "layers"),
    [(1 << 30, 32 << 20, 1), (10 << 20, 32 << 20, 26), (1, 32 << 20, MAX_LAYERS), (0, 0, 1)],
)
def test_layers_are_enough_to_defeat_the_cache_and_no_more(touched: int, cache: int, layers: int) -> None:
    assert layers_wanted(touched, cache) == layers


class Busy:
    """A machine on which every pass waits for its turn, and every `every`th is put aside in another thread too."""

    def __init__(self, clock: Clock, wait_s: float, every: int = 10**9, aside_s: float = 0.0) -> None:
        self._clock, self._wait_s, self._every, self._aside_s = clock, wait_s, every, aside_s
        self._passes = self._aside = 0
        self._waited = 0.0

    def one_pass(self) -> None:
        self._passes += 1
        self._clock.one_pass()
        self._clock.now += self._wait_s
        self._waited += self._wait_s
        if self._passes % self._every == 0:
            self._aside += 1
            self._clock.now += self._aside_s  # this thread spins meanwhile: it does not wait

    def waited_s(self) -> float:
        return self._waited

    def preemptions(self) -> int:
        return self._aside

    def used_s(self) -> float:
        return self._clock.now - self._waited

    def least_s(self, used_s: float) -> float:
        return 0.0


class HalfACore(Busy):
    """A quota of half a core: what waits for it looks like waiting for others."""

    def least_s(self, used_s: float) -> float:
        return used_s / 0.5


def test_waiting_for_a_processor_is_no_part_of_a_layer() -> None:
    """On a busy machine the polite child reads a layer of 9 ms as 60 to 250 ms by the wall clock."""
    clock = Clock(0.01 for _ in range(10**6))
    busy = Busy(clock, 0.2)
    timing = repeat(busy.one_pass, 60.0, clock, busy)
    assert timing.median_s == pytest.approx(0.01)
    assert timing.tight


def test_waiting_for_the_own_quota_is_part_of_a_layer() -> None:
    """In a container with half a core every token pays it."""
    clock = Clock(0.01 for _ in range(10**6))
    halved = HalfACore(clock, 0.013)
    assert repeat(halved.one_pass, 60.0, clock, halved).median_s == pytest.approx(0.02)


def test_passes_in_which_another_thread_was_put_aside_do_not_count() -> None:
    clock = Clock(0.01 for _ in range(10**6))
    busy = Busy(clock, 0.0, every=2, aside_s=0.05)
    timing = repeat(busy.one_pass, 60.0, clock, busy)
    assert timing.median_s == pytest.approx(0.01)
    assert timing.n == FEWEST


def test_this_machine_says_what_a_thread_waited() -> None:
    preemption = Preemption.of_this_thread()
    before = preemption.waited_s()
    assert before >= 0
    assert preemption.preemptions() >= 0
    assert preemption.waited_s() >= before
