"""When a transfer has shown a path's rate and when it is only a bound; then the two ends over loopback."""

from __future__ import annotations

import asyncio
import struct
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.measure.transfers import uplink
from swarm_probe.measure.transfers.uplink import Arrivals, Judge, KernelView, Report
from swarm_probe.streams.channel import PeerError, Unreachable, read_exactly
from swarm_probe.streams.tcp_endpoint import Stream
from swarm_protocol.units import NS_PER_MS

Ends = tuple[Stream, Stream]
RTT = 40 * NS_PER_MS


def view(mbps: float, *, app_limited: bool = False, limited: float = 0.0) -> KernelView:
    return KernelView(mbps, app_limited, RTT, 2 * RTT, limited)


def report(total: int, mbps: float) -> Report:
    half = total // 2
    return Report(total, 0, half, round(half * 8e3 / mbps))


def judged(views: list[KernelView], *reports: Report) -> Judge:
    judge = Judge(RTT, views=views)
    for one in reports:
        judge.add(one)
    return judge


def test_the_last_half_leaves_slow_start_out() -> None:
    """1 MB in the first second, 1 MB in the next tenth: the path carries 80 Mbit/s, not 15."""
    arrivals = Arrivals()
    for k in range(1, 11):
        arrivals.add(k * 100 * NS_PER_MS, 100_000)
    for k in range(1, 11):
        arrivals.add((1000 + k * 10) * NS_PER_MS, 100_000)
    seen = arrivals.report()
    assert (seen.total_bytes, seen.half_bytes) == (2_000_000, 1_000_000)
    assert seen.mbps == pytest.approx(80.0)


def test_nothing_received_is_no_rate() -> None:
    assert Arrivals().report().mbps is None
    one = Arrivals()
    one.add(5, 1000)
    assert one.report().mbps is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), min_size=1, max_size=50))
def test_the_last_half_never_holds_more_than_half(reads: list[tuple[int, int]]) -> None:
    arrivals, now_ns = Arrivals(), 0
    for gap_ns, size in reads:
        now_ns += gap_ns
        arrivals.add(now_ns, size)
    seen = arrivals.report()
    assert seen.half_bytes <= seen.total_bytes / 2
    assert 0 <= seen.half_ns <= seen.elapsed_ns


def test_two_ends_that_agree_on_a_full_path_are_a_measurement() -> None:
    judge = judged([view(20.0)] * 4, report(1 << 20, 20.5))
    assert judge.agreed == pytest.approx(20.5)


@pytest.mark.parametrize(
    ("views", "total", "rate"),
    [
        ([view(20.0)] * 4, 1 << 20, 18.5),  # they differ: slow start goes on
        ([view(100.0)] * 4, 1 << 20, 100.0),  # two products of 0.5 MB: could be one burst in flight
        ([view(20.0, app_limited=True)] * 4, 1 << 20, 20.0),  # we did not send enough to know
        ([view(20.0, limited=0.5)] * 4, 1 << 20, 20.0),  # the receiver's window was the limit, not the path
        ([view(20.0)] * 2, 1 << 20, 20.0),  # two looks are no median
        ([view(60.0)] * 4, 800_000, 60.0),  # the last half took 53 ms
    ],
)
def test_anything_less_is_a_bound(views: list[KernelView], total: int, rate: float) -> None:
    judge = judged(views, report(total, rate))
    assert judge.agreed is None
    assert judge.bound_mbps() == pytest.approx(min(rate, views[-1].delivery_mbps))


def test_a_jittery_path_that_answers_later_the_more_it_carries_is_not_taken_for_a_full_one() -> None:
    """57 of 100 Mbit/s was once shown as measured: cubic had stopped growing, and jitter looked like its queue."""
    few = KernelView(30.0, False, RTT, round(1.3 * RTT), 0.0, in_flight=50)
    many = KernelView(57.0, False, RTT, round(1.35 * RTT), 0.0, in_flight=120)
    last = report(4 << 20, 57.0)
    judge = judged([few] * 5 + [many] * 20, last)
    assert judge.agreed is None
    assert judge.bound_mbps() == pytest.approx(57.0)
    full = KernelView(57.0, False, RTT, 2 * RTT, 0.0, in_flight=120)
    assert judged([few] * 5 + [full] * 20, last).agreed == pytest.approx(57.0)


def test_a_path_that_loss_keeps_empty_is_not_taken_for_a_full_one_where_an_answer_is_late() -> None:
    """1.1 of 20 Mbit/s over 100 ms was once shown as measured: 1 % was lost, and jitter delayed one answer."""
    empty, late = KernelView(1.1, False, RTT, RTT + RTT // 25, 0.0), KernelView(1.1, False, RTT, 2 * RTT, 0.0)
    assert judged([empty] * 20 + [late], report(1 << 20, 1.1)).agreed is None
    assert judged([empty] * 20 + [late] * 6, report(1 << 20, 1.1)).agreed == pytest.approx(1.1)


@pytest.mark.parametrize(("train_bytes", "agreed"), [(0, False), (300_000, True)])
def test_where_packets_were_lost_a_burst_at_the_same_rate_has_to_confirm_it(train_bytes: int, agreed: bool) -> None:
    """25 of 80 Mbit/s over 120 ms was once shown as measured: the bursts of a window queued, and then nothing."""
    held = KernelView(25.0, False, RTT, 2 * RTT, 0.0, retransmitted=5)
    half = 512 << 10
    seen = Report(1 << 20, 0, half, round(half * 8e3 / 25.0), train_bytes, train_bytes * 8_000 // 25)
    assert (judged([held] * 20, seen).agreed is not None) is agreed


def test_a_half_that_lasts_hardly_longer_than_the_jitter_is_a_bound() -> None:
    """67 of 100 Mbit/s was once shown as measured: 1 MiB took 120 ms, with 14 ms of jitter at either end of it."""
    full = [KernelView(70.0, False, RTT, 3 * RTT, 0.0)] * 5
    for pdv_ms, agreed in ((5, True), (14, False)):
        judge = Judge(RTT, pdv_ms * NS_PER_MS, views=full)
        judge.add(report(2 << 20, 70.0))
        assert (judge.agreed is not None) is agreed


def test_a_path_that_was_faster_before_is_not_full() -> None:
    """4 of 100 Mbit/s over 200 ms was once shown as measured: 1 % was lost, and delayed answers looked like a queue."""
    assert judged([view(9.0)] * 3 + [view(4.0)] * 20, report(1 << 20, 4.0)).agreed is None
    assert judged([view(9.0)] * 2 + [view(4.0)] * 20, report(1 << 20, 4.0)).agreed == pytest.approx(4.0)


def test_a_path_that_carries_bursts_faster_than_the_average_is_not_full() -> None:
    """8 of 20 Mbit/s over 200 ms was once shown as measured: within each burst of a window there is a queue."""
    half, half_ns = 512 << 10, round((512 << 10) * 8e3 / 8.0)
    bursts = Report(1 << 20, 0, half, half_ns, 300_000, 300_000 * 8_000 // 19)
    steady = Report(1 << 20, 0, half, half_ns, 300_000, 300_000 * 8_000 // 8)
    assert judged([view(8.0)] * 20, bursts).agreed is None
    assert judged([view(8.0)] * 20, steady).agreed == pytest.approx(8.0)


@pytest.mark.parametrize(("pdv_ms", "agreed"), [(4, True), (15, False)])
def test_a_queue_has_to_stand_out_of_the_idle_paths_jitter(pdv_ms: int, agreed: bool) -> None:
    """The view has a queue of 40 ms."""
    judge = Judge(RTT, pdv_ms * NS_PER_MS, views=[view(20.0)] * 4)
    judge.add(report(1 << 20, 20.0))
    assert (judge.agreed is not None) is agreed


def slow_start(mbps: float, rounds: int) -> Arrivals:
    """Each round twice the one before, at the path's rate, then silence until its acknowledgements were back."""
    arrivals, packet = Arrivals(), 1448
    for k in range(rounds):
        began_ns = k * 160 * NS_PER_MS
        for i in range(10 << k):
            arrivals.add(began_ns + round(i * packet * 8e3 / mbps), packet)
    return arrivals


def long_fat(trains: Arrivals, *, pdv_ns: int | None = 0, starved: bool = False) -> Judge:
    idle = KernelView(40.0, False, 160 * NS_PER_MS, 162 * NS_PER_MS, 0.0, in_flight=900, starved=starved)
    judge = Judge(160 * NS_PER_MS, pdv_ns, views=[idle] * 20)
    judge.add(trains.report())
    return judge


def test_the_trains_of_slow_start_tell_the_rate_of_a_path_too_long_to_be_filled() -> None:
    """200 Mbit/s over 160 ms: 4 MB would have to be under way."""
    judge = long_fat(slow_start(193.0, 8))
    assert judge.agreed is None
    assert judge.train_mbps() == pytest.approx(193.0, rel=0.002)


@pytest.mark.parametrize(
    "judge",
    [
        long_fat(slow_start(193.0, 8), pdv_ns=None),  # who knows what jitter does to them
        long_fat(slow_start(193.0, 8), pdv_ns=4 * NS_PER_MS),
        long_fat(slow_start(193.0, 8), starved=True),  # as slow as our own program
        long_fat(slow_start(193.0, 5)),  # no train is long enough
    ],
)
def test_trains_that_may_be_of_something_else_tell_nothing(judge: Judge) -> None:
    assert judge.train_mbps() is None


def test_two_trains_that_differ_tell_nothing() -> None:
    """A policer lets the first burst through faster than the next."""
    arrivals = slow_start(193.0, 7)
    began_ns = arrivals.at_ns[-1] + 100 * NS_PER_MS
    for i in range(1280):
        arrivals.add(began_ns + round(i * 1448 * 8e3 / 120.0), 1448)
    assert long_fat(arrivals).train_mbps() is None


def test_what_a_lost_packet_held_back_does_not_raise_the_bound() -> None:
    """The half into which it falls comes at once; the one before it says what the line carried."""
    judge = judged([view(80.0)] * 4, report(1 << 20, 48.0), report(4 << 20, 70.0))
    assert judge.bound_mbps() == pytest.approx(48.0)


def test_a_half_that_jitter_may_have_shortened_does_not_raise_the_bound() -> None:
    """Its first packet may have come 30 ms late: then the last 1 MiB took 430 ms, not 400."""
    seen = Report(2 << 20, 0, 1 << 20, 400 * NS_PER_MS)
    judge = Judge(RTT, 10 * NS_PER_MS, views=[view(80.0)] * 4)
    judge.add(seen)
    assert seen.mbps == pytest.approx(20.97, rel=0.001)
    assert judge.bound_mbps() == pytest.approx(19.51, rel=0.001)


def test_a_receivers_rate_counts_no_more_than_our_own_kernels() -> None:
    judge = judged([view(20.0)] * 4, report(4 << 20, 9000.0))
    assert judge.agreed is None
    assert judge.bound_mbps() == 20.0


def test_without_a_kernel_that_tells_two_reports_have_to_agree() -> None:
    """macOS: the receiver's halves are all there is."""
    first, second = report(512 << 10, 19.8), report(1 << 20, 20.0)
    assert judged([], first).agreed is None
    assert judged([], first, second).agreed == pytest.approx(20.0)
    assert judged([], report(512 << 10, 12.0), second).agreed is None


def test_the_kernels_rate_is_the_median_of_its_latest_looks() -> None:
    judge = judged([view(1.0)] * 15 + [view(30.0), view(31.0), view(90.0), view(30.5), view(30.2)])
    assert judge.delivery_mbps() == pytest.approx(30.5)


def test_tcp_info_is_read_where_the_kernel_puts_it() -> None:
    """Laid out as <linux/tcp.h> has it: flags at 7, min_rtt at 148, delivery_rate at 160, busy and limited after."""
    info = bytearray(232)
    info[7] = 1 if sys.byteorder == "little" else 0x80
    struct.pack_into("@I", info, 148, 12_345)
    struct.pack_into("@QQQQ", info, 160, 2_500_000, 1000, 100, 150)
    struct.pack_into("@I", info, 68, 12_400)
    struct.pack_into("@I", info, 24, 77)  # unacked
    struct.pack_into("@I", info, 100, 3)  # total_retrans
    struct.pack_into("@I", info, 144, 4096)  # not sent
    assert uplink.parse_tcp_info(bytes(info), b"bbr") == KernelView(
        20.0, True, 12_345_000, 12_400_000, 0.25, paced=True, in_flight=77, retransmitted=3
    )


@pytest.mark.parametrize(
    ("rtt_ms", "min_rtt_ms", "idle_ms", "congestion", "full"),
    [
        (101, 93, 93, b"cubic", False),  # the bursts of slow start; this path carried a fifth more
        (140, 93, 93, b"cubic", True),
        (29, 24, 27, b"cubic", False),  # jitter, which is there without load too
        (93.5, 93, 93, b"bbr", True),  # paced: knows the rate without a queue
        (0.7, 0.3, 0.3, b"cubic", False),  # our own wake-ups on a LAN
    ],
)
def test_a_path_is_full_only_where_packets_wait(rtt_ms, min_rtt_ms, idle_ms, congestion, full) -> None:
    info = bytearray(232)
    for at, value in ((68, rtt_ms), (148, min_rtt_ms)):
        struct.pack_into("@I", info, at, round(value * 1000))
    view = uplink.parse_tcp_info(bytes(info), congestion)
    assert view is not None
    assert view.full(round(idle_ms * 1e6)) is full
    assert uplink.parse_tcp_info(bytes(info[:160])) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's")
async def test_a_live_connection_tells_its_shortest_round_trip(ends: Ends) -> None:
    caller, server = ends
    await caller.write(b"x" * 1000)
    await read_exactly(server, 1000)
    seen = uplink.look(caller.socket)
    assert seen is not None
    assert 0 < seen.min_rtt_ns < 1_000_000_000


async def test_a_transfer_over_loopback_stays_within_its_bytes(ends: Ends) -> None:
    caller, server = ends
    receiving = asyncio.ensure_future(uplink.receive(server, 1 << 20, time.monotonic_ns))
    transfer = await uplink.send(caller, 1 << 20, 10.0, 0, time.monotonic_ns)
    await receiving
    assert transfer.sent_bytes <= 1 << 20
    assert transfer.mbps > 10.0
    assert transfer.ended in ("agreed", "budget")
    assert transfer.bound is (transfer.ended == "budget")


async def test_a_receiver_that_goes_silent_ends_with_the_deadline(ends: Ends) -> None:
    caller, _ = ends
    with pytest.raises(Unreachable, match="reported no rate"):
        await uplink.send(caller, 16 << 20, 0.1, 0, time.monotonic_ns)


async def test_what_was_not_sent_when_a_transfer_is_broken_off_is_never_sent(ends: Ends) -> None:
    """Else the rest of it would go over a line that is leased to somebody else by then."""
    caller, server = ends
    writing = asyncio.ensure_future(caller.write(bytes(16 << 20)))
    await read_exactly(server, 1000)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    caller.abort()
    with pytest.raises(Unreachable, match="reset"):
        await read_exactly(server, 16 << 20)
    caller.abort()  # of one that is closed


async def test_a_receiver_that_hangs_up_is_unreachable(ends: Ends) -> None:
    caller, server = ends
    server.close()
    with pytest.raises(PeerError):
        await uplink.send(caller, 16 << 20, 5.0, 0, time.monotonic_ns)


async def test_a_sender_that_exceeds_what_it_announced_is_cut_off(ends: Ends) -> None:
    caller, server = ends
    await caller.write(b"x" * 2000)
    with pytest.raises(Unreachable, match="sent 2000 bytes where 1000 were announced"):
        await uplink.receive(server, 1000, time.monotonic_ns)
