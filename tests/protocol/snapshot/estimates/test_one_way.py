"""One-way delays from unsynchronised clocks: sums around loops are exact, and no delay is impossible."""

from __future__ import annotations

import itertools
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.estimates.one_way import Windows, estimate
from swarm_protocol.snapshot.links.stamp_history import StampHistory
from swarm_protocol.snapshot.swarm import Floats, State
from swarm_protocol.units import NS_PER_S

T0 = 1_790_000_000 * NS_PER_S
PERIOD_S = 10.0


def ring(there_ms: float, back_ms: float) -> Floats:
    """Three nodes, each path fast one way round and slow the other."""
    return np.array([[0, there_ms, back_ms], [back_ms, 0, there_ms], [there_ms, back_ms, 0]])


def stamped(delay: Floats, clock_ms: Floats, drift_ppm: Floats, phase_s: Floats, windows: int = 8) -> Windows:
    """What pairs of probes report; of pairs whose phase is NaN nothing."""
    rows = []
    for i, j in itertools.permutations(range(len(delay)), 2):
        if np.isnan(phase_s[i, j]):
            continue
        for k in range(windows):
            at_s = k * PERIOD_S + phase_s[i, j]
            apart = clock_ms[j] - clock_ms[i] + (drift_ppm[j] - drift_ppm[i]) * 1e-3 * at_s
            out, back = delay[i, j] + apart, delay[j, i] - apart
            rows.append((i, j, T0 + int(at_s * NS_PER_S), (out - back) / 2, out + back))
    src, dst, at_ns, skew, rtt = (np.array(column) for column in zip(*rows, strict=True))
    return Windows(src, dst, at_ns, skew, rtt)


def delays(nodes: int, windows: Windows) -> tuple[Floats, Floats]:
    found = estimate(nodes, windows)
    delay, error = np.full((nodes, nodes), np.nan), np.full((nodes, nodes), np.nan)
    delay[found.low, found.high], delay[found.high, found.low] = found.out_ms, found.back_ms
    error[found.low, found.high] = error[found.high, found.low] = found.error_ms
    return delay, error


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Floats, Windows]:
    n = draw(st.integers(2, 5))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    delay = numbers.uniform(0.1, draw(st.sampled_from([1.0, 30.0, 300.0])), (n, n))
    if draw(st.booleans()):  # most paths are nearly symmetric
        delay = np.where(numbers.random((n, n)) < 0.8, (delay + delay.T) / 2, delay)
    clock = numbers.normal(0, draw(st.sampled_from([0.0, 5.0, 1e3, 1e8])), n)
    drift = numbers.uniform(-1, 1, n) * draw(st.sampled_from([0.0, 1.0, 80.0]))
    phase = numbers.uniform(0, PERIOD_S, (n, n))
    return delay, stamped(delay, clock, drift, phase)


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_sums_around_every_loop_are_exact_and_no_delay_leaves_its_round_trip(world: tuple[Floats, Windows]) -> None:
    delay, windows = world
    n = len(delay)
    found, error = delays(n, windows)
    off = ~np.eye(n, dtype=bool)
    assert np.all(found[off] >= 0)
    assert (found + found.T)[off] == pytest.approx((delay + delay.T)[off], abs=0.01, rel=1e-6)
    assert np.all(error[off] <= (delay + delay.T)[off] / 2)
    for loop in itertools.permutations(range(n)):
        ways = (np.array(loop), np.roll(loop, -1))
        assert abs(found[ways].sum() - delay[ways].sum()) < 0.005 * delay[ways].sum() + 0.02 * n


@given(worlds(), st.randoms(use_true_random=False), st.booleans())
def test_windows_come_in_any_order(world: tuple[Floats, Windows], rng: random.Random, together: bool) -> None:
    """`together`: both ends, which contradict each other where their clocks drift, report of the same moments."""
    delay, windows = world
    at_ns = T0 + (windows.at_ns - T0) // (10 * NS_PER_S) * (10 * NS_PER_S) if together else windows.at_ns
    windows = msgspec.structs.replace(windows, at_ns=at_ns)
    order = np.array(rng.sample(range(len(windows)), len(windows)))
    moved = Windows(*(getattr(windows, name)[order] for name in Windows.__struct_fields__))
    for one, other in zip(delays(len(delay), windows), delays(len(delay), moved), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_ring_that_is_fast_one_way_round_is_known_both_ways() -> None:
    """Half the round trip would be 105 ms for both; a token takes 30 or 180."""
    found, _ = delays(3, stamped(ring(10, 60), np.array([0, 7e6, -40.0]), np.array([30, -50, 0]), np.full((3, 3), 0.5)))
    assert found[0, 1] + found[1, 2] + found[2, 0] == pytest.approx(30, abs=0.1)
    assert found[0, 2] + found[2, 1] + found[1, 0] == pytest.approx(180, abs=0.1)


def test_one_slow_way_among_six_nodes_is_found_and_two_nodes_cannot_tell() -> None:
    delay = np.full((6, 6), 20.0)
    delay[0, 1], delay[1, 0] = 10, 60
    found, error = delays(6, stamped(delay, np.arange(6) * 1e3, np.zeros(6), np.full((6, 6), 1.0)))
    assert (found[0, 1], found[1, 0]) == (
        pytest.approx(10, abs=3 * error[0, 1]),
        pytest.approx(60, abs=3 * error[0, 1]),
    )
    assert found[2, 3] == pytest.approx(20, abs=3)
    alone, unsure = delays(2, stamped(delay[:2, :2], np.array([0, 1e3]), np.zeros(2), np.full((2, 2), 1.0)))
    assert alone[0, 1] == pytest.approx(35, abs=0.1)
    assert unsure[0, 1] > 5


def test_windows_of_another_route_and_of_a_clock_that_was_set_are_dropped() -> None:
    phase, none = np.full((3, 3), 0.5), np.zeros(3)
    before = stamped(ring(10, 60), none, none, phase)
    after = stamped(ring(5, 30), np.array([0, 500.0, 0]), none, phase + 80)
    both = Windows(*(np.concatenate((getattr(before, f), getattr(after, f))) for f in Windows.__struct_fields__))
    found, _ = delays(3, both)
    assert found[0, 1] + found[1, 2] + found[2, 0] == pytest.approx(15, abs=0.1)


def test_a_pair_that_nobody_has_measured_for_long_is_left_out() -> None:
    phase = np.full((3, 3), 900.0)
    phase[0, 1] = phase[1, 0] = 0.0
    found, _ = delays(3, stamped(ring(10, 60), np.zeros(3), np.zeros(3), phase))
    assert np.isnan(found[0, 1])
    assert np.isfinite(found[1, 2])


def test_the_builder_shows_one_way_delays_and_forgets_with_its_nodes() -> None:
    """The collector and replay both build their swarms here. A probe of before sends no stamps: nothing is shown."""
    builder, ids = SwarmBuilder(), [letter * 16 for letter in "abc"]
    for node_id, name in zip(ids, ("ann", "ben", "cat"), strict=True):
        builder.node(node_id, name, seen_ns=T0, state=State.OK)
    delay, clock = ring(10, 60), (0.0, 1e6, -300.0)
    for k in range(4):
        for i, j in itertools.permutations(range(3), 2):
            builder.sample(
                ids[i],
                LinkSample(
                    at_ns=T0 + k * 10 * NS_PER_S, peer=ids[j], path="direct", sent=10, lost=0, rtt_min_ms=70.0,
                    rtt_p50_ms=71.0, stamped_out_ms=None if k == 0 else delay[i, j] + clock[j] - clock[i],
                    stamped_back_ms=None if k == 0 else delay[j, i] + clock[i] - clock[j],
                ),
            )  # fmt: skip
        if k == 0:
            assert np.isnan(builder.snapshot(T0).links["oneway_ms"]).all()
    swarm = builder.snapshot(T0 + 40 * NS_PER_S)
    oneway = swarm.links["oneway_ms"]
    assert oneway[0, 1] + oneway[1, 2] + oneway[2, 0] == pytest.approx(30, abs=0.1)
    assert swarm.links["oneway_error_ms"][0, 1] > 0
    builder.forget(ids[0])
    builder.sample(
        ids[1],
        LinkSample(
            at_ns=T0 + 50 * NS_PER_S, peer=ids[2], path="direct", sent=10, lost=0, rtt_min_ms=70.0, rtt_p50_ms=71.0,
            stamped_out_ms=-1e6, stamped_back_ms=1e6 + 70,
        ),
    )  # fmt: skip
    left = builder.snapshot(T0 + 60 * NS_PER_S).links["oneway_ms"]
    assert left[0, 1] + left[1, 0] == pytest.approx(70, abs=0.1)


def test_a_path_that_grows_longer_while_every_window_is_loaded_is_told_by_the_second_window() -> None:
    history = StampHistory()

    def add(k: int, more_ms: float, *, loaded: bool) -> float:
        sample = LinkSample(
            at_ns=(k + 1) * NS_PER_S, peer="p", sent=16, lost=0, rtt_min_ms=40.0, stamped_out_ms=10.0 + more_ms,
            stamped_back_ms=30.0, loaded=loaded, path="direct",
        )  # fmt: skip
        history.add(0, 1, sample)
        found = estimate(2, history.windows())
        return float(found.out_ms[0] + found.back_ms[0])

    assert add(0, 0.0, loaded=False) == pytest.approx(40.0)
    assert add(1, 90.0, loaded=True) == pytest.approx(40.0)  # a queue, as far as one window can tell
    assert add(2, 30.0, loaded=True) == pytest.approx(40.0)  # and another
    assert add(3, 0.0, loaded=True) == pytest.approx(40.0)
    assert add(4, 80.0, loaded=True) == pytest.approx(40.0)
    assert add(5, 80.5, loaded=True) == pytest.approx(120.5)


def test_least_stamps_of_a_loaded_window_count_where_no_queue_lasted_through_it() -> None:
    """Tests of the uplink load most windows of a young swarm; all of them together still show the path."""
    history = StampHistory()
    for k, (queue_ms, loaded) in enumerate(((90.0, True), (0.2, True), (60.0, True), (0.0, True), (0.1, False))):
        for src, dst, out_ms, back_ms in ((0, 1, 10.0, 30.0), (1, 2, 15.0, 15.0), (2, 0, 20.0, 5.0)):
            sample = LinkSample(
                at_ns=(k + 1) * NS_PER_S, peer="p", sent=16, lost=0, rtt_min_ms=out_ms + back_ms,
                stamped_out_ms=out_ms + queue_ms, stamped_back_ms=back_ms, loaded=loaded, path="direct",
            )  # fmt: skip
            history.add(src, dst, sample)
    found = estimate(3, history.windows())
    ways = {(int(a), int(b)): ms for a, b, ms in zip(found.low, found.high, found.out_ms, strict=True)}
    ways |= {(int(b), int(a)): ms for a, b, ms in zip(found.low, found.high, found.back_ms, strict=True)}
    assert ways[0, 1] + ways[1, 2] + ways[2, 0] == pytest.approx(45.0, abs=0.5)
    assert ways[1, 0] + ways[0, 2] + ways[2, 1] == pytest.approx(50.0, abs=0.5)
