"""Sensitivity: each gain is the difference of two predictions, and no improvement costs time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from boxes import Box, even, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.advice.sensitivity import Gain, faster_uplink, gains, nearer, roomier
from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import format_placement, parse_placement
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Swarm

LLAMA70 = model_named("llama-2-70b")
NAMES = ("a", "b", "c")

STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")


def ask(swarm: Swarm, text: str | None = None, **load: object) -> list[Gain]:
    workload = Workload(**load)  # type: ignore[arg-type]
    placement = parse_placement(text or even(NAMES, 80), LLAMA70, swarm, workload.engine)
    found = predict(swarm, LLAMA70, placement, workload)
    return list(gains(swarm, LLAMA70, placement, workload, found))


def pick(found: list[Gain], node: str | None, change: str) -> Gain:
    return next(gain for gain in found if gain.node == node and gain.change.startswith(change))


def test_a_faster_uplink_saves_the_serialisation_of_its_hop():
    swarm = swarm_of([Box(n, vram_gib=100, up_mbps=10, down_mbps=1000) for n in NAMES], 50.0)
    found = ask(swarm)
    assert pick(found, "a", "+10").gain_ms == pytest.approx(16384 * 8 / 1e3 * (1 / 10 - 1 / 20))
    assert pick(found, "c", "+10").gain_ms == pytest.approx(4 * 8 / 1e3 * (1 / 10 - 1 / 20))  # one token id


def test_a_nearer_node_saves_half_of_20_ms_on_each_hop_it_takes_part_in():
    swarm = swarm_of([Box(n, vram_gib=100) for n in NAMES], 50.0)
    assert pick(ask(swarm), "b", "−20").gain_ms == pytest.approx(2 * 10)


def test_20_ms_less_is_not_offered_on_paths_of_15():
    near = swarm_of([Box(n, vram_gib=100) for n in NAMES], 15.0)
    assert not [gain for gain in ask(near) if "round trip" in gain.change]


def test_memory_helps_a_fast_node_that_is_full_and_no_other():
    boxes = [Box("a", vram_gib=40, layers=[("decode", 1, 128, 1.0)]), *(Box(n, vram_gib=100) for n in ("b", "c"))]
    found = ask(swarm_of(boxes, 20.0), "a:0-22,b:23-50,c:51-79")
    a, b = pick(found, "a", "+8"), pick(found, "b", "+8")
    assert a.gain_ms == pytest.approx(5 * (5.0 - 1.0))  # 8 GiB hold five layers more
    assert b.gain_ms == 0


def test_splitting_the_layers_again_is_suggested_first_if_it_is_better():
    boxes = [Box("a", vram_gib=100, layers=[("decode", 1, 128, 1.0)]), *(Box(n, vram_gib=100) for n in ("b", "c"))]
    found = ask(swarm_of(boxes, 20.0), "a:0-9,b:10-49,c:50-79")
    assert (found[0].node, found[0].change) == (None, "layers split anew")
    assert found[0].gain_ms > 100


def test_a_measured_hop_changes_by_what_the_formula_says():
    swarm = swarm_of([Box(n, vram_gib=100, up_mbps=10, down_mbps=1000) for n in NAMES], 50.0)
    serial = 16384 * 8 / 10e3
    for name in ("hop_min_ms", "hop_p50_ms", "hop_p95_ms"):
        swarm.links[name][:] = 50.0 + serial + 7.0
    swarm.links["hop_bytes"][:] = 16384
    found = ask(swarm)
    assert pick(found, "a", "+10").gain_ms == pytest.approx(serial / 2)
    assert pick(found, "b", "−20").gain_ms == pytest.approx(20.0)


def test_where_no_rate_is_known_nothing_is_said_of_more():
    swarm = swarm_of([Box(n, vram_gib=100, up_mbps=None if n == "a" else 10) for n in NAMES], 50.0)
    assert not [gain for gain in ask(swarm) if gain.node == "a" and "Mbit" in gain.change]


def test_tensor_parallel_gains_most_where_the_slowest_pair_is():
    rtts = {(x, y): 90.0 if "c" in (x, y) else 10.0 for x in "abcd" for y in "abcd" if x != y}
    swarm = swarm_of([Box(n, vram_gib=100) for n in "abcd"], rtts)
    found = ask(swarm, ",".join(f"{n}:0-79" for n in "abcd"), engine="tensor-parallel")
    assert found[0].node == "c"
    assert found[0].change.startswith("−20")


def test_memory_for_offloaded_layers_saves_their_reading():
    """Eight GiB hold five layers of 1.71 GB, which are then not read at 10 GB/s beside 5 ms of compute each."""
    swarm = swarm_of([Box(n, vram_gib=30) for n in NAMES], 20.0)
    found = ask(swarm, offload_gbps=10.0)
    each = LLAMA70.layer_bytes("fp16") / 10e6 - 5.0
    assert pick(found, "b", "+8").gain_ms == pytest.approx(5 * each, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), engine=st.sampled_from(STAGED))
def test_no_improvement_ever_costs_time_and_each_gain_is_a_second_prediction(data, engine):
    boxes = [
        Box(n, vram_gib=data.draw(st.floats(60, 200)), up_mbps=data.draw(st.floats(1, 500)), down_mbps=300.0,
            layers=[("decode", 1, 128, data.draw(st.floats(0.5, 20)))])
        for n in NAMES
    ]  # fmt: skip
    rtts = {(x, y): data.draw(st.floats(0, 200)) for x in NAMES for y in NAMES if x != y}
    swarm = swarm_of(boxes, rtts)
    workload = Workload(engine=engine)  # type: ignore[arg-type]
    placement = parse_placement(even(NAMES, 80), LLAMA70, swarm, engine)
    found = predict(swarm, LLAMA70, placement, workload)
    listed = gains(swarm, LLAMA70, placement, workload, found)
    assert all(gain.gain_ms >= 0 for gain in listed)
    for gain in listed:
        changed: Swarm | None = None
        if gain.node and "Mbit" in gain.change:
            changed = faster_uplink(swarm, swarm.index(gain.node))
        elif gain.node and "round trip" in gain.change:
            changed = nearer(swarm, swarm.index(gain.node))
        if changed is not None:
            again = predict(changed, LLAMA70, placement, workload)
            assert found.tpot_ms.p50 - again.tpot_ms.p50 == pytest.approx(gain.gain_ms, abs=1e-6)
            assert 1e3 / again.tpot_ms.p50 == pytest.approx(gain.tokens_per_s)


def test_the_swarm_that_was_measured_stays_as_it_was():
    swarm = swarm_of([Box(n, vram_gib=100) for n in NAMES], 50.0)
    before = {**{k: v.copy() for k, v in swarm.nodes.items()}, **{k: v.copy() for k, v in swarm.links.items()}}
    for change in (faster_uplink, nearer, roomier):
        change(swarm, 1)
    ask(swarm)
    for name, column in {**swarm.nodes, **swarm.links}.items():
        np.testing.assert_array_equal(column, before[name])
    assert dataclasses.is_dataclass(swarm)
    assert format_placement(parse_placement(even(NAMES, 80), LLAMA70, swarm)) == even(NAMES, 80)
