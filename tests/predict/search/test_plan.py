"""`plan`: from a swarm to a predicted placement with its certificate, or one line that says what is missing."""

from __future__ import annotations

import pytest
from swarms import both, plain

from swarm_predict.cost.build import build_tables, with_uplinks
from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import BadPlacement, DoesNotFit, NotMeasured, Workload

MODEL = model_named("llama-2-70b")
INT8 = Workload(weights="int8")


def test_a_plan_fits_covers_every_layer_and_avoids_the_far_node() -> None:
    found = plan(plain(count=5, trouble=both("n2", 200.0)), MODEL, INT8)
    stages = found.prediction.placement
    assert found.prediction.fits
    assert [layer for s in stages for layer in range(s.first, s.last + 1)] == list(range(80))
    assert "n2" not in {stage.node for stage in stages}
    assert found.exact
    assert found.gap == 0.0


def test_the_bound_is_the_price_of_an_exact_plan_in_the_tables_that_predict() -> None:
    swarm = plain(count=5)
    found = plan(swarm, MODEL, INT8)
    tables = build_tables(swarm, MODEL, INT8)
    order = [tables.names.index(stage.node) for stage in found.prediction.placement]
    assert found.bound_ms == pytest.approx(tables.price(order, [s.layers for s in found.prediction.placement]))


def test_forced_and_forbidden_nodes_are_obeyed() -> None:
    swarm = plain(count=5, trouble=both("n2", 200.0))
    nodes = {s.node for s in plan(swarm, MODEL, INT8, require=["n2"], forbid=["n0"]).prediction.placement}
    assert "n2" in nodes
    assert "n0" not in nodes


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadPlacement, match="there is no node 'nobody' in this swarm; correct --forbid"):
        plan(plain(), MODEL, INT8, forbid=["nobody"])


def test_too_little_memory_says_what_is_needed_and_what_is_there() -> None:
    with pytest.raises(DoesNotFit) as error:
        plan(plain(count=2), MODEL, INT8)
    assert str(error.value).startswith("llama-2-70b in int8 needs 63.8 GiB for its layers and 0.0 for the KV cache, ")
    assert "2 nodes have 48.0: all nodes together hold" in str(error.value)
    with pytest.raises(DoesNotFit, match=r"1 node has 24\.0: all nodes together hold"):  # a newcomer's first screen
        plan(plain(count=1), MODEL, INT8)


def test_a_swarm_without_layer_times_says_whose_are_missing() -> None:
    swarm = plain(count=3)
    swarm.nodes["mem_gbps"][:] = float("nan")
    swarm.nodes["tflops"][:] = float("nan")
    with pytest.raises(NotMeasured, match="no layer time for n0, n1, n2"):
        plan(swarm, MODEL, INT8)


def test_one_stream_has_its_best_throughput_at_its_best_latency() -> None:
    swarm = plain(count=6)
    quick, wide = plan(swarm, MODEL, INT8), plan(swarm, MODEL, INT8, "throughput")
    assert {s.node for s in quick.prediction.placement} == {s.node for s in wide.prediction.placement}


def test_many_streams_use_more_machines_for_a_shorter_period() -> None:
    swarm, many = plain(count=8), Workload(weights="int8", streams=16)
    quick, wide = plan(swarm, MODEL, many), plan(swarm, MODEL, many, "throughput")
    assert len(wide.prediction.placement) > len(quick.prediction.placement)
    assert wide.prediction.throughput_tokens_per_s > quick.prediction.throughput_tokens_per_s
    assert wide.exact


def test_a_narrow_uplink_limits_the_period() -> None:
    swarm = plain(count=4, up_mbps=1.0)
    tables = with_uplinks(build_tables(swarm, MODEL, INT8), swarm, MODEL, INT8)
    assert tables.uplink_ms is not None
    assert tables.uplink_ms[2] == pytest.approx(131.072)  # 16 KiB at 1 Mbit/s
    assert tables.period([2, 0, 1], [27, 27, 26]) == pytest.approx(131.072)
