"""Round trips, hops and one-way delays of a path that changes: from the probes' samples to the delivery predicted."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swarms import plain

from swarm_predict.advice.sensitivity import nearer
from swarm_predict.cost.network.delivery_times import RATE_CHANGED, links
from swarm_protocol.messages.samples import HopSample, LinkSample, Sample, UplinkSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Kind, Swarm
from swarm_protocol.units import NS_PER_S, transfer_ms

A, B = "a" * 16, "b" * 16
T0 = 1_790_000_000 * NS_PER_S
SIZE = 16_384
WINDOW_S, HOP_EVERY_S, ROUND_S = 8.0, 60.0, 2.5
CHANGED_S = 130.0  # hops of both directions were measured before
SETTLED_S = 2 * WINDOW_S + 4.0  # a window that lies beyond the change, or two while our own transfers run


@dataclasses.dataclass(frozen=True)
class Course:
    """A path: its round trip before and after CHANGED_S, what a hop takes beyond it, and how often transfers run."""

    before_ms: float
    after_ms: float
    beyond_ms: float
    loaded: float
    seed: int

    def rtt_ms(self, at_s: float) -> float:
        return self.before_ms if at_s < CHANGED_S else self.after_ms

    def samples(self, until_s: float) -> list[tuple[str, Sample]]:
        """Of both ends, in the order of time."""
        rng = random.Random(self.seed)
        found: list[tuple[str, Sample]] = []
        for node, peer in ((A, B), (B, A)):
            end_s = rng.uniform(0, WINDOW_S)
            while (end_s := end_s + WINDOW_S) < until_s:
                found.append((node, self.window(rng, peer, end_s)))
            end_s = rng.uniform(WINDOW_S, HOP_EVERY_S)
            while end_s < until_s:
                found.append((node, self.hop(rng, peer, end_s)))
                end_s += HOP_EVERY_S
        return sorted(found, key=lambda each: each[1].at_ns)

    def window(self, rng: random.Random, peer: str, end_s: float) -> LinkSample:
        loaded = rng.random() < self.loaded
        queued_s = (end_s - rng.uniform(3.0, WINDOW_S), 3.0) if loaded else (0.0, 0.0)
        rtts = []
        for k in range(16):
            at_s = end_s - WINDOW_S + k * WINDOW_S / 16
            queue_ms = rng.uniform(0, 80) if queued_s[0] <= at_s < sum(queued_s) else 0.0
            rtts.append(self.rtt_ms(at_s) + rng.expovariate(4) + queue_ms)
        rtts.sort()
        return LinkSample(
            at_ns=T0 + round(end_s * NS_PER_S), peer=peer, path="direct", sent=16, lost=0, loaded=loaded,
            rtt_min_ms=rtts[0], rtt_p50_ms=rtts[8], rtt_p95_ms=rtts[15], rtt_p99_ms=rtts[15],
        )  # fmt: skip

    def hop(self, rng: random.Random, peer: str, end_s: float) -> HopSample:
        times = sorted(self.rtt_ms(end_s - ROUND_S * k / 12) + self.beyond_ms + rng.expovariate(4) for k in range(12))
        return HopSample(
            at_ns=T0 + round(end_s * NS_PER_S), peer=peer, size_bytes=SIZE, cadence_ms=150.0, n=12,
            min_ms=times[0], p50_ms=times[6], p95_ms=times[11], p99_ms=times[11],
        )  # fmt: skip

    def swarm(self, at_s: float) -> Swarm:
        builder = SwarmBuilder()
        for node in (A, B):
            builder.node(node, node[0], seen_ns=T0)
        for node, sample in self.samples(at_s):
            builder.seen(node, sample.at_ns)
            builder.sample(node, sample)
        return builder.snapshot(T0 + round(at_s * NS_PER_S))


courses = st.builds(
    Course,
    before_ms=st.floats(5, 300),
    after_ms=st.floats(5, 300),
    beyond_ms=st.floats(0.5, 60),
    loaded=st.sampled_from([0.0, 0.0, 0.3]),
    seed=st.integers(0, 10_000),
)


@settings(deadline=None, max_examples=60)
@given(courses, st.floats(0, 120))
def test_a_message_and_its_answer_take_the_round_trip_of_now_and_what_hops_add(course: Course, later_s: float):
    """A hop over 101 ms is not used unchanged when the round trip is 21, nor the other way round."""
    for at_s in (CHANGED_S - 1.0, CHANGED_S + SETTLED_S + later_s):
        paths = links(course.swarm(at_s), range(2))
        there = paths.delivery_ms(SIZE)
        truth_ms = course.rtt_ms(at_s) + 2 * course.beyond_ms
        assert there[0, 1] + there[1, 0] == pytest.approx(truth_ms, rel=0.1, abs=2.0)


def uploaded(builder: SwarmBuilder, at_s: float, mbps: float, *, bound: bool = False) -> None:
    builder.sample(A, UplinkSample(
        at_ns=T0 + round(at_s * NS_PER_S), peer=B, sent_bytes=1 << 20, mbps=mbps, bound=bound, seconds=1.0,
    ))  # fmt: skip


@given(st.floats(0.5, 500), st.floats(0.5, 500))
def test_a_hop_takes_as_long_as_its_bytes_do_at_the_rate_of_now(before_mbps: float, now_mbps: float):
    course = Course(20.0, 20.0, 0.3 + transfer_ms(SIZE, before_mbps), 0.0, 0)
    builder = SwarmBuilder()
    for node in (A, B):
        builder.node(node, node[0], seen_ns=T0)
    rng = random.Random(0)
    builder.sample(A, course.window(rng, B, 8.0))
    uploaded(builder, 9.0, before_mbps)
    builder.sample(A, course.hop(rng, B, 20.0))
    uploaded(builder, 60.0, now_mbps)
    delivered_ms = links(builder.snapshot(T0 + 61 * NS_PER_S), range(2)).delivery_ms(SIZE)[0, 1]
    moves = max(now_mbps / before_mbps, before_mbps / now_mbps) >= RATE_CHANGED
    taken_ms = transfer_ms(SIZE, now_mbps if moves else before_mbps)
    assert delivered_ms == pytest.approx(10.0 + 0.3 + taken_ms, rel=0.01, abs=0.5)


def test_a_rate_that_is_only_a_lower_bound_moves_no_hop():
    course, rng, builder = Course(20.0, 20.0, 3.0, 0.0, 0), random.Random(0), SwarmBuilder()
    for node in (A, B):
        builder.node(node, node[0], seen_ns=T0)
    builder.sample(A, course.window(rng, B, 8.0))
    uploaded(builder, 9.0, 4.0, bound=True)
    builder.sample(A, course.hop(rng, B, 20.0))
    uploaded(builder, 60.0, 50.0)
    assert links(builder.snapshot(T0 + 61 * NS_PER_S), range(2)).hop_moved_ms[0, 1] == 0.0


def test_of_two_round_trips_the_newer_one_counts_for_both_directions():
    swarm = plain(count=2, rtt_ms=21.0)
    swarm.links["kind"][:] = Kind.MEASURED
    for name in ("min", "p50", "p95", "p99"):
        swarm.links[f"rtt_{name}_ms"][1, 0] = 101.0
    swarm.links["at_ns"][:] = [[0, 50], [58, 0]]
    assert links(swarm, range(2)).rtt_p50_ms.tolist() == [[0.0, 101.0], [101.0, 0.0]]
    swarm.links["rtt_p50_ms"][1, 0] = 21.5  # noise of two measurements is no change
    assert links(swarm, range(2)).rtt_p50_ms.tolist() == [[0.0, 21.0], [21.5, 0.0]]


def test_one_way_delays_of_another_round_trip_are_not_used():
    swarm = plain(count=2, rtt_ms=101.0)
    swarm.links["oneway_ms"][:] = [[np.nan, 90.5], [10.5, np.nan]]
    known = links(swarm, range(2))
    assert (known.asymmetry_ms[0, 1], known.ways_known[0, 1]) == (pytest.approx(40.0), True)
    for name in ("min", "p50", "p95", "p99"):
        swarm.links[f"rtt_{name}_ms"][:] = 21.0
    healed = links(swarm, range(2))
    assert (healed.asymmetry_ms[0, 1], healed.ways_known[0, 1]) == (0.0, False)


def test_a_shorter_path_that_is_only_imagined_keeps_its_two_ways_apart():
    swarm = plain(count=2, rtt_ms=101.0)
    swarm.links["oneway_ms"][:] = [[np.nan, 90.5], [10.5, np.nan]]
    found = links(nearer(swarm, 0), range(2))
    assert (found.asymmetry_ms[0, 1], found.ways_known[0, 1]) == (pytest.approx(40.0), True)
