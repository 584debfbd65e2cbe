"""How wide a prediction is: jitter, losses, estimates, age and the spread of layer times."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from answers import LLAMA70, answer, live
from boxes import Box, swarm_of

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.network.delivery_times import links
from swarm_predict.cost.network.window_after_loss import mean_flights
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Kind, Swarm, Tcp

TINY = model_named("tiny")
LLAMA8 = model_named("llama-3.1-8b")
STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")
ABC = ("a", "b", "c")


def test_quantiles_of_a_sum_are_not_the_sum_of_quantiles():
    """Twelve hops rarely all have a bad moment at once."""
    names = [f"n{k}" for k in range(12)]
    one = answer(swarm_of([Box("n0"), Box("n1")], 50.0, jitter_ms=60.0), model=LLAMA70).tpot_ms
    many = answer(swarm_of([Box(n) for n in names], 50.0, jitter_ms=60.0), model=LLAMA70).tpot_ms
    tail_of_one, tail_of_many = (one.p95 - one.mean) / 2, many.p95 - many.mean
    assert tail_of_many < 12 * tail_of_one * 0.5
    assert many.p5 < many.p50 < many.p95


def test_jitter_adds_its_mean_and_widens_the_answer():
    """PDV of 60 ms is p95 − min of an exponential: mean 20 ms a round trip, 10 ms a one-way trip."""
    calm, shaky = (answer(swarm_of([Box("a"), Box("b")], 50.0, jitter_ms=j), draws=50_000).tpot_ms for j in (0.0, 60.0))
    assert shaky.mean - calm.mean == pytest.approx(2 * 10, rel=0.08)  # two trips
    assert shaky.p95 - shaky.p5 > 20
    assert calm.p95 == calm.p5


def test_measured_quantiles_are_used_where_there_are_any():
    swarm = swarm_of([Box("a"), Box("b")], 50.0)
    swarm.links["rtt_p95_ms"][:], swarm.links["rtt_p99_ms"][:] = 150.0, 250.0
    found = answer(swarm)
    assert found.tpot_ms.p95 - found.tpot_ms.p50 > 30
    assert found.limited_by == "compute"


def test_loss_costs_a_retransmission_now_and_then():
    """One token message a step is alone in flight: RTT + 200 ms each time one of its packets is lost. An activation
    of BBR is also paced more slowly than before the first losses."""
    calm, lossy = (swarm_of([Box("a"), Box("b")], 50.0, loss=loss) for loss in (0.0, 0.02))
    calm.nodes["tcp"][:] = lossy.nodes["tcp"][:] = Tcp.PACES
    slower = float(links(lossy, range(2)).lossy_window_ms(16_384.0)[0, 1])
    before, found = (answer(swarm, draws=50_000).tpot_ms for swarm in (calm, lossy))
    one_way = 1 - math.sqrt(1 - 0.02)
    token = one_way * 250
    activation = (1 - (1 - one_way) ** 12) * (100 / 12 + 62.5 * 2 / 12 + 50 * 9 / 12)
    assert slower > 20
    assert found.mean - before.mean == pytest.approx(token + activation + slower, rel=0.1)


def test_losses_keep_the_window_small_where_congestion_control_goes_by_them():
    """16 KB exceed the window half of the time at 1 % one way; the typical token pays for it, not only the late one."""
    paced, cubic = (swarm_of([Box("a"), Box("b")], 50.0, loss=0.02) for _ in range(2))
    paced.nodes["tcp"][:] = Tcp.PACES
    waits = answer(cubic, draws=50_000).tpot_ms.mean - answer(paced, draws=50_000).tpot_ms.mean
    waits += float(links(paced, range(2)).usual_delivery_ms(16_384.0)[0, 1])
    waits -= float(links(cubic, range(2)).delivery_ms(16_384.0)[0, 1])
    (note,) = [note for note in answer(cubic).notes if "lost packets" in note]
    assert "BBR on a" in note
    assert not any("lost packets" in note for note in answer(paced).notes)
    flights = float(mean_flights(12, 0, np.array([1 - math.sqrt(1 - 0.02)]))[0])
    retransmitted_less = flights * 0.06 * 55  # of two flights only the last one's losses cost a round trip
    assert waits == pytest.approx(flights * 50 - retransmitted_less, rel=0.1)


def test_a_measured_hop_brings_its_own_tail():
    swarm = swarm_of([Box("a"), Box("b")], 80.0)
    for column, value in (("min", 90.0), ("p50", 100.0), ("p95", 180.0), ("p99", 300.0)):
        swarm.links[f"hop_{column}_ms"][:] = value
    swarm.links["hop_bytes"][:] = 16384
    found = answer(swarm, draws=20_000)
    assert found.stages[1].hop_ms == pytest.approx(73, rel=0.1)  # p50 60, and a tail
    assert found.tpot_ms.p95 - found.tpot_ms.p50 > 40


def width(swarm: Swarm) -> float:
    found = answer(swarm, draws=20_000)
    return found.tpot_ms.p95 - found.tpot_ms.p5


def test_estimates_bounds_age_and_few_samples_widen():
    fresh = width(live())
    bound = live()
    bound.nodes["up_kind"][:] = Kind.BOUND
    assert fresh > 0
    assert width(live(Kind.ESTIMATE)) > fresh * 3
    assert width(bound) > fresh
    assert width(live(at_ns=10**18 - 10 * 24 * 3_600_000_000_000)) > fresh
    assert width(live(rtt_p95_ms=120.0, sent=5)) > width(live(rtt_p95_ms=120.0))


def test_estimates_and_bounds_stand_in_the_notes():
    swarm = live(Kind.ESTIMATE)
    swarm.nodes["up_kind"][:] = Kind.BOUND
    notes = answer(swarm).notes
    assert "some round trips are estimates (~), not measurements" in notes
    assert "some uploads are lower bounds (≥): the real hop may be faster" in notes


def test_spread_of_layer_times_widens():
    swarm = swarm_of([Box("a"), Box("b")], 0.0)
    noisy = dataclasses.replace(swarm.facts[0].layers[0], ms_p95=10.0)
    swarm.facts = tuple(dataclasses.replace(f, layers=(noisy,)) for f in swarm.facts)
    found = answer(swarm, draws=20_000)
    assert found.tpot_ms.p95 > 1.4 * found.tpot_ms.p5


def test_the_same_seed_gives_the_same_answer_and_another_one_nearly():
    swarm = swarm_of([Box("a"), Box("b")], 50.0, jitter_ms=40.0)
    assert answer(swarm, seed=1) == answer(swarm, seed=1)
    assert answer(swarm, seed=1).tpot_ms.mean == pytest.approx(answer(swarm, seed=2).tpot_ms.mean, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_a_layer_time_that_varies_keeps_its_median_whatever_the_seed(seed):
    """So that a plan is never below its own bound by the luck of the draw."""
    swarm = swarm_of([Box("a"), Box("b")], 20.0)
    noisy = [dataclasses.replace(facts.layers[0], ms_p95=6.0) for facts in swarm.facts]
    swarm.facts = tuple(dataclasses.replace(f, layers=(t,)) for f, t in zip(swarm.facts, noisy, strict=True))
    tables = build_tables(swarm, LLAMA70, Workload())
    one = answer(swarm, "a:0-79", seed=seed).tpot_ms.p50
    assert one == pytest.approx(tables.price([0], [80]), rel=1e-4)
    two = answer(swarm, "a:0-39,b:40-79", seed=seed).tpot_ms.p50
    assert two == pytest.approx(tables.price([0, 1], [40, 40]), rel=0.005)
