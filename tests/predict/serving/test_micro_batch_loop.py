"""Times of a loop of micro-batches, and the chain over prompts and answers that is made of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from serving_cases import CASES

from bench.predicting.serving import student_t95
from swarm_predict.serving.queueing.micro_batch_loop import loop_times
from swarm_predict.serving.queueing.prefill_decode_chain import Phases

STATIONS = np.array([4.0, 9.0, 2.0])
WAY_MS = 30.0


def times(in_flight: list[int], prompts: list[int], part_ms: float = 20.0, parts: float = 1.0):
    count = len(in_flight)
    decode = np.tile(STATIONS, (count, 1))
    return loop_times(
        decode, decode, np.array([[part_ms, part_ms, part_ms]]), np.array([parts]), WAY_MS, np.array(in_flight),
        np.array(prompts), np.zeros(count, dtype=np.bool_),
    )  # fmt: skip


def test_without_prompts_a_cycle_is_the_way_or_the_busiest_station() -> None:
    found = times([1, 2, 5, 8], [0, 0, 0, 0]).cycle_ms
    assert found == pytest.approx([45.0, 45.0, 45.0, 72.0])


def test_a_micro_batch_with_a_prompt_in_every_pass_takes_it_longer() -> None:
    found = times([1], [1])
    assert found.cycle_ms == pytest.approx([45.0 + 60.0])
    assert found.part_ms == pytest.approx(found.cycle_ms)
    assert found.prompts == pytest.approx([1.0])


def test_all_micro_batches_with_prompts_keep_the_busiest_station_busy() -> None:
    assert times([6], [6]).cycle_ms == pytest.approx([6 * 29.0], rel=0.01)


def test_one_prompt_delays_those_behind_it_by_less_than_all_of_it() -> None:
    for cycle_ms in times([2, 5], [1, 1]).cycle_ms:
        assert 45.0 < cycle_ms < 45.0 + 60.0


def test_a_random_moment_waits_half_a_cycle_for_the_only_micro_batch() -> None:
    assert times([1], [0]).turn_ms == pytest.approx([45.0 / 2])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("load", [0.1, 0.6, 0.9, 0.99])
def test_as_many_requests_end_as_arrive(name: str, load: float) -> None:
    """Near the most, states with few sequences are hardly ever met; elimination by taking away lost them."""
    phases = Phases(CASES[name].route())
    arrivals = load * phases.most_per_s
    found = phases.under(arrivals)
    ended = float((found.chance * phases._rates[3]).sum()) * 1e3
    assert ended == pytest.approx(arrivals, rel=1e-3)
    assert found.beyond < 1


@pytest.mark.parametrize("name", CASES)
def test_a_slower_station_never_sustains_more(name: str) -> None:
    route = CASES[name].route()
    most = Phases(route).most_per_s
    for station in range(len(route.stations)):
        slower = route.decode_ms.copy()
        slower[:, station] *= 1.3
        assert Phases(replace(route, decode_ms=slower)).most_per_s <= most * 1.002


def test_students_t_is_that_of_tables() -> None:
    assert [student_t95(n) for n in (5, 7, 15, 30)] == pytest.approx([2.015, 1.895, 1.753, 1.697], abs=0.01)
    assert student_t95(10**6) == pytest.approx(1.645, abs=1e-3)
    assert math.isfinite(student_t95(1))
