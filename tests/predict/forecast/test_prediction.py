"""Predictions: memory, limits, throughput, the first token, and what is refused or noted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from answers import answer, live
from boxes import Box, even, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import BadPlacement, NotMeasured, Stage, Workload
from swarm_protocol.snapshot.swarm import State

TINY = model_named("tiny")
LLAMA8 = model_named("llama-3.1-8b")
STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")
ABC = ("a", "b", "c")


def test_too_big_a_stage_is_named_with_what_to_do():
    swarm = swarm_of([Box("t4-1", vram_gib=16.0), Box("big")])
    found = answer(swarm, "t4-1:0-39,big:40-79")
    assert not found.fits
    assert found.limited_by == "memory"
    assert found.notes[0] == "t4-1 needs 64.3 GiB for layers 0-39, has 16.0; give it fewer layers or --weights int8"
    assert found.stages[0].memory_free_bytes < 0 < found.stages[1].memory_free_bytes


@given(
    vram=st.floats(0.5, 40),
    context=st.integers(0, 20_000),
    streams=st.integers(1, 8),
    weights=st.sampled_from(["fp16", "int8", "q4_k_m"]),
    engine=st.sampled_from(STAGED),
)
def test_what_capacity_allows_always_fits(vram, context, streams, weights, engine):
    """The planner trusts capacity, the prediction counts exactly: they must not contradict each other."""
    load = Workload(context=context, streams=streams, weights=weights, engine=engine)
    swarm = swarm_of([Box("a", vram_gib=vram), Box("rest")])
    tables = build_tables(swarm, LLAMA8, load)
    count = int(tables.capacity_first[0])
    if count == 0:
        assert tables.capacity_only[0] == 0
    elif count < LLAMA8.layers:
        placement = (Stage("a", 0, count - 1), Stage("rest", count, LLAMA8.layers - 1))
        assert predict(swarm, LLAMA8, placement, load).fits


@pytest.mark.parametrize(
    ("boxes", "rtt_ms", "jitter_ms", "cause"),
    [
        ([Box("a", layers=[("decode", 1, 128, 20.0)]), Box("b")], 10.0, 0.0, "compute"),
        ([Box("a"), Box("b")], 2000.0, 0.0, "rtt"),
        ([Box("a"), Box("b")], 10.0, 5000.0, "jitter"),
        ([Box("a", up_mbps=0.1), Box("b")], 10.0, 0.0, "upload"),
        ([Box("a", overhead_ms=3000.0), Box("b")], 10.0, 0.0, "overhead"),
    ],
)
def test_the_largest_share_is_what_limits(boxes, rtt_ms, jitter_ms, cause):
    assert answer(swarm_of(boxes, rtt_ms, jitter_ms=jitter_ms)).limited_by == cause


def test_one_stream_is_bound_by_latency_and_many_by_the_slowest_stage():
    swarm = swarm_of([Box("a", layers=[("decode", 1, 128, 10.0)]), Box("b", layers=[("decode", 1, 128, 5.0)])], 200.0)
    one, many = answer(swarm, streams=1), answer(swarm, streams=100)
    assert one.throughput_tokens_per_s == pytest.approx(1000 / one.tpot_ms.mean)
    assert many.throughput_tokens_per_s == pytest.approx(1000 / 400)  # 40 layers of 10 ms
    assert answer(swarm, streams=2).throughput_tokens_per_s == pytest.approx(2 * one.throughput_tokens_per_s)


def test_a_thin_uplink_bounds_throughput():
    swarm = swarm_of([Box("a", up_mbps=0.1, layers=[("decode", 1, 128, 0.1)]), Box("b")], 20.0)
    found = answer(swarm, "a:0-78,b:79-79", streams=1000)
    assert found.throughput_tokens_per_s == pytest.approx(0.1e6 / (16384 * 8))


def test_a_batch_counts_every_sequence():
    swarm = swarm_of([Box("a", layers=[("decode", 1, 128, 10.0), ("decode", 8, 128, 12.0)])])
    found = answer(swarm, "a:0-79", batch=8)
    assert found.throughput_tokens_per_s == pytest.approx(8 * 1000 / found.tpot_ms.mean)


def test_the_first_token_takes_the_prompt_through_every_stage():
    layers = [("decode", 1, 128, 7.0), ("prefill", 1, 1000, 59.0)]
    swarm = swarm_of([Box("a", layers=layers), Box("b", layers=layers)], 20.0)
    found = answer(swarm, prompt=1000)
    network = 10 + 1000 * 16384 * 8 / 100e3 + 10
    assert found.ttft_ms.p50 == pytest.approx(80 * 59.0 + network + found.breakdown_ms.head, rel=0.001)


def test_the_first_token_is_not_known_without_prefill_time_or_tflops():
    found = answer(swarm_of([Box("a"), Box("b")]))
    assert math.isnan(found.ttft_ms.p50)
    assert "first token not known: no prefill time and no tflops of a, b" in found.notes


def test_a_prompt_is_never_faster_than_reading_the_weights():
    box = Box("a", layers=[("decode", 1, 0, 7.0)], tflops=1e6)
    found = answer(swarm_of([box]), "a:0-79", prompt=1)
    assert found.ttft_ms.p50 >= 80 * 7.0 * 0.99


def test_an_unknown_speed_is_not_guessed():
    with pytest.raises(NotMeasured, match="how fast a runs llama-2-70b is not known; measure it"):
        answer(swarm_of([Box("a", layers=()), Box("b")]))


def test_an_unknown_path_is_not_guessed():
    with pytest.raises(NotMeasured, match=r"no round trip a → b is known; measure it or write a \[\[link\]\]"):
        answer(swarm_of([Box("a"), Box("b")], None))


def test_an_unknown_upload_is_not_guessed_when_live():
    swarm = live()
    swarm.nodes["up_mbps"][:] = swarm.nodes["down_mbps"][:] = np.nan
    with pytest.raises(NotMeasured, match="no upload a → b is known; wait for its uplink test or write up_mbps"):
        answer(swarm)


def test_paths_that_the_placement_does_not_use_need_not_be_known():
    swarm = swarm_of([Box("a"), Box("b"), Box("c", layers=(), up_mbps=None)], {("a", "b"): 20.0})
    found = answer(swarm, "a:0-39,b:40-79")
    assert found.tpot_ms.mean > 0
    assert not any("c" in note.split() for note in found.notes)


def test_a_bad_placement_from_anywhere_is_refused():
    with pytest.raises(BadPlacement):
        predict(swarm_of([Box("a")]), TINY, (Stage("a", 0, 3),), Workload())


def test_slow_start_is_reported_where_it_would_matter():
    swarm = swarm_of([Box(name) for name in "abcdef"], 200.0)
    (note,) = [n for n in answer(swarm).notes if "tcp_slow_start_after_idle" in n]
    assert note.startswith("16.4 KB is more than TCP sends at once after idle: up to 994 ms a token more")
    assert not [n for n in answer(swarm, activations="int8").notes if "tcp_slow_start_after_idle" in n]
    assert answer(swarm, slow_start=True).tpot_ms.p50 == pytest.approx(answer(swarm).tpot_ms.p50 + 994, abs=1)


def test_a_lost_node_is_predicted_and_told():
    swarm = live()
    swarm.nodes["state"][1] = State.LOST
    assert "b is lost" in answer(swarm).notes


def test_memory_that_is_taken_just_now_is_reported():
    swarm = live()
    swarm.nodes["vram_free_bytes"][0] = 2.0 * 2**30
    found = answer(swarm)
    assert found.fits
    assert "a has 2.0 GiB free at the moment, this stage takes 64.3" in found.notes


def test_notes_never_repeat():
    notes = answer(swarm_of([Box("a", layers=(), mem_gbps=300.0), Box("b", layers=(), mem_gbps=300.0)])).notes
    assert len(notes) == len(set(notes))
    assert "layer time of a, b is a best case from memory bandwidth (roofline): no layer was measured" in notes


def test_tensor_parallel_pays_two_all_reduces_a_layer():
    """Four nodes 20 ms apart (round trip): two rounds of 10 ms, 160 times."""
    boxes = [Box(n, up_mbps=1e6, down_mbps=1e6) for n in "abcd"]
    found = answer(swarm_of(boxes, 20.0), "a:0-79,b:0-79,c:0-79,d:0-79", engine="tensor-parallel")
    assert found.breakdown_ms.network == pytest.approx(3200, rel=0.001)
    assert found.breakdown_ms.compute == pytest.approx(80 * 5.0 / 4)
    assert found.limited_by == "rtt"


def test_tensor_parallel_shares_follow_the_layers_given():
    swarm = swarm_of([Box("a"), Box("b")], 20.0)
    found = answer(swarm, "a:0-59,b:60-79", engine="tensor-parallel")
    assert found.breakdown_ms.compute == pytest.approx(80 * 5.0 * 0.75)
    assert found.stages[0].memory_bytes > 2.5 * found.stages[1].memory_bytes


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_all_reduce_rounds_reach_everybody(count):
    from swarm_predict.cost.all_reduce import doubling

    knows = [{k} for k in range(count)]
    for pairs in doubling(count):
        heard = [set(k) for k in knows]
        for src, dst in pairs:
            heard[dst] |= knows[src]
        knows = heard
    assert all(known == set(range(count)) for known in knows)


@settings(max_examples=25)
@given(data=st.data(), name=st.sampled_from(["mixtral-8x7b", "deepseek-v3", "gemma-3-27b", "gpt-oss-20b", "tiny"]))
def test_every_kind_of_model_is_predicted_in_every_engine(data, name):
    model = model_named(name)
    engine = data.draw(st.sampled_from([*STAGED, "tensor-parallel"]))
    swarm = swarm_of([Box(n, mem_gbps=900.0, tflops=70.0, layers=()) for n in ABC], 30.0)
    found = answer(swarm, even(ABC, model.layers), model=model, engine=engine)
    assert 0 < found.tpot_ms.p5 <= found.tpot_ms.p95 < 1e6
