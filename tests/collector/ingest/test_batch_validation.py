"""Batch validation: no sample about non-members, no clock that is a year off, no batch ahead of a refused one."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_collector.ingest.batch_order import BatchOrder
from swarm_collector.ingest.batch_validation import AHEAD_NS, BEHIND_NS, Checked, SenderClock, check, off_by
from swarm_protocol.messages.probe_messages import Batch
from swarm_protocol.messages.samples import (
    ComputeSample,
    EventSample,
    HopSample,
    HostSample,
    LinkSample,
    Sample,
    UplinkSample,
)
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S

ME, PEER, STRANGER = "a" * 16, "b" * 16, "c" * 16
NOW_NS = 1_800_000_000 * NS_PER_S
YEAR_NS = 365 * 86_400 * NS_PER_S


def link(at_ns: int, peer: str = PEER) -> LinkSample:
    return LinkSample(at_ns=at_ns, peer=peer, path="direct", sent=10, lost=0, rtt_min_ms=1.0)


def checked(*samples: Sample):
    return check(samples, ME, {ME, PEER}.__contains__, NOW_NS)


def test_samples_about_strangers_and_about_oneself_are_left_out_and_counted():
    result = checked(link(NOW_NS), link(NOW_NS, STRANGER), link(NOW_NS, ME))
    assert result.samples == (link(NOW_NS),)
    assert result.strangers == 2


def test_what_waited_in_a_spool_for_a_week_keeps_its_time():
    week_ago = NOW_NS - 7 * 86_400 * NS_PER_S
    assert checked(link(week_ago)).samples[0].at_ns == week_ago


def test_a_clock_a_year_ahead_or_behind_is_reported_and_the_time_of_arrival_kept_with_the_distances():
    for off_ns in (YEAR_NS, -YEAR_NS):
        result = checked(link(NOW_NS + off_ns - 10 * NS_PER_S), link(NOW_NS + off_ns))
        assert [sample.at_ns for sample in result.samples] == [NOW_NS - 10 * NS_PER_S, NOW_NS]
        assert result.clock_off_ns == off_ns


def test_a_good_sample_beside_a_bad_one_keeps_its_time():
    good = NOW_NS - NS_PER_S
    assert [sample.at_ns for sample in checked(link(good), link(NOW_NS + YEAR_NS)).samples] == [good, NOW_NS]


@given(times=st.lists(st.integers(0, 2**62), max_size=20))
def test_stored_times_are_credible_and_in_the_same_order_whatever_the_clock_says(times):
    result = checked(*(link(at) for at in times))
    assert all(NOW_NS - BEHIND_NS <= sample.at_ns <= NOW_NS + AHEAD_NS for sample in result.samples)
    assert len(result.samples) == len(times)


def one_by_one(samples: tuple[Sample, ...], known: set[str], verified: bool) -> tuple[list[Sample], int]:
    """The rules, sample by sample, without a thought of what they cost."""
    kept: list[Sample] = []
    for sample in samples:
        if isinstance(sample, LinkSample | HopSample | UplinkSample) and (
            sample.peer == ME or sample.peer not in known
        ):
            continue
        if isinstance(sample, EventSample):
            kind = "note" if sample.kind in ("degraded", "recovered", "improved", "settled") else sample.kind
            sample = msgspec.structs.replace(sample, kind=kind, detail=safe(sample.detail, limit=300))
        if isinstance(sample, ComputeSample):
            sample = msgspec.structs.replace(sample, verified=verified)
        kept.append(sample)
    return kept, len(samples) - len(kept)


PEERS = st.sampled_from((ME, PEER, STRANGER, "d" * 32))
ANY_SAMPLE = st.one_of(
    st.builds(link, st.just(NOW_NS), PEERS),
    st.builds(lambda peer: HopSample(at_ns=NOW_NS, peer=peer, size_bytes=1, cadence_ms=1.0, n=1, min_ms=1.0,
              p50_ms=1.0, p95_ms=1.0, p99_ms=1.0), PEERS),
    st.builds(lambda peer: UplinkSample(at_ns=NOW_NS, peer=peer, sent_bytes=1, mbps=1.0, bound=False, seconds=1.0),
              PEERS),
    st.builds(lambda kind, detail: EventSample(at_ns=NOW_NS, kind=kind, detail=detail),
              st.sampled_from(("note", "degraded", "settled", "joined")), st.text(max_size=400)),
    st.builds(lambda verified: ComputeSample(at_ns=NOW_NS, device="d", model="m", dtype="fp16", phase="decode", batch=1,
              context=1, ms_per_layer=1.0, ms_p95=1.0, n=1, verified=verified), st.booleans()),
    st.just(HostSample(at_ns=NOW_NS)),
)  # fmt: skip


@given(samples=st.lists(ANY_SAMPLE, max_size=12).map(tuple), known=st.sets(PEERS), verified=st.booleans())
def test_a_batch_looked_at_as_a_whole_is_what_its_samples_are_one_by_one(samples, known, verified):
    result = check(samples, ME, known.__contains__, NOW_NS, verified=verified)
    kept, strangers = one_by_one(samples, known, verified)
    assert list(result.samples) == kept
    assert result.strangers == strangers


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
    result = check(batch.samples, ME, {ME, PEER}.__contains__, NOW_NS, YEAR_NS)
    assert [sample.at_ns for sample in result.samples] == [NOW_NS - 3600 * NS_PER_S, NOW_NS]
    assert result.clock_off_ns == 0


def test_what_was_spooled_before_the_clock_went_wrong_keeps_its_good_time():
    batch = Batch(epoch=1, seq=1, samples=(link(NOW_NS - NS_PER_S), link(NOW_NS - YEAR_NS)))
    result = check(batch.samples, ME, {ME, PEER}.__contains__, NOW_NS, -YEAR_NS)
    assert [sample.at_ns for sample in result.samples] == [NOW_NS - NS_PER_S, NOW_NS]


@given(times=st.lists(st.integers(0, 2**62), max_size=20), ahead_ns=st.integers(-(2**62), 2**62))
def test_stored_times_are_credible_whatever_two_clocks_say(times, ahead_ns):
    batch = Batch(epoch=1, seq=1, samples=tuple(link(at) for at in times))
    result = check(batch.samples, ME, {ME, PEER}.__contains__, NOW_NS, ahead_ns)
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


# ---------------------------------------------------------------- the bounds, as numbers

S = NS_PER_S
DAY_S = 86_400


@pytest.mark.parametrize("off_ns", [5 * S, 5 * S + 1, -5 * S, -5 * S - 1])
def test_a_first_message_is_believed_within_five_seconds(off_ns):
    assert seen(off_ns).ahead_ns == (0 if abs(off_ns) <= 5 * S else off_ns)


def test_later_messages_may_take_a_minute_and_no_longer():
    assert seen(0, -60 * S).ahead_ns == 0
    assert seen(0, -60 * S - 1).ahead_ns == -60 * S - 1
    assert seen(0, 5 * S + 1).ahead_ns == 5 * S + 1  # nothing makes a clock look ahead


def test_five_seconds_more_are_within_what_was_known():
    assert seen(60 * S, 65 * S).ahead_ns == 60 * S
    assert seen(60 * S, 65 * S + 1).ahead_ns == 65 * S + 1


def test_a_clock_that_comes_back_to_within_five_seconds_is_right_again():
    assert seen(100 * S, 5 * S).ahead_ns == 0
    assert seen(100 * S, 5 * S + 1).ahead_ns == 5 * S + 1


def test_after_a_step_of_the_collectors_clock_five_seconds_are_nothing():
    for step_ns, left_ns in ((-5 * S, 0), (-5 * S - 1, 5 * S + 1), (5 * S, 0)):
        clock = seen(0)
        clock.collector_set(step_ns)
        assert clock.ahead_ns == left_ns


@pytest.mark.parametrize(
    ("off_ns", "believed"),
    [(120 * S, True), (120 * S + 1, False), (-30 * DAY_S * S, True), (-30 * DAY_S * S - 1, False)],
)
def test_a_sample_may_be_two_minutes_ahead_and_a_month_behind(off_ns, believed):
    result = checked(link(NOW_NS + off_ns))
    assert result.samples[0].at_ns == (NOW_NS + off_ns if believed else NOW_NS)
    assert result.clock_off_ns == (0 if believed else off_ns)


def test_a_time_that_both_clocks_believe_is_moved_by_what_the_clock_is_off():
    batch = Batch(epoch=1, seq=1, samples=(link(NOW_NS + 60 * S),))
    assert check(batch.samples, ME, {ME, PEER}.__contains__, NOW_NS, 60 * S).samples[0].at_ns == NOW_NS


def test_times_that_no_clock_explains_keep_their_distances():
    batch = Batch(epoch=1, seq=1, samples=(link(0), link(11)))
    result = check(batch.samples, ME, {ME, PEER}.__contains__, NOW_NS, 10)
    assert [sample.at_ns for sample in result.samples] == [NOW_NS - 1, NOW_NS]


def timed(*, verified: bool) -> ComputeSample:
    return ComputeSample(
        at_ns=NOW_NS, device="d", model="m", dtype="fp16", phase="decode", batch=1, context=16, ms_per_layer=1.0,
        ms_p95=1.0, n=9, verified=verified,
    )  # fmt: skip


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("shown", [False, True])
def test_whether_a_layer_time_is_verified_is_the_collectors_to_say(claimed, shown):
    batch = Batch(epoch=1, seq=1, samples=(timed(verified=claimed), link(NOW_NS), timed(verified=claimed)))
    result = check(batch.samples, ME, {ME, PEER}.__contains__, NOW_NS, 0, shown)
    assert result.samples == (timed(verified=shown), link(NOW_NS), timed(verified=shown))


def test_nothing_is_verified_without_an_attestation():
    assert checked(timed(verified=True)).samples == (timed(verified=False),)


def test_samples_about_the_node_itself_are_kept():
    host = HostSample(at_ns=NOW_NS, cpu_percent=1.0, ram_free_bytes=1, ram_total_bytes=2)
    assert checked(host, link(NOW_NS, STRANGER), host) == Checked((host, host), 1, 0)


def test_event_text_is_cut_at_three_hundred_characters():
    (kept,) = checked(EventSample(at_ns=NOW_NS, kind="note", detail="x" * 400)).samples
    assert len(kept.detail) == 300


@pytest.mark.parametrize(
    ("ahead_ns", "words"),
    [
        (12 * S, "12 s ahead"),
        (-12 * S, "12 s behind"),
        (DAY_S * S - S, "86399 s ahead"),
        (DAY_S * S, "1.0 days ahead"),
        (-YEAR_NS, "365.0 days behind"),
    ],
)
def test_how_far_a_clock_is_off_in_words(ahead_ns, words):
    assert off_by(ahead_ns) == words


def test_a_refused_batch_is_waited_for_until_it_comes():
    order = BatchOrder()
    assert not order.refusing
    order.refuse(5)
    assert order.refusing
    assert order.may_take(5)
    assert not order.refusing


def test_a_batch_before_the_refused_ones_is_taken():
    order = BatchOrder()
    order.refuse(5)
    assert order.may_take(4)


def test_refused_batches_that_are_remembered_are_bounded():
    order = BatchOrder()
    for seq in range(5000):
        order.refuse(seq)
    assert len(order._refused) == 1024
