"""Hypothetical machines: prediction with a machine that does not exist yet."""

from __future__ import annotations

import pytest
from swarms import both, plain

from swarm_predict.advice.hypothetical import Machine, with_machine
from swarm_predict.cost.build import build_tables
from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import BadPlacement, Workload

MODEL = model_named("llama-2-70b")
INT8 = Workload(weights="int8")


def test_a_machine_that_is_like_the_others_costs_what_they_cost() -> None:
    five, six = plain(count=5), plain(count=6)
    grown = with_machine(five, Machine("n5", 24.0, mem_gbps=900, tflops=70, up_mbps=100, down_mbps=200, rtt_ms=30))
    tables, real = build_tables(grown, MODEL, INT8), build_tables(six, MODEL, INT8)
    assert tables.hop_ms == pytest.approx(real.hop_ms)
    assert tables.layer_ms == pytest.approx(real.layer_ms)
    assert (tables.capacity == real.capacity).all()
    assert len(five) == 5


def test_what_is_left_out_is_the_median_of_the_swarm() -> None:
    grown = with_machine(plain(count=5), Machine("new", 24.0))
    tables = build_tables(grown, MODEL, INT8)
    assert tables.layer_ms[5] == pytest.approx(tables.layer_ms[0])
    assert tables.hop_ms[0, 5] == pytest.approx(tables.hop_ms[0, 1])


def test_a_near_and_fast_machine_makes_the_plan_faster() -> None:
    swarm = plain(count=5, trouble=both("n2", 200.0))
    before = plan(swarm, MODEL, INT8)
    after = plan(with_machine(swarm, Machine("new", 80.0, mem_gbps=2000, rtt_ms=5)), MODEL, INT8)
    assert after.bound_ms < before.bound_ms
    assert "new" in {stage.node for stage in after.prediction.placement}


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(BadPlacement, match="n1 is in this swarm already"):
        with_machine(plain(count=3), Machine("n1", 8.0))
