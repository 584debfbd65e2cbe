"""Cost tables: deliveries from what was measured, memory from what a stage holds, and nothing invented."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.build import build_costs, build_tables, explain, hop_parts
from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.machine.head_times import ORDINARY_MEM_GBPS
from swarm_predict.cost.network.delivery_times import links
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.posterior import NEUTRAL
from swarm_predict.types import BadPlacement, PredictError, Stage, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

LLAMA70 = model_named("llama-2-70b")
TINY = model_named("tiny")
STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")


def live(swarm: Swarm) -> Swarm:
    swarm.nodes["state"][:] = State.OK
    swarm.at_ns = 10**18
    return swarm


def test_a_hop_is_one_way_plus_serialisation_at_the_slower_end():
    swarm = swarm_of([Box("a", up_mbps=50), Box("b", down_mbps=20, up_mbps=10)], 40.0)
    tables = build_tables(swarm, LLAMA70, Workload())
    assert tables.hop_ms[0, 1] == pytest.approx(20 + 16384 * 8 / 20e3)
    assert tables.hop_ms[1, 0] == pytest.approx(20 + 16384 * 8 / 10e3)
    assert tables.back_ms[1, 0] == pytest.approx(20 + 4 * 8 / 10e3)  # a token id


def test_links_are_directed_and_a_missing_direction_is_the_same_round_trip():
    swarm = swarm_of([Box("a"), Box("b"), Box("c")], {("a", "b"): 10.0, ("b", "a"): 30.0, ("b", "c"): 50.0})
    oneway = links(swarm, range(3)).oneway_ms
    assert (oneway[0, 1], oneway[1, 0], oneway[1, 2], oneway[2, 1]) == (5, 15, 25, 25)
    assert np.isnan(oneway[0, 2])


def test_an_unmeasured_pair_is_infinite_and_told():
    swarm = swarm_of([Box("a"), Box("b")], None)
    assert build_tables(swarm, LLAMA70, Workload()).hop_ms[0, 1] == np.inf
    assert "2 of 2 pairs have no round trip: they are not used" in explain(swarm, LLAMA70, Workload())


def test_an_unmeasured_upload_is_infinite_when_live_and_free_when_written_by_hand():
    """By hand a missing uplink means no limit, and a note; live it means not measured yet."""
    boxes = [Box("a", up_mbps=None, down_mbps=None), Box("b", up_mbps=None, down_mbps=None)]
    swarm = swarm_of(boxes, 40.0)
    assert build_tables(swarm, LLAMA70, Workload()).hop_ms[0, 1] == 20
    assert "no up_mbps of a, b: its uploads are counted as free" in explain(swarm, LLAMA70, Workload())
    tables = build_tables(live(swarm), LLAMA70, Workload())
    assert tables.hop_ms[0, 1] == np.inf
    assert tables.back_ms[0, 1] == 20  # a token id is one packet, whatever the rate


def test_a_transfer_that_filled_the_path_caps_its_rate():
    swarm = swarm_of([Box("a", up_mbps=50), Box("b")], 40.0)
    swarm.links["mbps"][0, 1], swarm.links["mbps_kind"][0, 1] = 10.0, Kind.MEASURED
    assert links(swarm, range(2)).rate_mbps[0, 1] == 10
    swarm.links["mbps_kind"][0, 1] = Kind.BOUND  # at least 10 says nothing against 50
    assert links(swarm, range(2)).rate_mbps[0, 1] == 50


def measured_hop(size: int, p50: float) -> Swarm:
    swarm = swarm_of([Box("a", up_mbps=50), Box("b")], 80.0)
    for column, value in (("min", p50 - 1), ("p50", p50), ("p95", p50 + 5), ("p99", p50 + 9)):
        swarm.links[f"hop_{column}_ms"][0, 1] = value
    swarm.links["hop_bytes"][0, 1] = size
    return swarm


def test_a_measured_hop_of_this_size_replaces_the_formula():
    """It runs until its acknowledgement, which is one one-way trip."""
    assert build_tables(measured_hop(16384, 162.0), LLAMA70, Workload()).hop_ms[0, 1] == pytest.approx(162 - 40)


def test_other_sizes_than_the_measured_hop_are_scaled_between_one_way_and_it_or_pay_serialisation_on_top():
    swarm = measured_hop(16384, 102.0)
    at = links(swarm, range(2))
    assert at.delivery_ms(8192)[0, 1] == pytest.approx(40 + (62 - 40) / 2)
    assert at.delivery_ms(4)[0, 1] == pytest.approx(40, abs=0.01)
    assert at.delivery_ms(16384 + 6250)[0, 1] == pytest.approx(62 + 1.0)  # 6250 bytes at 50 Mbit/s


@pytest.mark.parametrize(
    # own measurement over 40 ms each way at 50 Mbit/s, until the acknowledgement: cubic used every second
    ("size", "hop_ms"),
    [(8 << 10, 82), (16 << 10, 162), (32 << 10, 164), (128 << 10, 324)],
)
def test_slow_start_term_reproduces_measured_hops(size, hop_ms):
    swarm = swarm_of([Box("a", up_mbps=50), Box("b")], 80.0)
    assert links(swarm, range(2)).delivery_ms(size, slow_start=True)[0, 1] + 40 == pytest.approx(hop_ms, rel=0.02)


def test_slow_start_is_asked_for_and_never_put_on_top_of_a_measured_hop():
    swarm = swarm_of([Box("a"), Box("b")], 80.0)
    plain = build_tables(swarm, LLAMA70, Workload()).hop_ms[0, 1]
    assert build_tables(swarm, LLAMA70, Workload(slow_start=True)).hop_ms[0, 1] > plain + 70
    hop = measured_hop(16384, 90.0)
    assert build_tables(hop, LLAMA70, Workload(slow_start=True)).hop_ms[0, 1] == pytest.approx(50)


def test_hop_overhead_is_on_every_trip_and_on_none_to_oneself():
    swarm = swarm_of([Box("a"), Box("b")], 10.0, client="a")
    plain = build_tables(swarm, LLAMA70, Workload(engine="star"))
    more = build_tables(swarm, LLAMA70, Workload(engine="star", hop_overhead_ms=7))
    assert more.hop_ms[0, 1] - plain.hop_ms[0, 1] == pytest.approx(7)
    assert (more.enter_ms[0], more.leave_ms[0], more.hop_ms[0, 0]) == (0, 0, 0)
    assert more.enter_ms[1] - plain.enter_ms[1] == pytest.approx(7)


def test_compute_scale_multiplies_layers_and_head():
    swarm = swarm_of([Box("a")])
    one, two = (build_tables(swarm, LLAMA70, Workload(compute_scale=scale)) for scale in (1.0, 2.0))
    assert two.layer_ms[0] == 2 * one.layer_ms[0]
    assert two.head_ms[0] == 2 * one.head_ms[0]


def test_the_head_runs_at_the_pace_of_the_measured_layers():
    swarm = swarm_of([Box("a", layers=[("decode", 1, 0, 7.1)], model="llama-2-70b")])
    head = build_tables(swarm, LLAMA70, Workload(context=0)).head_ms[0]
    assert head == pytest.approx(7.1 * LLAMA70.head_bytes("fp16") / LLAMA70.layer_bytes("fp16"))


@pytest.mark.priors
def test_a_client_head_of_unknown_speed_counts_as_an_ordinary_computers_and_is_told():
    swarm = swarm_of([Box("a"), Box("home", vram_gib=None, layers=())], client="home")
    load = Workload(engine="petals", priors=NEUTRAL)
    ordinary_ms = LLAMA70.head_bytes("fp16") / (ORDINARY_MEM_GBPS * 1e6)
    assert build_tables(swarm, LLAMA70, load).client_head_ms == pytest.approx(ordinary_ms)
    drawn = predict(swarm, LLAMA70, (Stage("a", 0, 79),), Workload(engine="petals")).breakdown_ms
    assert drawn.head > ordinary_ms  # machines rarely keep their data sheet
    assert any(
        "the LM head runs on the client home, whose speed is not known" in note
        for note in explain(swarm, LLAMA70, Workload(engine="petals"))
    )


def test_capacity_counts_weights_cache_embedding_and_head():
    """16 GiB hold ten layers of 1.711 GB; beside 0.52 GB of embedding or head only nine."""
    tables = build_tables(swarm_of([Box("a", vram_gib=16.0)]), LLAMA70, Workload())
    assert (tables.capacity[0], tables.capacity_first[0], tables.capacity_last[0], tables.capacity_only[0]) == (
        10, 9, 9, 9,
    )  # fmt: skip
    long = build_tables(swarm_of([Box("a", vram_gib=16.0)]), LLAMA70, Workload(context=100_000, streams=4))
    assert long.capacity[0] == int(16 * 2**30 / (LLAMA70.layer_bytes("fp16") + 4 * 100_000 * 4096))


def test_client_head_engines_ask_no_stage_for_embedding_or_head():
    tables = build_tables(swarm_of([Box("a", vram_gib=16.0)]), LLAMA70, Workload(engine="petals"))
    assert tables.capacity_only[0] == tables.capacity[0] == 10


def test_nodes_without_memory_and_nodes_that_left_serve_nothing():
    swarm = swarm_of([Box("a"), Box("b"), Box("c"), Box("home", vram_gib=None)])
    swarm.nodes["state"][1], swarm.nodes["state"][2] = State.LOST, State.LEFT
    assert list(build_tables(swarm, TINY, Workload()).capacity) == [8, 0, 0, 0]


def test_engines_send_as_many_bytes_as_their_sources_say():
    swarm = swarm_of([Box("a"), Box("b")], 0.0)
    per_ms = 100e3 / 8  # bytes a millisecond at 100 Mbit/s

    def sizes(engine: str) -> tuple[int, int]:
        tables = build_tables(swarm, LLAMA70, Workload(engine=engine))  # type: ignore[arg-type]
        head = build_costs(swarm, LLAMA70, Workload(), [0, 1]).layer.head_ms[0]
        back = tables.back_ms[0, 1] - (head if ENGINES[engine].head != "last" else 0)
        return round(tables.hop_ms[0, 1] * per_ms), round(back * per_ms)

    assert sizes("chain") == (16384, 4)
    assert sizes("petals") == (16384, 16384)
    assert sizes("llama.cpp") == (32768, 4 * 32000)
    assert sizes("vllm") == (32768, 4)


def test_engines_carry_sources():
    assert all(facts.sources for facts in ENGINES.values())


def test_rings_ignore_a_named_client_and_say_so():
    swarm = swarm_of([Box("a"), Box("b"), Box("home", vram_gib=None)], client="home")
    for engine in ("ring", "exo", "prima.cpp"):
        load = Workload(engine=engine)  # type: ignore[arg-type]
        assert build_tables(swarm, TINY, load).client is None
        assert any("the first stage drives the loop" in note for note in explain(swarm, TINY, load))


def test_tensor_parallel_has_no_tables():
    with pytest.raises(PredictError, match="tensor-parallel has no stages to place"):
        build_tables(swarm_of([Box("a")]), TINY, Workload(engine="tensor-parallel"))


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (Workload(engine="warp"), "engine 'warp' is not known; choose one of chain, ring, star"),  # type: ignore[arg-type]
        (Workload(weights="fp12"), "weights 'fp12' is not a known format"),
        (Workload(batch=0), "batch is 0; it must be at least 1"),
        (Workload(context=-1), "context is -1; it must be at least 0"),
        (Workload(compute_scale=0.0), "compute_scale is 0.0; it must be above 0"),
        (Workload(hop_overhead_ms=float("nan")), "hop_overhead_ms is nan; it must be 0 or more"),
        (Workload(client="nobody"), "there is no node 'nobody' to be the client; the swarm has a"),
    ],
)
def test_a_workload_that_cannot_be_is_one_line(load, said):
    with pytest.raises(PredictError) as caught:
        build_tables(swarm_of([Box("a")]), TINY, load)
    assert str(caught.value).startswith(said)


def test_an_unknown_client_is_a_bad_placement():
    with pytest.raises(BadPlacement):
        build_tables(swarm_of([Box("a")]), TINY, Workload(client="nobody"))


@given(
    rtts=st.lists(st.floats(0, 500), min_size=6, max_size=6),
    ups=st.lists(st.floats(0.1, 1000), min_size=3, max_size=3),
    engine=st.sampled_from(STAGED),
    client=st.sampled_from([None, "a", "c"]),
)
def test_no_delivery_beats_one_way_and_diagonals_are_free(rtts, ups, engine, client):
    pairs = list(itertools.permutations("abc", 2))
    boxes = [Box(name, up_mbps=up) for name, up in zip("abc", ups, strict=True)]
    swarm = swarm_of(boxes, dict(zip(pairs, rtts, strict=True)))
    tables = build_tables(swarm, LLAMA70, Workload(engine=engine, client=client))
    for (i, j), rtt in zip(itertools.permutations(range(3), 2), rtts, strict=True):
        assert tables.hop_ms[i, j] >= rtt / 2
        assert tables.back_ms[i, j] >= rtt / 2
    assert not np.any(np.diagonal(tables.hop_ms))
    parts = hop_parts(swarm, LLAMA70, Workload(engine=engine, client=client))
    assert np.allclose(parts.rtt_ms + parts.upload_ms, tables.hop_ms)


def test_parts_of_a_hop_are_the_means_that_predictions_draw():
    """Impact splits a node's cost by these, predictions draw them: they must be one model."""
    swarm = swarm_of([Box("a"), Box("b")], 50.0, jitter_ms=40.0, loss=0.02)
    swarm.links["rtt_p50_ms"][:] = 60.0
    found = predict(swarm, TINY, parse_placement("a:0-3,b:4-7", TINY, swarm), Workload(draws=100_000))
    parts = hop_parts(swarm, TINY, Workload())
    total = parts.rtt_ms[0, 1] + parts.jitter_ms[0, 1] + parts.upload_ms[0, 1]
    assert found.stages[1].hop_ms == pytest.approx(total, rel=0.02)


def test_rows_of_the_tables_follow_the_swarm():
    swarm = swarm_of([Box("a", overhead_ms=1), Box("b", overhead_ms=2), Box("c", overhead_ms=3)])
    tables = build_tables(swarm, TINY, Workload())
    assert tables.names == ("a", "b", "c")
    assert list(tables.overhead_ms) == [1, 2, 3]


@pytest.mark.parametrize("client", [None, "a", "b"])
def test_computing_the_head_away_from_the_last_stage_is_a_visit_too(client: str | None):
    """In a chain the last stage is there anyway; a star's client has waited for what it computes the head on."""
    for engine, visits in (("chain", 1), ("star", 2)):
        took = []
        for ms in (0.0, 5.0):
            swarm = swarm_of([Box("a", overhead_ms=ms), Box("b", overhead_ms=ms)], 10.0)
            placement = parse_placement(f"a:0-{TINY.layers - 1}", TINY, swarm)
            took.append(predict(swarm, TINY, placement, Workload(engine=engine, client=client)).tpot_ms.p50)
        assert took[1] - took[0] == pytest.approx(5.0 * visits, rel=0.01)
