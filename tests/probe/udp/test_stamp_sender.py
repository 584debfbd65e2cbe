"""The sender's half of a STAMP session, with a list of times instead of a clock and hand-made replies."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.quantiles import quantile
from swarm_probe.udp.stamp import stamp_sender as session_module
from swarm_probe.udp.stamp.stamp_sender import Ignored, Outgoing, RoundTrip, SessionConfig, StampSession, rtt_ns
from swarm_protocol.packets import stamp_packet
from swarm_protocol.units import NS_PER_MS, NS_PER_S

KEY = b"k" * 32
SSID = 77
START = 5 * NS_PER_S
WALL = 1_700_000_000 * NS_PER_S
TICK = 100 * NS_PER_MS
CONFIG = SessionConfig(KEY, SSID, interval_ns=TICK, window_ns=10 * TICK)


class Still(random.Random):
    def random(self) -> float:
        return 0.0


def session(**changes: int) -> StampSession:
    fields = {"key": KEY, "ssid": SSID, "interval_ns": TICK, "window_ns": 10 * TICK} | changes
    return StampSession(SessionConfig(**fields), Still(), START)  # type: ignore[arg-type]


def send(one: StampSession, at_ns: int) -> Outgoing:
    out = one.poll(at_ns, WALL + at_ns)
    assert out is not None
    return out


def reply(
    out: Outgoing,
    *,
    key: bytes = KEY,
    ssid: int = SSID,
    t2: int = WALL,
    t3: int = WALL,
    error: int = 0x0101,
    echo: int = 0,
    seq: int | None = None,
    follow_up: tuple[int, int] | None = None,
) -> bytes:
    """`follow_up`: the reflector's number of an answer, and when it left by the clock of `t3`."""
    request = stamp_packet.decode_sender(out.data, KEY)
    appended = stamp_packet.NO_FOLLOW_UP if request.follow_up else None
    if follow_up is not None:
        appended = stamp_packet.FollowUp(follow_up[0], stamp_packet.ntp_from_ns(follow_up[1]))
    packet = stamp_packet.ReflectedPacket(
        seq=request.seq if seq is None else seq,
        sent_ntp=stamp_packet.ntp_from_ns(t3),
        error=error,
        ssid=ssid,
        received_ntp=stamp_packet.ntp_from_ns(t2),
        sender_seq=request.seq,
        sender_ntp=request.sent_ntp + echo,
        sender_error=request.error,
        sender_ttl=255,
        follow_up=appended,
    )
    return stamp_packet.encode_reflected(packet, key)


def test_a_packet_carries_the_session_the_wall_clock_and_the_next_number() -> None:
    one = session()
    first, second = send(one, START), send(one, START + TICK)
    packet = stamp_packet.decode_sender(first.data, KEY)
    assert (packet.seq, packet.ssid, stamp_packet.ns_from_ntp(packet.sent_ntp)) == (0, SSID, WALL + START)
    assert stamp_packet.decode_sender(second.data, KEY).seq == 1


def test_the_reflectors_own_time_is_no_part_of_the_round_trip() -> None:
    one = session()
    out = send(one, START)
    data = reply(out, t2=WALL, t3=WALL + 30 * NS_PER_MS)
    assert one.receive(data, START + 50 * NS_PER_MS, kernel=True) == RoundTrip(0, 0, 20 * NS_PER_MS, True)


def test_the_departure_that_the_kernel_saw_counts_not_the_time_before_the_call() -> None:
    one = session()
    out = send(one, START)
    one.sent(out.seq, START + 7 * NS_PER_MS)
    event = one.receive(reply(out), START + 20 * NS_PER_MS, kernel=True)
    assert isinstance(event, RoundTrip)
    assert event.rtt_ns == 13 * NS_PER_MS


@pytest.mark.parametrize(("t1", "t2", "t3", "t4"), [(0, 10, 5, 20), (0, 0, 30, 20), (10, 0, 0, 5)])
def test_clocks_that_were_set_give_no_round_trip_rather_than_a_clamped_one(t1: int, t2: int, t3: int, t4: int) -> None:
    assert rtt_ns(t1, t2, t3, t4) is None


def test_a_reply_with_impossible_times_is_no_loss_and_no_figure() -> None:
    one = session()
    out = send(one, START)
    assert one.receive(reply(out, t2=WALL + 1, t3=WALL), START + TICK // 2, kernel=True) == Ignored("clock")
    (report,) = one.reports(START + 11 * TICK)
    assert (report.sent, report.lost, report.n, report.rtt_p50_ns) == (1, 0, 0, None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda out: b"", "length"),
        (lambda out: reply(out)[:111], "length"),
        (lambda out: reply(out) + b"\0", "length"),
        (lambda out: bytes(112), "direction"),
        (lambda out: out.data, "direction"),
        (lambda out: reply(out, key=b"x" * 32), "hmac"),
        (lambda out: reply(out, ssid=SSID + 1), "echo"),
        (lambda out: reply(out, echo=1), "echo"),
        (lambda out: reply(out, error=0x0100), "error_estimate"),
    ],
)
def test_what_is_not_the_reply_to_this_packet_is_ignored_by_its_reason(data, reason: str) -> None:  # type: ignore[no-untyped-def]
    one = session()
    out = send(one, START)
    assert one.receive(data(out), START + NS_PER_MS, kernel=True) == Ignored(reason)  # type: ignore[arg-type]
    assert isinstance(one.receive(reply(out), START + 2 * NS_PER_MS, kernel=True), RoundTrip)


def test_a_reply_to_a_packet_never_sent_is_ignored() -> None:
    one, other = session(), session()
    send(other, START)
    ahead = send(other, START + TICK)
    send(one, START)
    assert one.receive(reply(ahead), START + TICK, kernel=True) == Ignored("unknown")


def test_a_replayed_reply_is_a_duplicate_and_changes_no_figure() -> None:
    one = session()
    out = send(one, START)
    one.receive(reply(out), START + 3 * NS_PER_MS, kernel=True)
    assert one.receive(reply(out), START + 9 * NS_PER_MS, kernel=True) == Ignored("duplicate")
    (report,) = one.reports(START + 10 * TICK)
    assert (report.n, report.rtt_p99_ns, report.duplicates) == (1, 3 * NS_PER_MS, 1)


@given(st.lists(st.binary(max_size=130), max_size=20))
def test_no_bytes_of_a_stranger_raise_or_count_as_an_answer(junk: list[bytes]) -> None:
    one = session()
    send(one, START)
    assert all(isinstance(one.receive(data, START + NS_PER_MS, kernel=True), Ignored) for data in junk)
    (report,) = one.reports(START + 10 * TICK + session_module.REPLY_WAIT_NS)
    assert (report.sent, report.lost, report.n) == (1, 1, 0)


def test_a_complete_window_is_reported_at_its_end_and_an_incomplete_one_after_the_wait() -> None:
    one = session()
    answered = send(one, START)
    one.receive(reply(answered), START + NS_PER_MS, kernel=True)
    assert one.reports(START + 10 * TICK - 1) == []
    assert len(one.reports(START + 10 * TICK)) == 1
    send(one, START + 10 * TICK)
    waited_ns = START + 10 * TICK + session_module.REPLY_WAIT_NS
    assert one.reports(waited_ns - 1) == []
    assert one.reports(waited_ns)[0].lost == 1


def following(**changes: int) -> StampSession:
    return session(follow_up=True, interval_ns=2 * TICK, window_ns=2 * TICK, **changes)


def test_a_window_closes_once_the_follow_up_of_its_last_packet_has_come_and_its_figures_use_it() -> None:
    """The answer left 3 ms after its T3, and T2 is T3: the path was 3 ms shorter than it looked, on the way back."""
    one = following()
    first = send(one, START)
    one.receive(reply(first, t3=WALL), START + 10 * NS_PER_MS, kernel=True)
    second = send(one, START + 2 * TICK)
    assert one.reports(START + 3 * TICK) == []
    one.receive(reply(second, follow_up=(0, WALL + 3 * NS_PER_MS)), START + 3 * TICK, kernel=True)
    (report,) = one.reports(START + 3 * TICK)
    assert (report.n, report.rtt_min_ns, report.rtt_p50_ns) == (1, 7 * NS_PER_MS, 7 * NS_PER_MS)
    assert report.back_ns == START + 10 * NS_PER_MS - (WALL + 3 * NS_PER_MS)
    assert report.out_ns == WALL - START


def test_the_last_packet_before_a_pause_is_reported_without_its_follow_up() -> None:
    one = following()
    one.receive(reply(send(one, START)), START + 10 * NS_PER_MS, kernel=True)
    given_up_ns = START + session_module.REPLY_WAIT_NS + session_module.FOLLOW_UP_INTERVALS * 2 * TICK
    assert one.reports(given_up_ns - 1) == []
    assert [(r.n, r.rtt_min_ns) for r in one.reports(given_up_ns)] == [(1, 10 * NS_PER_MS)]


def test_a_follow_up_that_overtakes_its_answer_waits_for_it() -> None:
    one = following()
    first, second = send(one, START), send(one, START + 2 * TICK)
    one.receive(reply(second, follow_up=(0, WALL + 3 * NS_PER_MS)), START + 3 * TICK, kernel=True)
    one.receive(reply(first), START + 3 * TICK + NS_PER_MS, kernel=True)
    (report,) = one.reports(START + 3 * TICK + NS_PER_MS)
    assert (report.rtt_min_ns, report.reordered) == (3 * TICK - 2 * NS_PER_MS, 1)


@given(
    st.lists(st.tuples(st.integers(0, 2 * NS_PER_MS), st.sampled_from(["both", "lost_out", "lost_back"])), min_size=2)
)
def test_no_round_trip_is_shorter_than_the_path_whatever_is_lost(packets: list[tuple[int, str]]) -> None:
    """Each answer leaves another time after its T3; followed up ones are exact, others up to that much too long."""
    path_ns = 40 * NS_PER_MS
    one, answers, left_ns = following(), 0, None
    reports = []
    for k, (leaving_ns, fate) in enumerate(packets):
        at_ns = START + 2 * k * TICK
        out = send(one, at_ns)
        if fate != "lost_out":
            t3 = WALL + at_ns + path_ns // 2
            appended = None if left_ns is None else (answers - 1, left_ns)
            data = reply(out, t2=t3, t3=t3, seq=answers, follow_up=appended)
            answers, left_ns = answers + 1, t3 + leaving_ns
            if fate == "both":
                one.receive(data, at_ns + path_ns + leaving_ns, kernel=True)
        reports += one.reports(at_ns + TICK)
    reports += one.reports(START + 2 * len(packets) * TICK + 2 * session_module.REPLY_WAIT_NS)
    answered = [k for k, (_, fate) in enumerate(packets) if fate == "both"]
    assert sum(r.n for r in reports) == len(answered)
    assert len(reports) == len(packets)
    rtts = {k: report.rtt_min_ns for k, report in enumerate(reports) if report.rtt_min_ns is not None}
    reached = [k for k, (_, fate) in enumerate(packets) if fate != "lost_out"]
    for k in answered:
        following_answers = [later for later in reached if later > k]
        appended = bool(following_answers) and packets[following_answers[0]][1] == "both"
        assert rtts[k] == pytest.approx(path_ns if appended else path_ns + packets[k][0], abs=2)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**63)), max_size=30))
def test_no_follow_up_of_a_wrong_or_broken_peer_makes_a_negative_round_trip(
    appended: list[tuple[int, int]],
) -> None:
    one = following()
    for k, follow_up in enumerate(appended):
        out = send(one, START + 2 * k * TICK)
        one.receive(reply(out, follow_up=follow_up), START + 2 * k * TICK + 10 * NS_PER_MS, kernel=True)
    reports = one.reports(START + 100 * TICK + 2 * session_module.REPLY_WAIT_NS)
    assert sum(r.n for r in reports) == len(appended)
    assert all(r.rtt_min_ns is not None and r.rtt_min_ns >= 0 for r in reports)


def test_a_window_in_which_nothing_was_sent_is_not_reported() -> None:
    one = session()
    assert one.reports(START + 100 * TICK) == []


def test_a_process_that_slept_sends_one_packet_and_makes_up_for_none() -> None:
    one = session()
    send(one, START)
    send(one, START + 50 * TICK)
    assert one.poll(START + 50 * TICK, WALL) is None
    one.reports(START + 50 * TICK)
    assert one.next_due_ns() > START + 50 * TICK


@given(st.integers(0, 2**32))
def test_send_times_vary_but_keep_half_an_interval_apart_and_the_mean_rate(seed: int) -> None:
    one = StampSession(CONFIG, random.Random(seed), START)
    now_ns, times = START, []
    while len(times) < 200:
        now_ns = one.next_due_ns()
        if one.poll(now_ns, WALL) is not None:
            times.append(now_ns)
        one.reports(now_ns)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert min(gaps) >= TICK // 2
    assert max(gaps) <= TICK * 3 // 2
    assert len(set(gaps)) > 100
    assert times[-1] - times[0] == pytest.approx(199 * TICK, abs=TICK)


def test_what_could_not_be_sent_is_neither_sent_nor_lost_and_its_number_is_used_again() -> None:
    one = session()
    send(one, START)
    one.unsent(0, unreachable=False)
    again = send(one, START + TICK)
    assert again.seq == 0
    one.receive(reply(again), START + TICK + NS_PER_MS, kernel=True)
    assert [(r.sent, r.lost) for r in one.reports(START + 10 * TICK)] == [(1, 0)]


def test_addresses_take_turns_until_one_answers_and_the_others_silence_is_no_loss() -> None:
    one = session(hosts=3)
    outs = [send(one, START + k * TICK) for k in range(5)]
    assert [out.host for out in outs] == [0, 1, 2, 0, 1]
    one.receive(reply(outs[1]), START + 5 * TICK - 1, kernel=True)
    settled = send(one, START + 5 * TICK)
    assert settled.host == 1
    one.receive(reply(settled), START + 5 * TICK + 1, kernel=True)
    one.receive(reply(outs[4]), START + 5 * TICK + 2, kernel=True)
    (report,) = one.reports(START + 10 * TICK + session_module.REPLY_WAIT_NS)
    assert (report.sent, report.lost, report.n) == (3, 0, 3)


def test_an_address_that_falls_silent_is_given_up_for_the_others() -> None:
    one = session(hosts=2, interval_ns=NS_PER_S, window_ns=100 * NS_PER_S)
    out = send(one, START)
    one.receive(reply(out), START + NS_PER_MS, kernel=True)
    hosts = [send(one, START + k * NS_PER_S).host for k in range(1, 13)]
    assert hosts == [0] * 9 + [1, 0, 1]  # five are lost when the wait of the fifth is over


def test_one_user_space_stamp_marks_the_whole_window() -> None:
    one = session()
    for k, kernel in ((0, True), (1, False)):
        out = send(one, START + k * TICK)
        one.receive(reply(out), START + k * TICK + 1, kernel=kernel)
    assert [r.kernel for r in one.reports(START + 10 * TICK)] == [False]


def test_a_peer_that_stamps_in_user_space_says_so_in_its_error_estimate() -> None:
    one = session()
    out = send(one, START)
    event = one.receive(reply(out, error=stamp_packet.encode_error(10 * NS_PER_MS)), START + 1, kernel=True)
    assert isinstance(event, RoundTrip)
    assert not event.kernel


def test_a_transfer_marks_every_window_it_touches_and_no_other() -> None:
    one = session()
    loaded = []
    for k in range(40):
        if k == 15:
            one.set_loaded(True)
        if k == 22:
            one.set_loaded(False)
        out = send(one, START + k * TICK)
        one.receive(reply(out), START + k * TICK + 1, kernel=True)
        loaded += [r.loaded for r in one.reports(START + k * TICK)]
    assert loaded == [False, True, True]


def test_a_denser_pace_for_a_while_ends_where_the_plan_was() -> None:
    one = session()
    send(one, START)
    one.pace(TICK // 10, START + 1)
    send(one, START + 1)
    send(one, START + 1 + TICK // 10)
    one.pace(None, START + TICK)
    send(one, START + TICK)
    assert one.poll(START + TICK + TICK // 2, WALL) is None


def test_new_times_of_a_plan_keep_what_is_under_way() -> None:
    one = session()
    out = send(one, START)
    one.retime(2 * TICK, 20 * TICK, START + 1)
    assert isinstance(one.receive(reply(out), START + 2, kernel=True), RoundTrip)
    assert send(one, START + 3).seq == 1
    assert one.poll(START + 2 * TICK, WALL) is None
    assert send(one, START + 2 * TICK + 1).seq == 2


def test_memory_is_bounded_whatever_interval_is_asked_for() -> None:
    one = session(interval_ns=1000)
    polled = [one.poll(START + k * 1000, WALL) for k in range(session_module.MAX_IN_FLIGHT + 50)]
    assert sum(out is not None for out in polled) == session_module.MAX_IN_FLIGHT


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_one_of_the_values_and_leaves_its_share_below(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-6
    assert sum(v < found for v in values) < share * len(values) + 1e-6


def test_packets_that_a_peer_without_its_plan_ignored_are_not_lost_on_the_path() -> None:
    """A plan reaches two members some hundred milliseconds apart; the later one knows no session of the other's yet."""
    one = session()
    packets = [send(one, START + i * TICK) for i in range(10)]
    for out in (*packets[3:7], packets[8]):  # the tenth may still be answered, the eighth really was lost
        one.receive(reply(out), START + (out.seq + 1) * TICK // 2 + TICK, kernel=True)
    (report,) = one.reports(START + 60 * TICK)
    assert (report.sent, report.lost) == (7, 2)


def test_a_peer_that_never_answered_has_lost_everything() -> None:
    one = session()
    for i in range(10):
        send(one, START + i * TICK)
    (report,) = one.reports(START + 60 * TICK)
    assert (report.sent, report.lost, report.settled) == (10, 10, False)
