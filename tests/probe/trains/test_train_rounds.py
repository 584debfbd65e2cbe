"""Which trains follow which: what the first one shows decides, and the bytes of the lease are never exceeded."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_path import SimulatedPath

from swarm_probe.trains.dispersion import Rate
from swarm_probe.trains.rounds import (
    FIRST_PACKETS,
    MAX_ROUNDS,
    MIN_PACKETS,
    PACKET_BYTES,
    SEARCH_PACKETS,
    SHOWN_PACKETS,
    TCP_SHARE,
    TRAIN_S,
    Round,
    TrainTest,
)

MAX_BYTES = 2 << 20


def rate(mbps: float, *, half_width: float = 0.005, sent_mbps: float = 1000.0, arrived: int = 600) -> Rate:
    return Rate(mbps, half_width, sent_mbps, arrived, arrived, mbps * (1 - min(1.0, half_width)))


def shown(*rates: Rate | None, max_bytes: int = MAX_BYTES) -> TrainTest:
    return TrainTest(max_bytes, FIRST_PACKETS, list(rates))


def test_a_quiet_path_too_gets_all_bytes_in_one_train_because_a_shaper_may_let_a_part_of_them_through() -> None:
    """One train: between two a bucket fills again."""
    test = SimulatedPath(50.0, random.Random(1)).run(TrainTest(MAX_BYTES))
    assert len(test.rates) == 2
    assert test.sent_packets > MAX_BYTES // PACKET_BYTES - MIN_PACKETS
    outcome = test.outcome()
    assert outcome is not None
    assert not outcome.bound
    assert outcome.mbps == pytest.approx(50.0 * TCP_SHARE, rel=0.01)


@pytest.mark.parametrize("bucket", [300_000, 600_000, 900_000])
def test_a_bucket_that_is_empty_before_the_bytes_are_is_no_measurement(bucket: int) -> None:
    path = SimulatedPath(40.0, random.Random(2), "uniform", 3.0, queue_ms=200.0, burst_bytes=bucket, line_mbps=200.0)
    outcome = path.run(TrainTest(MAX_BYTES)).outcome()
    assert outcome is not None
    assert outcome.bound or outcome.mbps == pytest.approx(40.0 * TCP_SHARE, rel=0.03)
    assert outcome.mbps <= 40.0 * TCP_SHARE * 1.03


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_queue_that_others_use_too_leaves_a_bound(share: float) -> None:
    """The trains get more of it the faster they are sent: what others leave is less than either shows."""
    for seed in range(10):
        path = SimulatedPath(60.0, random.Random(seed), "uniform", 0.5, cross_mbps=share * 60.0)
        outcome = path.run(TrainTest(MAX_BYTES)).outcome()
        assert outcome is not None
        assert outcome.bound
        assert 0.5 * (1 - share) * 60.0 < outcome.mbps / TCP_SHARE < 1.03 * (1 - share) * 60.0


def test_a_shapers_burst_is_not_taken_for_others_on_the_line() -> None:
    """The first train passes at 200 Mbit/s, the long one at 50: no others, who leave anything, explain that."""
    outcome = shown(rate(200.0, arrived=FIRST_PACKETS), rate(50.0, sent_mbps=224.0, arrived=1297)).outcome()
    assert outcome is not None
    assert not outcome.bound


def test_the_first_train_alone_shows_nothing_it_may_be_a_burst() -> None:
    assert shown(rate(50.0, arrived=FIRST_PACKETS)).outcome() is None


def test_a_path_as_fast_as_the_sender_gets_no_second_train() -> None:
    test = shown(rate(480.0, sent_mbps=490.0))
    assert test.next_round() is None
    assert test.too_fast


def paused(mbps: float) -> Rate:
    """What a first train shows during which this machine did something else: it could have sent faster than it did."""
    return msgspec.structs.replace(rate(mbps, sent_mbps=mbps, arrived=FIRST_PACKETS), able_mbps=10 * mbps)


def test_a_first_train_that_this_machine_interrupted_is_sent_once_more() -> None:
    """A busy machine would else measure by TCP alone, which jitter and loss hold back."""
    assert not shown(paused(50.0)).too_fast
    assert shown(paused(50.0)).next_round() == Round(FIRST_PACKETS, FIRST_PACKETS, math.inf)
    followed = shown(paused(50.0), rate(60.0, arrived=FIRST_PACKETS)).next_round()
    assert followed is not None
    assert followed.packets > FIRST_PACKETS
    assert 60.0 < followed.mbps < 80.0
    assert shown(paused(50.0), paused(55.0)).too_fast
    assert shown(paused(50.0), paused(55.0)).next_round() is None


def test_a_train_that_was_slow_to_send_does_not_slow_down_the_next_one() -> None:
    for found in (
        (rate(40.0, arrived=45), rate(55.0, sent_mbps=57.0), rate(7.0, sent_mbps=7.0)),
        (rate(60.0, arrived=FIRST_PACKETS), rate(7.0, sent_mbps=7.0)),
    ):
        followed = shown(*found).next_round()
        assert followed is not None
        assert followed.mbps > 60.0


def test_a_path_that_lets_no_packet_through_gets_no_second_train() -> None:
    test = shown(None)
    assert test.next_round() is None
    assert test.outcome() is None


def test_too_few_bytes_send_nothing() -> None:
    assert TrainTest(FIRST_PACKETS * PACKET_BYTES - 1).next_round() is None


def test_a_vague_first_train_is_followed_by_another_look() -> None:
    followed = shown(rate(50.0, half_width=0.8)).next_round()
    assert followed is not None
    assert followed.packets == SEARCH_PACKETS
    assert 50.0 < followed.mbps < 100.0


def test_a_train_that_was_not_faster_than_the_path_is_followed_by_a_faster_one() -> None:
    followed = shown(rate(40.0, arrived=FIRST_PACKETS), rate(41.0, sent_mbps=42.0)).next_round()
    assert followed is not None
    assert followed.mbps > 60.0


def test_two_trains_that_contradict_each_other_are_a_bound() -> None:
    outcome = shown(rate(50.0), rate(50.0, sent_mbps=60.0), rate(30.0, sent_mbps=60.0)).outcome()
    assert outcome is not None
    assert outcome.bound
    assert outcome.mbps <= 30.0


def test_where_a_short_queue_let_few_through_and_no_bytes_are_left_there_is_a_bound() -> None:
    """A transfer of the last 1,352 bytes would show no rate, and the test would have failed."""
    rates = [None, rate(9.0, sent_mbps=13.0, arrived=300), rate(9.0, sent_mbps=10.0, arrived=413)]
    outcome = TrainTest(MAX_BYTES, MAX_BYTES // PACKET_BYTES, list(rates)).outcome()
    assert outcome is not None
    assert outcome.bound
    assert 8.5 * TCP_SHARE < outcome.mbps <= 9.0 * TCP_SHARE
    assert TrainTest(MAX_BYTES, FIRST_PACKETS, list(rates)).outcome() is None


def test_a_train_that_shows_nothing_does_not_lower_the_bound() -> None:
    vague = rate(50.0, half_width=1.1, sent_mbps=90.0, arrived=350)
    outcome = shown(rate(50.0, arrived=FIRST_PACKETS), vague, rate(50.0, half_width=0.1, sent_mbps=60.0)).outcome()
    assert outcome is not None
    assert outcome.bound
    assert outcome.mbps == pytest.approx(45.0 * TCP_SHARE)


def test_a_short_train_that_arrived_whole_may_be_a_burst_too() -> None:
    outcome = shown(rate(50.0, arrived=FIRST_PACKETS), rate(50.0, sent_mbps=60.0, arrived=SHOWN_PACKETS - 1)).outcome()
    assert outcome is None


some_rates = st.none() | st.builds(
    Rate,
    mbps=st.floats(0.01, 10_000),
    half_width=st.floats(0.001, 5) | st.just(math.inf),
    sent_mbps=st.floats(0.01, 10_000),
    packets=st.integers(8, 3000),
    arrived=st.integers(8, 3000),
    least_mbps=st.just(0.0),
)


@given(st.lists(some_rates, min_size=MAX_ROUNDS + 2, max_size=MAX_ROUNDS + 2), st.integers(1, 16 << 20))
def test_whatever_trains_show_bytes_and_time_are_bounded_and_the_test_ends(
    found: list[Rate | None], max_bytes: int
) -> None:
    test = TrainTest(max_bytes)
    for one in found:
        asked = test.next_round()
        if asked is None:
            break
        assert 0 < asked.burst <= asked.packets
        slowest_s = (asked.packets - asked.burst) * PACKET_BYTES * 8e-6 / asked.mbps
        assert slowest_s <= TRAIN_S or asked.packets <= FIRST_PACKETS
        test.sent_packets += asked.packets
        test.rates.append(one)
        assert test.sent_packets * PACKET_BYTES <= max_bytes
    assert test.next_round() is None
    assert len(test.rates) <= MAX_ROUNDS
