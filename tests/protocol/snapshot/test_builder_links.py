"""Links and rates in the snapshot: what each sample changes, and which of several figures is shown."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from builder_samples import T0, A, B, C, host, link, three, uplink

from swarm_protocol.messages.samples import (
    HopSample,
    LinkSample,
)
from swarm_protocol.snapshot import builder as builder_module
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.links.link_figures import RECENT_RATE_NS
from swarm_protocol.snapshot.links.loss_history import LOADED_HOLD_NS
from swarm_protocol.snapshot.swarm import Kind, Nat, Path, Transport, Why
from swarm_protocol.units import NS_PER_S


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


def test_losses_are_estimated_only_in_a_swarm_whose_links_are_shown(monkeypatch):
    """The links of thousands of nodes are not shown, and estimates of them would take memory for nothing."""
    monkeypatch.setattr(builder_module, "DENSE_NODES", 2)
    builder = three()
    builder.sample(A, link(T0, lost=5))
    assert np.isnan(builder.snapshot(T0).links["pooled_loss"]).all()
    builder.forget(C)
    assert np.isnan(builder.snapshot(T0 + 1).links["pooled_loss"]).all()
    builder.sample(A, link(T0 + 2, lost=5))
    links = builder.snapshot(T0 + 3).links
    assert links["pooled_loss"][0, 1] == links["pooled_loss"][1, 0] == 0.5
    builder.node("d" * 16, "dan")
    assert builder.sample(A, link(T0 + 4, lost=0, rtt_p50_ms=7.0))
    assert builder.snapshot(T0 + 5).links["rtt_p50_ms"][0, 1] == 7.0
