"""The Swarm that samples give: the guarantees to the collector, the dashboard and the predictor."""

from __future__ import annotations

import gc
import random
import weakref

import numpy as np
import pytest
from builder_samples import T0, A, B, C, compute, host, link, three, uplink
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import (
    EventSample,
    LinkSample,
    Sample,
)
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.columns import LINK_COLUMNS, NODE_COLUMNS
from swarm_protocol.snapshot.event_log import MAX_EVENTS
from swarm_protocol.snapshot.frames import apply_diff, decode_keyframe, encode_diff, encode_keyframe
from swarm_protocol.snapshot.open_changes import open_changes
from swarm_protocol.snapshot.swarm import Swarm


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


def test_what_was_said_of_a_node_before_it_was_renamed_carries_its_new_name():
    """Its own events did already, those of others named it as before: a change that ended under the new name never did
    end for those who read the old one. What runs did not match the nodes any more."""
    builder = three()
    builder.event(T0 + 1, A, "degraded", "RTT 21 → 101 ms to ben; plan 20 → 9 tok/s")
    builder.event(T0 + 2, None, "running", "ann:0-3,ben:4-7 told by launch lines")
    builder.event(T0 + 3, A, "degraded", "RTT 21 → 101 ms to 2 of 2 peers")
    builder.event(T0 + 4, B, "name_changed", "was ben")
    builder.node(B, "berta", seen_ns=T0)
    builder.event(T0 + 5, C, "name_changed", "was cat")
    builder.node(C, "ben", seen_ns=T0)
    builder.event(T0 + 6, A, "degraded", "loss 0 → 3 % to ben")
    builder.event(T0 + 7, A, "recovered", "RTT 101 → 21 ms to berta")
    swarm = builder.snapshot(T0)
    assert [event.detail for event in swarm.events] == [
        "RTT 21 → 101 ms to berta; plan 20 → 9 tok/s", "ann:0-3,ben:4-7 told by launch lines",
        "RTT 21 → 101 ms to 2 of 2 peers", "was ben", "was cat", "loss 0 → 3 % to ben", "RTT 101 → 21 ms to berta",
    ]  # fmt: skip
    assert [event.detail for event in open_changes(swarm.events)] == [
        "RTT 21 → 101 ms to 2 of 2 peers", "loss 0 → 3 % to ben",
    ]  # fmt: skip
    assert swarm.running is not None
    assert swarm.running.placement == "ann:0-3,berta:4-7"


def test_a_recording_is_read_with_the_names_of_its_end():
    builder = three()
    builder.node(B, "berta", seen_ns=T0)
    builder.event(T0 + 1, None, "running", "ann:0-3,ben:4-7")
    builder.event(T0 + 4, B, "name_changed", "was ben")
    first = builder.snapshot(T0).running
    builder.running(Running("ann:0-2,ben:3-7", at_ns=T0 + 2))
    second = builder.snapshot(T0).running
    assert first is not None
    assert second is not None
    assert (first.placement, second.placement) == ("ann:0-3,berta:4-7", "ann:0-2,berta:3-7")


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


def test_a_builder_is_freed_with_its_last_reference() -> None:
    """Without waiting for the cycle collector: after a recording of a thousand nodes was read it keeps 20 MB."""
    gc.disable()
    try:
        builder = SwarmBuilder()
        builder.node("a", "a")
        builder.snapshot(1)
        alive = weakref.ref(builder)
        del builder
        assert alive() is None
    finally:
        gc.enable()
