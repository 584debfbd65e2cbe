"""The gate: nobody speaks about strangers, no clock is believed by a year, no batch overtakes a refused one."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from swarm_collector.ingest.batch_validation import AHEAD_NS, BEHIND_NS, BatchOrder, SenderClock, check
from swarm_protocol.messages.probe_messages import Batch
from swarm_protocol.messages.samples import EventSample, LinkSample, Sample
from swarm_protocol.units import NS_PER_S

ME, PEER, STRANGER = "a" * 16, "b" * 16, "c" * 16
NOW_NS = 1_800_000_000 * NS_PER_S
YEAR_NS = 365 * 86_400 * NS_PER_S


def link(at_ns: int, peer: str = PEER) -> LinkSample:
    return LinkSample(at_ns=at_ns, peer=peer, path="direct", sent=10, lost=0, rtt_min_ms=1.0)


def checked(*samples: Sample):
    return check(Batch(epoch=1, seq=1, samples=samples), ME, {ME, PEER}.__contains__, NOW_NS)


def test_samples_about_strangers_and_about_oneself_are_left_out_and_counted():
    result = checked(link(NOW_NS), link(NOW_NS, STRANGER), link(NOW_NS, ME))
    assert result.samples == (link(NOW_NS),)
    assert result.strangers == 2


def test_what_waited_in_a_spool_for_a_week_keeps_its_time():
    week_ago = NOW_NS - 7 * 86_400 * NS_PER_S
    assert checked(link(week_ago)).samples[0].at_ns == week_ago


def test_a_clock_a_year_ahead_or_behind_is_told_and_the_time_of_arrival_kept_with_the_distances():
    for off_ns in (YEAR_NS, -YEAR_NS):
        result = checked(link(NOW_NS + off_ns - 10 * NS_PER_S), link(NOW_NS + off_ns))
        assert [sample.at_ns for sample in result.samples] == [NOW_NS - 10 * NS_PER_S, NOW_NS]
        assert result.clock_off_ns == off_ns


def test_a_good_sample_beside_a_bad_one_keeps_its_time():
    good = NOW_NS - NS_PER_S
    assert [sample.at_ns for sample in checked(link(good), link(NOW_NS + YEAR_NS)).samples] == [good, NOW_NS]


@given(times=st.lists(st.integers(0, 2**62), max_size=20))
def test_whatever_a_clock_says_what_is_kept_is_credible_and_in_the_same_order(times):
    result = checked(*(link(at) for at in times))
    assert all(NOW_NS - BEHIND_NS <= sample.at_ns <= NOW_NS + AHEAD_NS for sample in result.samples)
    assert len(result.samples) == len(times)


def seen(*clocks: int) -> SenderClock:
    """A session's clock after messages in which it was so far ahead."""
    clock = SenderClock()
    for ahead_ns in clocks:
        clock.observe(NOW_NS + ahead_ns, NOW_NS)
    return clock


def test_a_clock_within_seconds_is_left_as_it_is():
    assert seen(4 * NS_PER_S, -4 * NS_PER_S).ahead_ns == 0


def test_a_clock_that_is_off_is_known_from_the_first_message_on():
    assert [seen(off_ns).ahead_ns for off_ns in (YEAR_NS, -YEAR_NS, 60 * NS_PER_S)] == [
        YEAR_NS,
        -YEAR_NS,
        60 * NS_PER_S,
    ]


def test_a_message_that_took_long_does_not_make_a_good_clock_a_bad_one():
    assert seen(0, -30 * NS_PER_S).ahead_ns == 0


def test_what_a_slow_first_message_made_believe_is_put_right_by_the_next():
    clock = SenderClock()
    assert clock.observe(NOW_NS - 9 * NS_PER_S, NOW_NS)
    assert clock.observe(NOW_NS, NOW_NS)
    assert clock.ahead_ns == 0


def test_a_clock_set_during_a_session_is_noticed_once():
    clock = seen(0)
    assert [clock.observe(NOW_NS - YEAR_NS, NOW_NS) for _ in range(3)] == [True, False, False]
    assert clock.observe(NOW_NS, NOW_NS)
    assert clock.ahead_ns == 0


def test_the_collectors_own_step_is_not_the_senders():
    clock = seen(0)
    clock.collector_set(YEAR_NS)
    assert not clock.observe(NOW_NS, NOW_NS + YEAR_NS)
    clock.collector_set(-YEAR_NS)
    assert clock.ahead_ns == 0


def test_times_are_moved_by_what_the_clock_is_off_also_those_from_a_spool():
    batch = Batch(epoch=1, seq=1, samples=(link(NOW_NS + YEAR_NS - 3600 * NS_PER_S), link(NOW_NS + YEAR_NS)))
    result = check(batch, ME, {ME, PEER}.__contains__, NOW_NS, YEAR_NS)
    assert [sample.at_ns for sample in result.samples] == [NOW_NS - 3600 * NS_PER_S, NOW_NS]
    assert result.clock_off_ns == 0


def test_what_was_spooled_before_the_clock_went_wrong_keeps_its_good_time():
    batch = Batch(epoch=1, seq=1, samples=(link(NOW_NS - NS_PER_S), link(NOW_NS - YEAR_NS)))
    result = check(batch, ME, {ME, PEER}.__contains__, NOW_NS, -YEAR_NS)
    assert [sample.at_ns for sample in result.samples] == [NOW_NS - NS_PER_S, NOW_NS]


@given(times=st.lists(st.integers(0, 2**62), max_size=20), ahead_ns=st.integers(-(2**62), 2**62))
def test_whatever_two_clocks_say_what_is_kept_is_credible(times, ahead_ns):
    batch = Batch(epoch=1, seq=1, samples=tuple(link(at) for at in times))
    result = check(batch, ME, {ME, PEER}.__contains__, NOW_NS, ahead_ns)
    assert all(NOW_NS - BEHIND_NS <= sample.at_ns <= NOW_NS + AHEAD_NS for sample in result.samples)


def test_event_text_is_made_safe_before_it_is_kept():
    event = EventSample(at_ns=NOW_NS, kind="note", detail="\x1b[2Jboo")
    (kept,) = checked(event).samples
    assert isinstance(kept, EventSample)
    assert kept.detail == "?[2Jboo"


def test_a_batch_behind_a_refused_one_waits_for_it():
    order = BatchOrder()
    order.refuse(5)
    assert [order.may_take(seq) for seq in (6, 7, 5, 6, 7)] == [False, False, True, True, True]


def test_a_refused_batch_that_its_spool_dropped_does_not_block_the_rest():
    order = BatchOrder()
    order.refuse(5)
    assert not order.may_take(6)  # was on its way when 5 was refused
    assert order.may_take(6)  # comes again, first of all: 5 is gone


@given(seed=st.integers(0, 2**32), window=st.integers(1, 5))
def test_no_batch_is_ever_lost_to_one_that_overtook_it(seed, window):
    """A probe with `window` batches on the way, a store that refuses at random, and a cursor that only goes up."""
    rng = random.Random(seed)
    order, committed, stored, unsent = BatchOrder(), 0, [], list(range(1, 21))
    while unsent:
        for seq in unsent[:window]:
            if not order.may_take(seq):
                continue
            if rng.random() < 0.4:
                order.refuse(seq)
            elif seq > committed:
                stored.append(seq)
                committed = seq
        unsent = [seq for seq in unsent if seq > committed]
    assert stored == list(range(1, 21))
