"""The delay models match their one parameter, which is what a scenario's author relies on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_lab.emulation.delay_models import Jitter, JitterSource, Loss, LossSource, extra_ms


@pytest.mark.parametrize("law", ["uniform", "normal", "lognormal", "pareto"])
@given(p95_ms=st.floats(0.1, 200), seed=st.integers(0, 2**32 - 1))
def test_95_of_100_packets_stay_below_p95_ms(law, p95_ms, seed):
    drawn = extra_ms(Jitter(p95_ms=p95_ms, law=law, cap_ms=60_000), 20_000, np.random.default_rng(seed))
    assert drawn.min() >= 0
    assert np.mean(drawn <= p95_ms) == pytest.approx(0.95, abs=0.01)


def test_no_packet_waits_longer_than_the_cap():
    drawn = extra_ms(Jitter(p95_ms=50, law="pareto", shape=1.1, cap_ms=80), 50_000, np.random.default_rng(1))
    assert drawn.max() == 80


def test_a_trace_is_played_in_a_circle_over_chunk_borders():
    source = JitterSource(Jitter(law="trace", trace_ms=(1.0, 2.0, 5.0)), np.random.default_rng(1))
    played = [source.next_ns() / 1e6 for _ in range(4099)]
    assert played == [(1.0, 2.0, 5.0)[k % 3] for k in range(4099)]


@pytest.mark.parametrize(("rate", "burst"), [(0.01, 1), (0.05, 4), (0.3, 20), (0.5, 1)])
def test_losses_have_the_rate_and_the_mean_run_that_were_asked_for(rate, burst):
    source = LossSource(Loss(rate=rate, burst=burst), np.random.default_rng(5))
    lost = np.array([source.next_is_lost() for _ in range(400_000)])
    runs = np.count_nonzero(lost[1:] & ~lost[:-1])
    assert lost.mean() == pytest.approx(rate, rel=0.1)
    # independent losses come in runs of 1 / (1 − rate) by chance alone
    assert lost.sum() / runs == pytest.approx(max(burst, 1 / (1 - rate)), rel=0.1)


def test_the_same_seed_loses_the_same_packets():
    first, second = (LossSource(Loss(rate=0.1), np.random.default_rng(3)) for _ in range(2))
    assert [first.next_is_lost() for _ in range(500)] == [second.next_is_lost() for _ in range(500)]
