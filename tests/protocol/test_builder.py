"""The Swarm that samples give: the guarantees of each figure to the collector, the dashboard and the predictor."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import (
    ComputeSample,
    EventSample,
    HopSample,
    HostSample,
    LinkSample,
    RooflineSample,
    Sample,
    UplinkSample,
)
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.event_log import MAX_EVENTS
from swarm_protocol.snapshot.frames import apply_diff, decode_keyframe, encode_diff, encode_keyframe
from swarm_protocol.snapshot.links.link_figures import RECENT_RATE_NS
from swarm_protocol.snapshot.links.loss_history import LOADED_HOLD_NS
from swarm_protocol.snapshot.node_state import LOST_AFTER_NS, NUMBERS_OLD_NS, STALE_AFTER_NS
from swarm_protocol.snapshot.node_timings import MAX_LAYERS
from swarm_protocol.snapshot.swarm import LINK_COLUMNS, NODE_COLUMNS, Kind, Nat, Path, State, Swarm, Transport, Why
from swarm_protocol.units import BYTES_PER_GIB, NS_PER_S

T0 = 1_790_000_000 * NS_PER_S
A, B, C = "a" * 16, "b" * 16, "c" * 16


def three(**facts: Any) -> SwarmBuilder:
    builder = SwarmBuilder()
    for node_id, name in ((A, "ann"), (B, "ben"), (C, "cat")):
        builder.node(node_id, name, seen_ns=T0, **facts)
    return builder


def link(at_ns: int = T0, peer: str = B, **fields: Any) -> LinkSample:
    return LinkSample(at_ns=at_ns, peer=peer, **{"path": "direct", "sent": 10, "lost": 1, "rtt_p50_ms": 5.0, **fields})


def uplink(mbps: float, at_ns: int = T0, peer: str = B, bound: bool = False) -> UplinkSample:
    return UplinkSample(at_ns=at_ns, peer=peer, sent_bytes=1, mbps=mbps, bound=bound, seconds=1.0)


def host(at_ns: int = T0, **fields: Any) -> HostSample:
    filled = {"cpu_percent": 9.0, "ram_free_bytes": 6 * BYTES_PER_GIB, "ram_total_bytes": 8 * BYTES_PER_GIB}
    return HostSample(at_ns=at_ns, **{**filled, **fields})


def compute(at_ns: int = T0, **fields: Any) -> ComputeSample:
    filled: dict[str, Any] = {
        "device": "RTX 3090", "model": "m", "dtype": "fp16", "phase": "decode", "batch": 1, "context": 128,
        "ms_per_layer": 2.0, "ms_p95": 3.0, "n": 5,
    }  # fmt: skip
    return ComputeSample(at_ns=at_ns, **{**filled, **fields})


def facts(*gpus: str, torch: str | None = "2.13") -> HostFacts:
    return HostFacts(
        system="Linux 6.1",
        cpu="EPYC",
        cores=8,
        ram_bytes=64 * BYTES_PER_GIB,
        gpus=tuple(GpuFacts(name=name, vram_bytes=24 * BYTES_PER_GIB) for name in gpus),
        torch=torch,
    )


# ---------------------------------------------------------------- links


def test_a_link_sample_fills_its_direction_only_and_what_it_lacks_is_nan():
    builder = three()
    assert builder.sample(A, link(rtt_min_ms=4.0, pdv_ms=2.0, path="punched"))
    swarm = builder.snapshot(T0)
    cells = {name: column[0, 1] for name, column in swarm.links.items()}
    assert (cells["kind"], cells["path"], cells["at_ns"], cells["sent"]) == (Kind.MEASURED, Path.PUNCHED, T0, 10)
    assert (cells["rtt_min_ms"], cells["rtt_p50_ms"], cells["jitter_ms"], cells["loss"]) == (4.0, 5.0, 2.0, 0.1)
    assert np.isnan([cells["rtt_p99_ms"], cells["jitter_rfc3550_ms"], cells["hop_p50_ms"], cells["mbps"]]).all()
    assert swarm.links["kind"][1, 0] == Kind.NONE


def test_a_window_in_which_all_was_lost_shows_full_loss_and_no_round_trip():
    builder = three()
    builder.sample(A, link(T0))
    builder.sample(A, link(T0 + 1, path="none", lost=10, rtt_p50_ms=None))
    links = builder.snapshot(T0).links
    assert (links["loss"][0, 1], links["kind"][0, 1], links["path"][0, 1]) == (1.0, Kind.MEASURED, Path.NONE)
    assert np.isnan(links["rtt_p50_ms"][0, 1])


def test_a_window_in_which_nothing_was_sent_is_not_measured():
    builder = three()
    builder.sample(A, link(sent=0, lost=0, rtt_p50_ms=None))
    links = builder.snapshot(T0).links
    assert links["kind"][0, 1] == Kind.NONE
    assert np.isnan(links["loss"][0, 1])


def test_an_older_sample_that_comes_late_changes_nothing():
    builder = three()
    builder.sample(A, link(T0 + 1, rtt_p50_ms=1.0))
    assert not builder.sample(A, link(T0, rtt_p50_ms=9.0))
    assert not builder.sample(A, link(T0 + 1, rtt_p50_ms=9.0))
    assert builder.snapshot(T0).links["rtt_p50_ms"][0, 1] == 1.0


def test_a_figure_dated_after_its_node_was_last_heard_yields_to_any():
    """A clock that was a year ahead and has been put right must not freeze the link for a year."""
    builder = three()
    builder.sample(A, link(T0 + 365 * 86_400 * NS_PER_S, rtt_p50_ms=9.0))
    assert builder.sample(A, link(T0 + 1, rtt_p50_ms=1.0))
    assert builder.snapshot(T0).links["rtt_p50_ms"][0, 1] == 1.0


def test_a_window_beside_our_own_transfer_replaces_an_idle_one_only_when_that_is_old():
    builder = three()
    builder.sample(A, link(T0, rtt_p50_ms=1.0))
    assert not builder.sample(A, link(T0 + LOADED_HOLD_NS, rtt_p50_ms=80.0, loaded=True))
    assert builder.sample(A, link(T0 + LOADED_HOLD_NS + 1, rtt_p50_ms=81.0, loaded=True))
    assert builder.sample(A, link(T0 + LOADED_HOLD_NS + 2, rtt_p50_ms=2.0))
    assert builder.snapshot(T0).links["rtt_p50_ms"][0, 1] == 2.0


def test_samples_of_unknown_peers_and_of_oneself_are_not_taken():
    builder = three()
    assert not builder.sample(A, link(peer="d" * 16))
    assert not builder.sample(A, link(peer=A))
    with pytest.raises(KeyError):
        builder.sample("d" * 16, link())


def test_a_hop_has_its_own_time_and_size():
    builder = three()
    builder.sample(
        A,
        HopSample(
            at_ns=T0, peer=B, size_bytes=16384, cadence_ms=150, n=20, first_ms=9, min_ms=1, p50_ms=2, p95_ms=3, p99_ms=4
        ),
    )
    links = builder.snapshot(T0).links
    names = ("hop_bytes", "hop_min_ms", "hop_p50_ms", "hop_p95_ms", "hop_p99_ms", "hop_first_ms", "hop_at_ns")
    assert [links[name][0, 1] for name in names] == [16384, 1, 2, 3, 4, 9, T0]
    assert links["kind"][0, 1] == Kind.NONE  # of the round trip


def window(
    at_ns: int, rtt_ms: float, *, least_ms: float | None = None, p95_ms: float | None = None, **fields: Any
) -> LinkSample:
    least_ms, p95_ms = least_ms or rtt_ms, p95_ms or rtt_ms
    return link(at_ns, lost=0, rtt_min_ms=least_ms, rtt_p50_ms=rtt_ms, rtt_p95_ms=p95_ms, **fields)


def decode_hop(at_ns: int, ms: float) -> HopSample:
    return HopSample(
        at_ns=at_ns, peer=B, size_bytes=16384, cadence_ms=150, n=12, min_ms=ms, p50_ms=ms, p95_ms=ms, p99_ms=ms
    )


S = NS_PER_S


@pytest.mark.parametrize(
    ("samples", "hop_rtt_ms"),
    [
        ([window(T0, 20.0), decode_hop(T0 + S, 22.0)], 20.0),
        ([decode_hop(T0 + S, 22.0)], float("nan")),
        # long before the change, and long after it
        ([window(T0, 20.0), decode_hop(T0 + S, 22.0), window(T0 + 8 * S, 20.0), window(T0 + 16 * S, 100.0)], 20.0),
        ([window(T0, 20.0), window(T0 + 8 * S, 100.0), decode_hop(T0 + 9 * S, 102.0)], 100.0),
        # in the window that is all of the new level, which comes after the hop
        ([window(T0, 20.0), decode_hop(T0 + S, 102.0), window(T0 + 8 * S, 100.0)], 100.0),
        # in the window in which the path changed: no hop is faster than its round trip
        ([window(T0, 20.0), decode_hop(T0 + S, 22.0), window(T0 + 8 * S, 100.0, least_ms=20.0)], 20.0),
        ([window(T0, 20.0), decode_hop(T0 + 7 * S, 102.0), window(T0 + 8 * S, 100.0, least_ms=20.0)], 100.0),
    ],
)
def test_a_hop_keeps_the_round_trip_that_its_path_had(samples, hop_rtt_ms):
    """The predictor moves a hop by how much the path has changed since."""
    builder = three()
    for sample in samples:
        builder.sample(A, sample)
    found = builder.snapshot(T0 + 20 * S).links["hop_rtt_ms"][0, 1]
    assert found == hop_rtt_ms or (np.isnan(found) and np.isnan(hop_rtt_ms))


@pytest.mark.parametrize(
    ("loaded", "shown_ms"),
    [
        (window(T0 + 8 * S, 100.0, least_ms=98.0, p95_ms=104.0, loaded=True), 100.0),  # all of one level
        (window(T0 + 8 * S, 100.0, least_ms=20.0, p95_ms=180.0, loaded=True), 20.0),  # a queue
        (window(T0 + 8 * S, 100.0, least_ms=60.0, p95_ms=240.0, loaded=True), 20.0),  # a queue that never empties
        (window(T0 + 8 * S, 12.0, least_ms=11.0, p95_ms=90.0, loaded=True), 12.0),  # no queue makes a path shorter
        (window(T0 + 8 * S, 21.0, least_ms=20.0, p95_ms=30.0, loaded=True), 20.0),
    ],
)
def test_a_window_beside_a_transfer_counts_where_no_queue_explains_it(loaded, shown_ms):
    builder = three()
    builder.sample(A, window(T0, 20.0))
    builder.sample(A, loaded)
    assert builder.snapshot(T0 + 20 * S).links["rtt_p50_ms"][0, 1] == shown_ms


# ---------------------------------------------------------------- rates


def test_a_nodes_rates_are_the_best_of_the_latest_transfers_to_and_from_each_peer():
    builder = three()
    builder.sample(A, uplink(90.0, T0, B))
    builder.sample(A, uplink(40.0, T0 + 1, B))  # to ben it has fallen
    builder.sample(A, uplink(30.0, T0 + 2, C))
    builder.sample(B, uplink(70.0, T0 + 3, C))
    nodes = builder.snapshot(T0).nodes
    assert [nodes["up_mbps"][i] for i in range(2)] == [40.0, 70.0]
    assert [nodes["down_mbps"][i] for i in (1, 2)] == [40.0, 70.0]
    assert (nodes["up_at_ns"][0], nodes["up_kind"][0], nodes["up_kind"][2]) == (T0 + 1, Kind.MEASURED, Kind.NONE)
    assert np.isnan(nodes["up_mbps"][2])


def test_a_bound_that_exceeds_what_was_measured_is_shown_as_a_bound():
    builder = three()
    builder.sample(A, uplink(40.0, T0, B))
    builder.sample(A, uplink(55.0, T0 + 1, C, bound=True))
    nodes = builder.snapshot(T0).nodes
    assert (nodes["up_mbps"][0], nodes["up_kind"][0]) == (55.0, Kind.BOUND)
    builder.sample(A, uplink(55.0, T0 + 2, B))
    assert builder.snapshot(T0).nodes["up_kind"][0] == Kind.MEASURED


def test_transfers_that_are_long_past_no_longer_count_once_there_are_newer_ones():
    builder = three()
    builder.sample(A, uplink(90.0, T0, B))
    builder.sample(A, uplink(20.0, T0 + RECENT_RATE_NS + 1, C))
    assert builder.snapshot(T0).nodes["up_mbps"][0] == 20.0


# ---------------------------------------------------------------- hosts and compute


def test_gpus_of_one_moment_are_added_up_and_shown_only_when_all_have_come():
    builder = three(facts=facts("RTX 3090", "RTX 3090"))
    gpu: dict[str, Any] = {"gpu": "RTX 3090", "gpu_util_percent": 50.0, "vram_total_bytes": 24, "power_w": 200.0}
    builder.sample(A, host(T0, **gpu, vram_free_bytes=20, temp_c=60.0, throttled=False))
    assert builder.snapshot(T0).nodes["host_at_ns"][0] == 0
    builder.sample(A, host(T0, **{**gpu, "gpu_util_percent": 100.0}, vram_free_bytes=10, temp_c=70.0, throttled=True))
    nodes = {name: column[0] for name, column in builder.snapshot(T0).nodes.items()}
    assert (nodes["vram_bytes"], nodes["vram_free_bytes"], nodes["power_w"]) == (48, 30, 400.0)
    assert (nodes["gpu_util_percent"], nodes["temp_c"], nodes["throttled"]) == (75.0, 70.0, 1.0)


def test_a_gpu_that_no_longer_answers_leaves_the_others_shown_with_the_next_reading():
    builder = three(facts=facts("RTX 3090", "RTX 3090"))
    builder.sample(A, host(T0, gpu="RTX 3090", vram_total_bytes=24, vram_free_bytes=20))
    builder.sample(A, host(T0 + 1, gpu="RTX 3090", vram_total_bytes=24, vram_free_bytes=19))
    nodes = builder.snapshot(T0).nodes
    assert (nodes["vram_bytes"][0], nodes["host_at_ns"][0]) == (24, T0)


def test_a_node_without_a_gpu_offers_half_of_its_ram_and_says_cpu():
    builder = three(facts=facts())
    before = builder.snapshot(T0)
    assert (before.nodes["vram_bytes"][0], before.facts[0].device) == (32 * BYTES_PER_GIB, "cpu: EPYC")
    builder.sample(A, host())
    nodes = builder.snapshot(T0).nodes
    assert (nodes["vram_bytes"][0], nodes["vram_free_bytes"][0]) == (4 * BYTES_PER_GIB, 4 * BYTES_PER_GIB)
    builder.sample(A, host(T0 + 1, ram_free_bytes=BYTES_PER_GIB))
    assert builder.snapshot(T0).nodes["vram_free_bytes"][0] == BYTES_PER_GIB


def test_cards_whose_driver_does_not_answer_keep_their_size_and_their_free_memory_is_unknown():
    builder = three(facts=facts("RTX 3090", "A4000"))
    builder.sample(A, host())
    swarm = builder.snapshot(T0)
    assert swarm.nodes["vram_bytes"][0] == 48 * BYTES_PER_GIB
    assert np.isnan(swarm.nodes["vram_free_bytes"][0])
    assert swarm.facts[0].device == "RTX 3090 + A4000"


def test_a_card_that_does_not_say_its_size_makes_the_memory_unknown_not_zero():
    unsaid = GpuFacts(name="NVIDIA Graphics Device", vram_bytes=0)
    builder = three(facts=HostFacts(system="s", cpu="c", cores=1, ram_bytes=1, gpus=(unsaid,)))
    builder.sample(A, host(gpu="NVIDIA Graphics Device"))
    swarm = builder.snapshot(T0)
    assert np.isnan(swarm.nodes["vram_bytes"]).all()
    assert swarm.nodes["host_at_ns"][0] == T0


def test_equal_cards_are_counted_in_the_device_name():
    assert three(facts=facts("RTX 3090", "RTX 3090")).snapshot(T0).facts[0].device == "2× RTX 3090"


def test_layer_times_are_the_latest_of_each_key():
    builder = three()
    builder.sample(A, compute(T0))
    builder.sample(A, compute(T0 + 1, ms_per_layer=1.5, verified=True))
    builder.sample(A, compute(T0 + 2, context=1024, ms_per_layer=4.0))
    assert not builder.sample(A, compute(T0, ms_per_layer=99.0))
    swarm = builder.snapshot(T0)
    layers = {layer.context: (layer.ms, layer.verified, layer.at_ns) for layer in swarm.facts[0].layers}
    assert layers == {128: (1.5, True, T0 + 1), 1024: (4.0, False, T0 + 2)}
    assert (swarm.nodes["compute_at_ns"][0], swarm.facts[0].device) == (T0 + 2, "RTX 3090")


def test_a_node_that_invents_models_cannot_make_others_hold_more_than_a_bound():
    builder = three()
    for i in range(MAX_LAYERS + 5):
        builder.sample(A, compute(T0 + i, model=f"m{i}"))
    layers = builder.snapshot(T0).facts[0].layers
    assert (len(layers), layers[0].model) == (MAX_LAYERS, "m5")


def test_the_roofline_is_that_of_the_best_number_format():
    builder = three()
    builder.sample(A, RooflineSample(at_ns=T0, device="d", dtype="fp16", mem_gbps=800.0, tflops=60.0))
    builder.sample(A, RooflineSample(at_ns=T0 + 1, device="d", dtype="fp32", mem_gbps=850.0, tflops=20.0))
    builder.sample(A, RooflineSample(at_ns=T0 + 2, device="d", dtype="fp16", mem_gbps=700.0, tflops=50.0))
    nodes = builder.snapshot(T0).nodes
    assert (nodes["mem_gbps"][0], nodes["tflops"][0]) == (850.0, 50.0)


def test_the_note_says_why_layer_times_are_missing_until_there_are_some():
    builder = three(facts=facts("RTX 3090", torch=None))
    assert builder.snapshot(T0).facts[0].note == "torch not installed: pip install 'swarmtop[torch]'"
    builder.sample(A, EventSample(at_ns=T0, kind="torch_missing", detail="no torch here"))
    assert builder.snapshot(T0).facts[0].note == "no torch here"
    builder.sample(A, compute(T0 + 1))
    assert builder.snapshot(T0).facts[0].note == ""
    builder.sample(A, EventSample(at_ns=T0, kind="torch_missing", detail="late"))
    assert builder.snapshot(T0).facts[0].note == ""


def test_a_failed_timing_is_over_with_the_next_that_succeeds_even_where_an_undisturbed_figure_still_counts():
    builder = three()
    builder.sample(A, compute(T0, ms_per_layer=1.0))
    builder.sample(A, EventSample(at_ns=T0 + 1, kind="compute_failed", detail="out of memory"))
    assert builder.snapshot(T0).facts[0].note == "out of memory"
    builder.sample(A, compute(T0 + 2, ms_per_layer=9.0, marks="contended"))
    facts = builder.snapshot(T0).facts[0]
    assert (facts.note, [layer.ms for layer in facts.layers]) == ("", [1.0])


# ---------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("silent_ns", "state"),
    [
        (0, State.OK),
        (STALE_AFTER_NS - 1, State.OK),
        (STALE_AFTER_NS, State.STALE),
        (LOST_AFTER_NS, State.LOST),
        (10 * 365 * 86_400 * NS_PER_S, State.LOST),
    ],
)
def test_a_silent_node_becomes_stale_then_lost(silent_ns: int, state: State):
    assert three().snapshot(T0 + silent_ns).nodes["state"].tolist() == [state] * 3


def test_a_node_that_is_heard_but_measures_nothing_is_stale():
    builder = three()
    for node_id in (A, B):
        builder.seen(node_id, T0 + NUMBERS_OLD_NS)
    builder.sample(B, host(T0 + NUMBERS_OLD_NS))
    assert builder.snapshot(T0 + NUMBERS_OLD_NS).nodes["state"].tolist() == [State.STALE, State.OK, State.LOST]


def test_who_has_left_stays_so_until_heard_again():
    builder = three()
    builder.state(A, State.LEFT, T0 + 1)
    assert builder.snapshot(T0 + 2).nodes["state"][0] == State.LEFT
    builder.seen(A, T0 + 3, spooled=4)
    nodes = builder.snapshot(T0 + 4).nodes
    assert (nodes["state"][0], nodes["spooled"][0], nodes["seen_ns"][0]) == (State.OK, 4, T0 + 3)


def test_a_member_never_heard_of_is_unknown_and_one_just_heard_is_not_stale_at_once():
    builder = SwarmBuilder()
    builder.node(A, "ann")
    assert builder.snapshot(T0).nodes["state"][0] == State.UNKNOWN
    builder.seen(A, T0)
    assert builder.snapshot(T0).nodes["state"][0] == State.OK


# ---------------------------------------------------------------- events


def test_events_are_in_time_order_bounded_and_carry_the_latest_name():
    builder = three()
    for i in range(MAX_EVENTS):
        builder.event(T0 + i + 10, A, "note", str(i))
    builder.sample(B, EventSample(at_ns=T0 + 11, kind="udp_off", detail="late"))
    builder.event(T0 + 1, None, "note", "too old to be kept")
    builder.node(A, "anna", seen_ns=T0)
    events = builder.snapshot(T0).events
    assert len(events) == MAX_EVENTS
    assert [(e.node, e.detail) for e in events[:3]] == [("anna", "1"), ("ben", "late"), ("anna", "2")]


# ---------------------------------------------------------------- members


def test_forgetting_a_node_moves_the_others_with_all_their_figures():
    builder = three()
    builder.sample(A, link(peer=C, rtt_p50_ms=1.0))
    builder.sample(C, link(peer=A, rtt_p50_ms=2.0))
    builder.sample(C, host())
    builder.sample(A, link(peer=B, rtt_p50_ms=3.0))
    builder.event(T0, B, "note", "was here")
    builder.forget(B)
    swarm = builder.snapshot(T0)
    assert swarm.names == ("ann", "cat")
    assert swarm.links["rtt_p50_ms"][0, 1] == 1.0
    assert swarm.links["rtt_p50_ms"][1, 0] == 2.0
    assert (swarm.nodes["cpu_percent"][1], swarm.events[0].node) == (9.0, "ben")
    builder.node(B, "ben", seen_ns=T0)
    again = builder.snapshot(T0)
    assert np.isnan(again.links["rtt_p50_ms"][0, 2])
    assert np.isnan(again.nodes["cpu_percent"][2])


def test_growing_beyond_the_first_capacity_keeps_every_figure():
    builder = SwarmBuilder()
    ids = [f"{i:016x}" for i in range(40)]
    for i, node_id in enumerate(ids):
        builder.node(node_id, f"n{i}", seen_ns=T0)
        for j in range(i):
            builder.sample(node_id, link(peer=ids[j], rtt_p50_ms=float(100 * i + j)))
    rtt = builder.snapshot(T0).links["rtt_p50_ms"]
    assert all(rtt[i, j] == 100 * i + j for i in range(40) for j in range(i))
    assert np.isnan(rtt[np.triu_indices(40)]).all()


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_does_not_change_when_the_builder_continues():
    builder = three()
    builder.sample(A, link(T0, rtt_p50_ms=1.0))
    before = builder.snapshot(T0)
    builder.sample(A, link(T0 + 1, rtt_p50_ms=2.0))
    builder.seen(A, T0 + 9)
    assert (before.links["rtt_p50_ms"][0, 1], before.nodes["seen_ns"][0]) == (1.0, T0)
    with pytest.raises(ValueError, match="read-only"):
        before.links["rtt_p50_ms"][0, 1] = 7.0


def test_snapshots_share_what_did_not_change():
    """The stream looks for changes in columns that are not the same object only."""
    builder = three()
    builder.event(T0, A, "note", "x")
    first = builder.snapshot(T0)
    builder.sample(A, link())
    second = builder.snapshot(T0)
    assert second.links["mbps"] is first.links["mbps"]
    assert second.links["rtt_p50_ms"] is not first.links["rtt_p50_ms"]
    assert second.facts[0] is first.facts[0]
    assert second.events is first.events


def test_a_snapshot_has_every_column_with_its_type_and_shape():
    swarm = three().snapshot(T0, "here")
    assert {name: (column.dtype.type, column.shape) for name, column in swarm.nodes.items()} == {
        name: (dtype, (3,)) for name, dtype in NODE_COLUMNS.items()
    }
    assert {name: (column.dtype.type, column.shape) for name, column in swarm.links.items()} == {
        name: (dtype, (3, 3)) for name, dtype in LINK_COLUMNS.items()
    }
    assert (swarm.source, swarm.at_ns, len(SwarmBuilder().snapshot(0))) == ("here", T0, 0)


def same(one: Swarm, other: Swarm) -> bool:
    return encode_keyframe(one) == encode_keyframe(other)


SAMPLES = st.one_of(
    st.builds(
        link, st.integers(T0, T0 + 50), st.sampled_from((B, C)), rtt_p50_ms=st.floats(0, 1e3), loaded=st.booleans()
    ),
    st.builds(uplink, st.floats(0, 1e3), st.integers(T0, T0 + 50), st.sampled_from((B, C)), st.booleans()),
    st.builds(compute, st.integers(T0, T0 + 50), batch=st.integers(1, 2), ms_per_layer=st.floats(0.1, 9)),
    st.builds(host, st.integers(T0, T0 + 50), cpu_percent=st.floats(0, 100)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SAMPLES, max_size=25, unique_by=lambda sample: (type(sample), sample.at_ns)))
def test_samples_that_come_twice_change_nothing(samples: list[Sample]):
    once, twice = three(), three()
    for sample in samples:
        once.sample(A, sample)
        twice.sample(A, sample)
        assert not twice.sample(A, sample)
    assert same(once.snapshot(T0), twice.snapshot(T0))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(link, st.integers(T0, T0 + 50), st.sampled_from((B, C)), rtt_p50_ms=st.floats(0, 1e3)),
        max_size=20,
        unique_by=lambda sample: sample.at_ns,
    ),
    st.integers(),
)
def test_the_order_in_which_idle_windows_come_does_not_matter(samples: list[LinkSample], seed: int):
    straight, shuffled = three(), three()
    for sample in samples:
        straight.sample(A, sample)
    random.Random(seed).shuffle(samples)
    for sample in samples:
        shuffled.sample(A, sample)
    assert same(straight.snapshot(T0), shuffled.snapshot(T0))


@settings(max_examples=40, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=20))
def test_frames_of_successive_snapshots_rebuild_them(samples: list[Sample]):
    builder = three()
    seen = decode_keyframe(encode_keyframe(builder.snapshot(T0)))
    for step, sample in enumerate(samples, start=1):
        before = builder.snapshot(T0 + step - 1)
        builder.sample(A, sample)
        after = builder.snapshot(T0 + step)
        seen = apply_diff(seen, encode_diff(before, after))
        assert same(seen, after)


# ---------------------------------------------------------------- NATs


def test_a_detour_is_an_estimate_and_where_there_is_no_path_nothing_is_lost_on_it():
    builder = three()
    builder.sample(A, link(path="relayed", sent=0, lost=0, rtt_p50_ms=52.0, why="hard-nats"))
    builder.sample(A, link(peer=C, path="none", sent=16, lost=16, rtt_p50_ms=None, why="udp-blocked"))
    links = builder.snapshot(T0).links
    said = [(links["kind"][0, i], links["path"][0, i], links["why"][0, i]) for i in (1, 2)]
    assert said == [(Kind.ESTIMATE, Path.RELAYED, Why.HARD_NATS), (Kind.NONE, Path.NONE, Why.UDP_BLOCKED)]
    assert links["rtt_p50_ms"][0, 1] == 52.0
    assert np.isnan(links["loss"][0, 1:]).all()
    assert links["sent"][0, 2] == 16  # it was tried


def test_the_nat_and_the_way_to_the_collector_are_those_of_the_newest_reading():
    builder = three()
    builder.sample(A, host(nat="symmetric", collector_rtt_ms=24.5))
    nodes = builder.snapshot(T0).nodes
    assert (nodes["nat"][0], nodes["collector_rtt_ms"][0]) == (Nat.SYMMETRIC, 24.5)
    builder.sample(A, host(T0 + 1))
    nodes = builder.snapshot(T0).nodes
    assert nodes["nat"][0] == Nat.UNKNOWN
    assert np.isnan(nodes["collector_rtt_ms"][0])


def test_what_was_measured_over_quic_says_so():
    builder = three()
    hop = {"size_bytes": 1000, "cadence_ms": 150.0, "n": 3, "min_ms": 1.0, "p50_ms": 2.0, "p95_ms": 3.0, "p99_ms": 3.0}
    builder.sample(A, HopSample(at_ns=T0, peer=B, transport="quic", **hop))
    builder.sample(A, HopSample(at_ns=T0, peer=C, **hop))
    assert builder.snapshot(T0).links["hop_transport"][0].tolist() == [0, Transport.QUIC, Transport.TCP]


def _with_card(*gpus: GpuFacts, ram_gib: float = 64, cpu: str = "c") -> Swarm:
    builder = SwarmBuilder()
    facts = HostFacts(system="Linux x86_64", cpu=cpu, cores=8, ram_bytes=int(ram_gib * 2**30), gpus=gpus)
    builder.node(A, "a", facts, seen_ns=T0)
    return builder.snapshot(T0)


def test_a_node_that_nobody_timed_takes_its_data_sheet_and_says_so() -> None:
    swarm = _with_card(GpuFacts(name="NVIDIA GeForce RTX 4090", vram_bytes=24564 << 20))
    assert (swarm.nodes["mem_gbps"][0], swarm.nodes["mem_kind"][0]) == (1008, Kind.ESTIMATE)
    assert (swarm.facts[0].sheet, swarm.facts[0].device_class) == ("GeForce RTX 4090", "gaming-gpu")


def test_a_measured_roofline_replaces_the_data_sheet() -> None:
    builder = SwarmBuilder()
    card = GpuFacts(name="NVIDIA GeForce RTX 4090", vram_bytes=24564 << 20)
    builder.node(A, "a", HostFacts(system="s", cpu="c", cores=1, ram_bytes=1 << 30, gpus=(card,)), seen_ns=T0)
    assert builder.snapshot(T0).facts[0].sheet
    builder.sample(A, RooflineSample(at_ns=T0, device="RTX 4090", dtype="fp16", mem_gbps=870.0, tflops=150.0))
    swarm = builder.snapshot(T0)
    assert (swarm.nodes["mem_gbps"][0], swarm.nodes["mem_kind"][0]) == (870, Kind.MEASURED)
    assert (swarm.facts[0].sheet, swarm.facts[0].device_class) == ("", "gaming-gpu")


def test_unlike_cards_of_a_live_node_are_weighed_by_their_memory() -> None:
    cards = [GpuFacts(name=f"{name} #{i}", vram_bytes=gib << 30) for i, (name, gib) in
             enumerate((("NVIDIA GeForce RTX 3090", 24), ("NVIDIA RTX A4000", 16)))]  # fmt: skip
    swarm = _with_card(*cards)
    assert swarm.nodes["mem_gbps"][0] == pytest.approx(40 / (24 / 936 + 16 / 448))
    assert swarm.nodes["vram_bytes"][0] == 40 << 30


def test_a_card_without_memory_of_its_own_takes_the_machines_and_says_so() -> None:
    """GB10: its driver answers [N/A]."""
    swarm = _with_card(GpuFacts(name="NVIDIA GB10", vram_bytes=0), ram_gib=119.6)
    assert swarm.nodes["vram_bytes"][0] == pytest.approx(119.6 * 7 / 8 * 2**30)
    assert (swarm.facts[0].device, swarm.facts[0].device_class) == ("NVIDIA GB10 (unified memory)", "apu")
    assert swarm.nodes["mem_gbps"][0] == 273


def test_a_shared_out_processor_gets_no_data_sheet() -> None:
    swarm = _with_card(cpu="AMD EPYC 7763 64-Core Processor")
    assert np.isnan(swarm.nodes["mem_gbps"][0])
    assert (swarm.facts[0].sheet, swarm.facts[0].device_class) == ("", "x86")


def _two_cards() -> SwarmBuilder:
    builder = SwarmBuilder()
    cards = (GpuFacts(name="RTX 3090 #0", vram_bytes=24 << 30), GpuFacts(name="RTX A4000 #1", vram_bytes=16 << 30))
    facts = HostFacts(system="s", cpu="c", cores=1, ram_bytes=1 << 36, gpus=cards)
    builder.node(A, "a", facts, seen_ns=T0)
    return builder


def _timed(device: str, ms: float, at_ns: int) -> ComputeSample:
    return ComputeSample(
        at_ns=at_ns, device=device, model="m", dtype="fp16", phase="decode", batch=1, context=128,
        ms_per_layer=ms, ms_p95=ms, n=9,
    )  # fmt: skip


def test_a_layer_on_two_unlike_cards_takes_the_mean_of_their_times_by_memory():
    """Before, the card that was timed last stood for both."""
    builder = _two_cards()
    builder.sample(A, _timed("RTX 3090 #0", 1.0, T0 + 1))
    assert [layer.ms for layer in builder.snapshot(T0 + 1).facts[0].layers] == [1.0]
    builder.sample(A, _timed("RTX A4000 #1", 2.0, T0 + 1))
    (layer,) = builder.snapshot(T0 + 2).facts[0].layers
    assert layer.ms == pytest.approx(0.6 * 1.0 + 0.4 * 2.0)
    builder.sample(A, _timed("RTX 3090 #0", 1.5, T0 + 3))
    assert builder.snapshot(T0 + 3).facts[0].layers[0].ms == pytest.approx(0.6 * 1.5 + 0.4 * 2.0)
    assert not builder.sample(A, _timed("RTX A4000 #1", 9.0, T0))  # older than what is known of that card


def test_rooflines_of_two_unlike_cards_are_weighed_like_their_layers():
    builder = _two_cards()
    for device, gbps in (("RTX 3090 #0", 900.0), ("RTX A4000 #1", 400.0)):
        sample = RooflineSample(at_ns=T0, device=device, dtype="fp16", mem_gbps=gbps, tflops=50.0)
        builder.sample(A, sample)
    assert builder.snapshot(T0).nodes["mem_gbps"][0] == pytest.approx(1 / (0.6 / 900 + 0.4 / 400))


def test_a_device_that_is_no_card_of_the_machine_replaces_what_was_timed_before():
    builder = _two_cards()
    builder.sample(A, _timed("cpu: EPYC", 40.0, T0 + 1))
    builder.sample(A, _timed("RTX 3090 #0", 1.0, T0 + 2))
    assert [layer.ms for layer in builder.snapshot(T0 + 2).facts[0].layers] == [1.0]


def test_a_compact_snapshot_leaves_no_full_columns_behind() -> None:
    """A collector that nobody watches plans with these; full columns of a thousand nodes took it 200 MB."""
    builder, ids = SwarmBuilder(), [f"{i:016x}" for i in range(400)]
    for node_id in ids:
        builder.node(node_id, node_id[-3:], seen_ns=T0)
    for src, dst in itertools.pairwise(ids):
        builder.sample(src, link(peer=dst))
    tracemalloc.start()
    try:
        assert builder.snapshot(T0, compact=True).links["rtt_p50_ms"][3, 4] == 5.0
        kept_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept_bytes < 8 * len(ids) ** 2  # of one full column; a link has thirty
