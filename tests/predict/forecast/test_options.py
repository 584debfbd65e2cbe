"""Chunked prefill, offloading, speculative decoding and trust: what each costs or saves, in figures done by hand."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from boxes import Box, even, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.cost.build import build_tables, hop_parts
from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.software_overhead import engine_paths
from swarm_predict.cost.speculative import step_yield
from swarm_predict.forecast.draws import Drawn, Trip
from swarm_predict.forecast.prediction import predict
from swarm_predict.forecast.redundancy import price, slowest, unchecked
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.factors import RDMA_SHARE
from swarm_predict.types import PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.named_nodes import swarm_of_nodes

LLAMA70, OPT30 = model_named("llama-2-70b"), model_named("opt-30b")
NAMES = ("a", "b", "c", "d")
STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")
LAYERS = [("decode", 1, 128, 5.0), ("decode", 8, 128, 6.0), ("prefill", 1, 1000, 40.0)]


def four(*, mbps: float = 100.0, rtt_ms: float = 20.0, jitter_ms: float = 0.0, vram_gib: float = 100.0) -> Swarm:
    boxes = [Box(n, vram_gib=vram_gib, up_mbps=mbps, down_mbps=mbps, layers=LAYERS) for n in NAMES]
    return swarm_of(boxes, rtt_ms, jitter_ms=jitter_ms)


def ask(swarm: Swarm, **load: object) -> Prediction:
    workload = Workload(**load)  # type: ignore[arg-type]
    return predict(swarm, LLAMA70, parse_placement(even(NAMES, 80), LLAMA70, swarm), workload)


# -- chunked prefill


def test_prompts_are_limited_by_a_thin_uplink_and_tokens_by_round_trips():
    """16,000 tokens are 262 MB a hop: 52 s on b's 40 Mbit/s; a token's 16 KB take 3 ms beside 10 ms of path."""
    layers = [("decode", 1, 128, 0.1), ("prefill", 1, 16_000, 40.0)]
    boxes = [
        Box(n, vram_gib=100.0, up_mbps=40.0 if n == "b" else 1000.0, down_mbps=1000.0, layers=layers) for n in NAMES
    ]
    swarm = swarm_of(boxes, 20.0)
    found = ask(swarm, prompt=16_000)
    assert found.prompt_limited_by == "b's uplink"
    assert found.limited_by == "rtt"
    assert found.ttft_ms.p50 > 16_000 * 16384 * 8 / 40e3
    # in chunks, uploads and computing overlap: what is left is the busiest of both
    chunked = ask(swarm, prompt=16_000, prefill_chunk=500)
    assert chunked.prompt_limited_by == "b's uplink"
    assert 16_000 * 16384 * 8 / 40e3 < chunked.ttft_ms.p50 < found.ttft_ms.p50


def test_a_cached_prefix_is_neither_computed_nor_sent():
    swarm = four(mbps=100.0, rtt_ms=0.0)
    whole, rest, short = (
        ask(swarm, prompt=prompt, cached_prompt=cached).ttft_ms.p50
        for prompt, cached in ((1000, 0), (1000, 800), (200, 0))
    )
    assert short <= rest < whole / 3  # it attends to the prefix all the same
    with pytest.raises(PredictError, match="below the prompt of 1000"):
        ask(swarm, prompt=1000, cached_prompt=1000)


def test_one_chunk_is_the_whole_prompt():
    swarm = four(jitter_ms=5.0)
    assert ask(swarm, prompt=1000).ttft_ms == ask(swarm, prompt=1000, prefill_chunk=1000).ttft_ms
    assert ask(swarm, prompt=1000).ttft_ms == ask(swarm, prompt=1000, prefill_chunk=5000).ttft_ms


def test_chunks_of_a_chain_overlap():
    """Ten chunks of 100 tokens, 20 layers a node: 4 ms a layer for each chunk, above the 5 ms that reading the weights
    takes it is 5. One chunk's way through four nodes, then nine times the slowest node."""
    swarm = four(mbps=1e6, rtt_ms=0.0)
    whole, chunked = (ask(swarm, prompt=1000, prefill_chunk=size).ttft_ms.p50 for size in (0, 100))
    assert whole == pytest.approx(80 * 40.0, rel=0.01)
    assert chunked == pytest.approx((80 + 9 * 20) * 5.0, rel=0.01)


def test_a_slow_wire_is_what_further_chunks_wait_for():
    swarm = four(mbps=10.0, rtt_ms=0.0)
    wire = 100 * 16384 * 8 / 10e3
    assert wire > 20 * 5.0
    found = ask(swarm, prompt=1000, prefill_chunk=100).ttft_ms.p50
    assert found == pytest.approx(80 * 5.0 + 3 * wire + 9 * wire, rel=0.01)


def test_chunks_of_a_star_wait_for_each_other():
    swarm = four(mbps=1e6, rtt_ms=50.0)
    found = ask(swarm, prompt=1000, prefill_chunk=100, engine="star").ttft_ms.p50
    assert found == pytest.approx(10 * (80 * 5.0 + 6 * 25.0), rel=0.01)
    assert any("do not overlap" in note for note in ask(swarm, prompt=1000, prefill_chunk=100, engine="star").notes)


@pytest.mark.parametrize("engine", ["star", "chain", "tensor-parallel"])
def test_a_last_chunk_of_one_token_sends_and_computes_little(engine: str):
    """It was counted as a whole one: 101 tokens in chunks of 100 took as long as 200."""
    swarm = four(mbps=10.0, rtt_ms=1.0)
    once, little, twice = (
        ask(swarm, prompt=tokens, prefill_chunk=100, engine=engine).ttft_ms.p50 for tokens in (100, 101, 200)
    )
    assert once < little < once + 0.1 * (twice - once)


@settings(max_examples=25, deadline=None)
@given(chunk=st.integers(1, 2000), rtt=st.floats(0, 100), mbps=st.floats(5, 1000), engine=st.sampled_from(STAGED))
def test_no_chunking_beats_the_busiest_node(chunk, rtt, mbps, engine):
    found = ask(four(mbps=mbps, rtt_ms=rtt), prompt=1000, prefill_chunk=chunk, engine=engine)
    assert found.ttft_ms.p50 >= 20 * 40.0


# -- offloading


def offload(vram_gib: float, gbps: float, *, batch: int = 1) -> Prediction:
    layers = [("decode", b, 512, ms) for b, ms in ((1, 4.0), (64, 8.0))]
    swarm = swarm_of([Box("t4", vram_gib=vram_gib, layers=layers)], 0.0)
    placement = parse_placement("t4:0-47", OPT30, swarm)
    return predict(swarm, OPT30, placement, Workload(offload_gbps=gbps, batch=batch, context=512))


def test_weights_that_do_not_fit_are_read_in_every_step_beside_their_compute():
    """OPT-30B: 1.23 GB a layer. 16 GiB hold ten layers beside room to read two into, cache and ends."""
    found = offload(16.0, 12.0)
    gone = 48 - 10
    assert f"keeps {48 - gone} of 48 layers" in " ".join(found.notes)
    each = OPT30.layer_bytes("fp16") / 12e6
    assert found.fits
    assert found.breakdown_ms.compute == pytest.approx(10 * 4.0 + gone * each, rel=0.01)
    assert not offload(16.0, 0.0).fits


def test_what_fits_is_not_slowed_and_a_fast_bus_hides_behind_the_compute():
    assert offload(100.0, 12.0).breakdown_ms.compute == pytest.approx(48 * 4.0)
    assert offload(16.0, 1e4).breakdown_ms.compute == pytest.approx(48 * 4.0)


def test_a_batch_shares_the_reading():
    """Why FlexGen is for throughput: 64 sequences in nearly the time of one."""
    one, many = offload(24.0, 12.0), offload(24.0, 12.0, batch=8)
    assert many.throughput_tokens_per_s > 7 * one.throughput_tokens_per_s


def test_a_node_without_room_for_the_buffers_does_not_fit():
    assert not offload(2.0, 12.0).fits


def test_published_offloading_is_below_what_streaming_allows_and_within_a_factor_of_two():
    """FlexLLMGen benchmark/batch_size_table.md: OPT-30B on one T4 with 208 GB of RAM, DeepSpeed ZeRO-Inference, 4
    sequences: 0.60 tokens/s. PCIe 3.0 x16 gives about 12 GB/s; their prefill and its KV cache are not counted here."""
    found = offload(16.0, 12.0, batch=4)
    assert 0.60 < found.throughput_tokens_per_s < 1.2


# -- speculative decoding


@pytest.mark.parametrize(("guesses", "accept", "tokens"), [(0, 0.9, 1), (4, 0, 1), (4, 1, 5), (4, 0.8, 3.3616)])
def test_tokens_a_step_are_those_of_leviathan(guesses, accept, tokens):
    assert step_yield(Workload(draft_tokens=guesses, draft_accept=accept)) == pytest.approx(tokens)


def test_a_step_pays_its_hops_once_for_several_tokens():
    swarm = four()
    plain, drafted = ask(swarm), ask(swarm, draft_tokens=7, draft_accept=1.0, draft_ms=2.0)
    wire = (16384 * 3 + 4) * 8 / 100e3
    step = 80 * 6.0 + 4 * 10 + 8 * wire + 7 * 2.0 + drafted.breakdown_ms.head * 8
    assert drafted.tpot_ms.p50 == pytest.approx(step / 8)
    assert plain.tpot_ms.p50 > 5 * drafted.tpot_ms.p50


def test_guesses_that_are_never_right_only_cost():
    swarm = four()
    assert ask(swarm, draft_tokens=7).tpot_ms.p50 > ask(swarm).tpot_ms.p50


# -- trust


def test_a_step_waits_for_the_slowest_of_the_copies():
    swarm = four(jitter_ms=30.0)
    times = [ask(swarm, redundancy=r).tpot_ms.mean for r in (1, 2, 3)]
    assert times == sorted(times)
    assert times[2] > times[0] + 10
    still = four(mbps=1e9)
    assert ask(still, redundancy=3).tpot_ms.p50 == pytest.approx(ask(still).tpot_ms.p50, rel=1e-4)


def test_senders_upload_each_copy():
    swarm = four(rtt_ms=0.0)
    one, three = ask(swarm), ask(swarm, redundancy=3)
    assert three.breakdown_ms.network == pytest.approx(3 * one.breakdown_ms.network, rel=1e-3)


def test_redundant_execution_takes_the_machines_of_r_sets():
    swarm = four(mbps=1e9, rtt_ms=0.0)
    load = {"streams": 100}
    one = ask(swarm, **load).throughput_tokens_per_s
    assert ask(swarm, redundancy=2, **load).throughput_tokens_per_s == pytest.approx(one / 2, rel=1e-3)
    assert ask(swarm, spot_check=0.25, **load).throughput_tokens_per_s == pytest.approx(one / 1.25)


def test_spot_checks_hold_up_no_step_and_proofs_do():
    swarm = four()
    assert ask(swarm, spot_check=0.5).tpot_ms == ask(swarm).tpot_ms
    assert ask(swarm, proof_ms=2.0).tpot_ms.p50 == pytest.approx(ask(swarm).tpot_ms.p50 + 160)
    assert ask(swarm, proof_ms=2.0).breakdown_ms.overhead == pytest.approx(160)


def test_the_price_of_trust_is_one_line_in_tokens_a_second():
    swarm = four(mbps=1e9, rtt_ms=0.0)
    load = Workload(redundancy=2, spot_check=0.1)
    placement = parse_placement(even(NAMES, 80), LLAMA70, swarm)
    checked, free = (predict(swarm, LLAMA70, placement, asked) for asked in (load, unchecked(load)))
    said = price(checked, free, load)
    assert said.startswith("trust (2 compared copies, spot checks of 0.1 of all steps) costs ")
    assert "detected after 100 steps" in said


def test_the_slowest_of_copies_is_chosen_visit_by_visit():
    trips = [Trip(0, 1, 1.0, 1), Trip(1, 0, 1.0, None)]
    ms = np.array([[1.0, 1.0, 5.0, 1.0]])  # one draw; copy 0 then copy 1
    zeros = np.zeros(4)
    stages = np.array([[[1.0], [9.0]], [[2.0], [1.0]]])  # (copies, stages, draws)
    network, chosen = slowest(Drawn(ms, zeros, zeros, zeros), stages, trips)
    # visit 0 has no message: copy 1 is slower; visit 1: 9 + 1 + 1 beats 1 + 5 + 1
    assert chosen.tolist() == [[2.0], [9.0]]
    assert network.ms.tolist() == [[1.0, 1.0]]


# -- all of them


OPTIONS = st.fixed_dictionaries(
    {
        "draft_tokens": st.integers(0, 6),
        "draft_accept": st.floats(0, 1),
        "draft_ms": st.floats(0, 5),
        "redundancy": st.integers(1, 3),
        "spot_check": st.floats(0, 1),
        "proof_ms": st.floats(0, 3),
        "client_ms": st.floats(0, 50),
        "model_error": st.sampled_from([0.0, 0.1]),
    }
)


@settings(max_examples=40, deadline=None)
@given(options=OPTIONS, engine=st.sampled_from(STAGED), client=st.sampled_from([None, "a", "c"]))
def test_parts_add_up_and_the_tables_price_what_is_predicted(options, engine, client):
    swarm = four()
    found = ask(swarm, engine=engine, client=client, **options)
    parts = msgspec.structs.astuple(found.breakdown_ms)
    assert sum(parts) == pytest.approx(found.tpot_ms.mean)
    tables = build_tables(swarm, LLAMA70, Workload(engine=engine, client=client, **options))
    if not options["model_error"]:
        assert tables.price([0, 1, 2, 3], [20] * 4) == pytest.approx(found.tpot_ms.p50)


@settings(max_examples=20, deadline=None)
@given(options=OPTIONS)
def test_a_hop_is_split_by_cause_into_what_the_tables_price(options):
    swarm = four()
    load = Workload(**options)
    parts, tables = hop_parts(swarm, LLAMA70, load), build_tables(swarm, LLAMA70, load)
    assert parts.rtt_ms[0, 1] + parts.upload_ms[0, 1] == pytest.approx(tables.hop_ms[0, 1])


@settings(max_examples=25, deadline=None)
@given(jitter=st.floats(0, 50), engine=st.sampled_from(STAGED), copies=st.integers(2, 3))
def test_checking_never_makes_anything_faster(jitter, engine, copies):
    swarm = four(jitter_ms=jitter)
    free, checked = ask(swarm, engine=engine), ask(swarm, engine=engine, redundancy=copies, proof_ms=0.5)
    assert checked.tpot_ms.mean >= free.tpot_ms.mean - 1e-9
    assert checked.throughput_tokens_per_s <= free.throughput_tokens_per_s


@pytest.mark.priors
def test_what_is_read_in_every_step_takes_its_time_on_a_machine_of_unmeasured_speed():
    """15 of 36 GiB do not fit into a 4090: at 25 GB/s reading them takes more than ten times as long as computing."""
    swarm = swarm_of_nodes("a=4090@Berlin lan")
    placement = parse_placement("a:0-79", LLAMA70, swarm)
    load = Workload(weights="q4_0", engine="llama.cpp", offload_gbps=25.0)
    assert 550 < predict(swarm, LLAMA70, placement, load).tpot_ms.p50 < 680


def test_rdma_leaves_out_most_of_a_round_trip_that_was_estimated():
    """The round trip of a line's kind is the kernels' time; one that was measured or written stays as it is."""
    named = swarm_of_nodes("a=M4 Max 128GB@Berlin thunderbolt, b=M4 Max 128GB@Berlin thunderbolt")
    rows = range(len(named))
    over_tcp, over_rdma = (
        engine_paths(named, rows, Workload(engine=engine)).rtt_p50_ms[0, 1]  # type: ignore[arg-type]
        for engine in ("exo", "exo-rdma")
    )
    assert over_rdma == pytest.approx(RDMA_SHARE * over_tcp)
    assert engine_paths(four(), range(4), Workload(engine="exo-rdma")).rtt_p50_ms[0, 1] == pytest.approx(
        engine_paths(four(), range(4), Workload(engine="exo")).rtt_p50_ms[0, 1]
    )


def test_rdma_is_distinguished_from_the_round_trips_that_probes_measure():
    def notes_of(engine):
        return [note for note in ask(four(), engine=engine).notes if note.startswith("RDMA bypasses")]

    assert len(notes_of("exo-rdma")) == 1
    assert notes_of("exo") == []


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"redundancy": 0}, "redundancy is 0; it must be at least 1"),
        ({"spot_check": 1.5}, "spot_check is 1.5; it must be from 0 to 1"),
        ({"draft_accept": -0.1}, "draft_accept is -0.1; it must be from 0 to 1"),
        ({"offload_gbps": float("nan")}, "offload_gbps is nan; it must be 0 or more"),
    ],
)
def test_numbers_that_no_workload_has_are_refused_in_one_line(option, line):
    with pytest.raises(PredictError) as caught:
        ask(four(), **option)
    assert str(caught.value) == line


def test_calibrated_residuals_widen_the_interval_and_move_neither_mean_nor_median():
    swarm = four()
    exact, rough = ask(swarm), ask(swarm, model_error=0.1)
    assert "(10.0%) widens the interval" in " ".join(rough.notes)
    assert rough.tpot_ms.mean == pytest.approx(exact.tpot_ms.mean)
    assert rough.tpot_ms.p50 == pytest.approx(exact.tpot_ms.p50, rel=0.01)
    assert rough.tpot_ms.p95 / rough.tpot_ms.p50 == pytest.approx(1.16, abs=0.02)


def test_of_offloaded_experts_those_that_are_awake_are_read():
    """Whoever runs DeepSeek R1 beside one card: 14 tokens/s of 460 GB/s are published (KTransformers issue 314)."""
    swarm = swarm_of_nodes("a=RTX 4090 lan")
    model = model_named("deepseek-r1")
    placement = parse_placement("a:0-60", model, swarm)
    load = Workload(weights="q4_k_m", engine="llama.cpp", offload_gbps=460.0)
    found = predict(swarm, model, placement, load).tokens_per_s.p50
    assert 14 <= found <= 2 * 14


def test_an_offloaded_cache_makes_room_for_many_sequences_and_is_read_in_every_step():
    """OPT-30B on one T4, 144 sequences (FlexGen): 48 layers of weights but those that stay, and the whole cache."""
    swarm = swarm_of([Box("t4", vram_gib=15.0, mem_gbps=320.0, tflops=65.0, layers=())], None)
    placement = parse_placement("t4:0-47", OPT30, swarm)
    load = Workload(batch=144, context=544, offload_gbps=12.0)
    assert not predict(swarm, OPT30, placement, load).fits
    outside = predict(swarm, OPT30, placement, dataclasses.replace(load, offload_cache=True))
    assert outside.fits
    cache = 144 * OPT30.stage_cache_bytes(0, 47, 544)
    assert outside.tpot_ms.p50 > cache / 12e6
    with pytest.raises(PredictError, match="give it with --offload-gbps"):
        predict(swarm, OPT30, placement, Workload(offload_cache=True))
