"""Measure how fast a path carries bytes: one bounded TCP transfer, watched from both ends.

The receiver reports each time its total has doubled: bytes, and how long the last half of them took (the first half is
slow start, and any burst that the path allows). The sender compares that with the kernel's own delivery rate
(TCP_INFO, Linux). Where the two agree, 2.5 bandwidth-delay products have been delivered and a queue stood before the
bottleneck, the path was full: a measurement, and the transfer ends early. Otherwise the rate is a lower bound, and
is marked so. Without the queue a window that stopped growing early passes for a slow path: cubic leaves slow start at
the first sign of delay, and 4 MiB over 93 ms at 100 Mbit/s then read 81, steadily.

A path with much in flight (100 Mbit/s over 160 ms is 2 MB) is never full within so few bytes. But slow start sends its
rounds twice as fast as the path carries them, so that each arrives as a train at the path's own rate, with silence
after it: where two large trains agree, and jitter is too small to compress them, their rate is a measurement too
(`packet_trains`).

    report   receiver → sender, 64 bytes: total, ns since the first byte, bytes of the last half, ns of the last half,
             then bytes and ns of two large trains
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from swarm_probe.measure.transfers import packet_trains
from swarm_probe.quantiles import median
from swarm_probe.streams.channel import Channel, PeerError, Unreachable, read_exactly
from swarm_protocol.units import BITS_PER_BYTE, NS_PER_S

FIRST_REPORT_BYTES: Final = 256 << 10
MAX_TRANSFER_BYTES: Final = 16 << 20
TRANSFER_S: Final = 60.0  # for all of it, at either end; the collector's lease is usually shorter
AGREE: Final = 0.05  # relative difference of the two rates; this much is the error of the result
HALF_NS: Final = 60_000_000  # the last half lasts at least this: a shorter one shows how the process was scheduled
FULL_BDPS: Final = 2.5  # delivered, in bandwidth-delay products: less may be one burst in flight
QUEUED: Final = 1.10  # smoothed over idle round trip: below this only the bursts of slow start waited
QUEUED_NS: Final = 1_000_000  # and at least this: on a LAN a tenth of the round trip is our own wake-up
QUEUED_PDVS: Final = 3  # and this many times the idle jitter: the slowest of a burst delays all behind it
PACED: Final = (b"bbr", b"bbr2", b"bbr3")  # these fill a path without a queue, and stop growing where the rate does
HALF_PDVS: Final = 20  # and this many times the idle jitter, which is in its beginning and in its end
HALF_WAY_LOOKS: Final = 15
LATEST_SHARE: Final = 0.25  # of the looks: those that count for the present rate and queue
MIN_LOOKS: Final = 3
LIMITED_SHARE: Final = 0.10  # of the time waiting for a window or for our own buffer: then the path was not full
CHUNK_BYTES: Final = 32 << 10
UNSENT_BYTES: Final = 256 << 10  # kept ready in the kernel; more would be sent after we decided to stop

TRAIN_PDV_NS: Final = 1_000_000  # idle jitter above which trains are too distorted
STARVED_SHARE: Final = 0.10  # of our checks with nothing left to send in the kernel: the train was as slow as we were

_T = TypeVar("_T")
_REPORT: Final = struct.Struct("!QQQQQQQQ")
_BUFFER_BYTES: Final = 64 << 10
# struct tcp_info, <linux/tcp.h>: the byte of flags, and offsets of what is read
_INFO_BYTES: Final = 192
_INFO_OPTIONS_AT: Final = 5
_INFO_FLAGS_AT: Final = 7
_INFO_UNACKED_AT: Final = 24
_INFO_RTT_AT: Final = 68
_INFO_RETRANSMITTED_AT: Final = 100
_INFO_U32: Final = struct.Struct("@I")
_INFO_NOTSENT_AT: Final = 144
_INFO_MIN_RTT_AT: Final = 148
_INFO_RATES: Final = struct.Struct("@QQQQ")  # delivery rate (bytes/s), busy, rwnd limited, sndbuf limited (µs)
_INFO_RATES_AT: Final = 160


class Report(msgspec.Struct, frozen=True):
    """The receiver's view so far."""

    total_bytes: int
    elapsed_ns: int
    half_bytes: int
    half_ns: int
    train_bytes: int = 0  # `packet_trains.largest_pair`
    train_ns: int = 0
    second_bytes: int = 0
    second_ns: int = 0

    @property
    def train_mbps(self) -> float | None:
        """Return the rate of the two trains, where they agree."""
        if min(self.train_ns, self.second_ns) < packet_trains.MIN_NS or not self.second_bytes:
            return None
        first, second = self.train_bytes / self.train_ns, self.second_bytes / self.second_ns
        if abs(first - second) > AGREE * min(first, second):
            return None
        return (self.train_bytes + self.second_bytes) * BITS_PER_BYTE * 1e3 / (self.train_ns + self.second_ns)

    @property
    def mbps(self) -> float | None:
        return self.least_mbps(0)

    def least_mbps(self, late_ns: int) -> float | None:
        """Return the rate of the last half, whose first packet may have come so much later than it had to."""
        took_ns = self.half_ns + late_ns
        return self.half_bytes * BITS_PER_BYTE * 1e3 / took_ns if self.half_ns and self.half_bytes else None


class KernelView(msgspec.Struct, frozen=True):
    """The sender's kernel's view at one moment."""

    delivery_mbps: float
    app_limited: bool
    min_rtt_ns: int
    rtt_ns: int  # smoothed, of now
    limited_share: float  # of the busy time, waiting for the receiver's window or for room in our buffer
    paced: bool = False  # its algorithm finds a path's rate without a queue before the bottleneck
    in_flight: int = 0  # packets on their way
    starved: bool = False  # nothing left to send: we, not the path, set the pace
    retransmitted: int = 0  # packets, since the connection began

    def full(self, idle_ns: int, pdv_ns: int = 0) -> bool:
        """Return whether packets wait before the bottleneck, compared with the idle path (`idle_ns`, with jitter).

        Retransmissions do not show it: random loss holds TCP below the path's rate, and bursts queue there too.
        """
        usual_ns = max(idle_ns, self.min_rtt_ns)
        queue_ns = max(QUEUED_NS, QUEUED_PDVS * pdv_ns, (QUEUED - 1) * usual_ns)
        return self.paced or self.rtt_ns - usual_ns >= queue_ns


class Transfer(msgspec.Struct, frozen=True):
    sent_bytes: int
    mbps: float
    bound: bool
    seconds: float
    ended: str  # agreed | trains | budget | deadline | broken


# ---------------------------------------------------------------- pure


class Arrivals(msgspec.Struct):
    """What the receiver saw, one entry a read."""

    at_ns: list[int] = msgspec.field(default_factory=list)
    totals: list[int] = msgspec.field(default_factory=list)

    def add(self, now_ns: int, size: int) -> int:
        # a packet sent again is read before those that came earlier and waited for it
        self.at_ns.append(max(now_ns, self.at_ns[-1]) if self.at_ns else now_ns)
        self.totals.append((self.totals[-1] if self.totals else 0) + size)
        return self.totals[-1]

    def report(self) -> Report:
        if not self.totals:
            return Report(0, 0, 0, 0)
        total = self.totals[-1]
        half = bisect_left(self.totals, total / 2)
        (first, first_ns), (second, second_ns) = packet_trains.largest_pair(self.at_ns, self.totals)
        return Report(
            total,
            self.at_ns[-1] - self.at_ns[0],
            total - self.totals[half],
            self.at_ns[-1] - self.at_ns[half],
            first,
            first_ns,
            second,
            second_ns,
        )


class Judge(msgspec.Struct):
    """Decides when a transfer has shown the path's rate. `rtt_ns`: of the idle path; 0 if it is not known.

    `pdv_ns`: the idle path's jitter; None if it is not known, and trains are then ignored.
    """

    rtt_ns: int
    pdv_ns: int | None = None
    views: list[KernelView] = msgspec.field(default_factory=list)
    reports: list[Report] = msgspec.field(default_factory=list)
    agreed: float | None = None

    def add(self, report: Report) -> None:
        """Take a report; where the two ends agree on the latest one, `agreed` is its rate."""
        before = self.reports[-1].mbps if self.reports else None
        self.reports.append(report)
        rate = report.mbps
        if rate is None or report.half_ns < max(HALF_NS, HALF_PDVS * (self.pdv_ns or 0)):
            return
        other = before
        rtt_ns = self.rtt_ns
        if self.views:
            # a single late answer is no queue
            view = msgspec.structs.replace(self.views[-1], rtt_ns=int(median(v.rtt_ns for v in _latest(self.views))))
            if view.limited_share > LIMITED_SHARE or not view.full(
                max(self.rtt_ns, self.rtt_half_way_ns()), self.pdv_ns or 0
            ):
                return
            # packets that arrive in bursts faster than on average leave the path idle in between. Where some were lost
            # TCP may be held far below the path's rate, with a queue in each of its bursts: then a burst has to show
            # that it is not
            burst = report.train_bytes * BITS_PER_BYTE * 1e3 / report.train_ns if report.train_ns else 0.0
            if rate < (1 - AGREE) * max(self.fastest_mbps(), burst) or (view.retransmitted and not burst):
                return
            rtt_ns = view.min_rtt_ns or rtt_ns
            other = self.delivery_mbps()
        bdp_bytes = rate * 1e6 / BITS_PER_BYTE * rtt_ns / NS_PER_S
        if other is None or report.total_bytes < FULL_BDPS * bdp_bytes:
            return
        if abs(rate - other) <= AGREE * other:
            self.agreed = rate

    def rtt_half_way_ns(self) -> int:
        """Return the round trip while half as much was in flight as now; 0 if it was not seen.

        Where packets keep their order the slowest of a burst delays the others, so a jittery path answers later the
        more it carries, long before it is full. A queue of its own shows in the difference to this.
        """
        most = self.views[-1].in_flight / 2
        seen = [view.rtt_ns for view in self.views if 0 < view.in_flight <= most]
        return int(median(seen[-HALF_WAY_LOOKS:])) if len(seen) >= MIN_LOOKS else 0

    def train_mbps(self) -> float | None:
        """Return the rate of slow start's trains, for a path that was not filled; None if they do not show one."""
        if self.pdv_ns is None or self.pdv_ns > TRAIN_PDV_NS or not self.reports or not self.views:
            return None
        if sum(view.starved for view in self.views) > STARVED_SHARE * len(self.views):
            return None
        rate, bound = self.reports[-1].train_mbps, self.bound_mbps() or 0.0
        return rate if rate is not None and rate >= (1 - AGREE) * bound else None

    def delivery_mbps(self) -> float | None:
        """Return the kernel's recent rate: the median over the latest of the checks that were not app-limited."""
        looks = [view.delivery_mbps for view in self.views if not view.app_limited and view.delivery_mbps > 0]
        return median(_latest(looks)) if len(looks) >= MIN_LOOKS else None

    def fastest_mbps(self) -> float:
        """Return the fastest that the kernel saw more than once or twice: a full path never was faster than it is.

        Random loss holds TCP at a rate that both ends agree on, once slow start, which was faster, is over. Round trips
        do not always tell: answers to the few packets in flight are delayed on purpose, by up to 40 ms.
        """
        seen = sorted((view.delivery_mbps for view in self.views), reverse=True)
        return seen[MIN_LOOKS - 1] if len(seen) >= MIN_LOOKS else 0.0

    def bound_mbps(self) -> float | None:
        """Return the lower bound: the lower of what the two ends saw last, since the receiver may report anything."""
        late_ns = QUEUED_PDVS * (self.pdv_ns or 0)
        rates = [rate for report in self.reports if (rate := report.least_mbps(late_ns)) is not None]
        if not rates:
            return None
        own = [view.delivery_mbps for view in self.views if view.delivery_mbps > 0]
        # bytes behind a lost packet arrive at once with it: the half that it falls into reads too fast
        seen = min(rates[-1], max(rates[:-1], default=rates[-1]))
        return min(seen, max(own)) if own else seen


def _latest(looks: Sequence[_T]) -> Sequence[_T]:
    return looks[-max(MIN_LOOKS, int(LATEST_SHARE * len(looks))) :]


def parse_tcp_info(info: bytes, congestion: bytes = b"") -> KernelView | None:
    """Parse; None if the kernel is too old to report a delivery rate (before 4.9). `congestion`: the sender's
    algorithm."""
    if len(info) < _INFO_RATES_AT + _INFO_RATES.size:
        return None
    rate, busy_us, window_us, buffer_us = _INFO_RATES.unpack_from(info, _INFO_RATES_AT)
    (min_rtt_us,) = _INFO_U32.unpack_from(info, _INFO_MIN_RTT_AT)
    (not_sent,) = _INFO_U32.unpack_from(info, _INFO_NOTSENT_AT)
    (in_flight,) = _INFO_U32.unpack_from(info, _INFO_UNACKED_AT)
    (retransmitted,) = _INFO_U32.unpack_from(info, _INFO_RETRANSMITTED_AT)
    (rtt_us,) = _INFO_U32.unpack_from(info, _INFO_RTT_AT)
    flag = 1 if sys.byteorder == "little" else 0x80  # C lays bit fields out from the other end there
    return KernelView(
        delivery_mbps=rate * BITS_PER_BYTE / 1e6,
        app_limited=bool(info[_INFO_FLAGS_AT] & flag),
        min_rtt_ns=min_rtt_us * 1000 if min_rtt_us != 0xFFFFFFFF else 0,
        rtt_ns=rtt_us * 1000,
        limited_share=(window_us + buffer_us) / busy_us if busy_us else 0.0,
        paced=congestion in PACED,
        in_flight=in_flight,
        starved=not_sent == 0,
        retransmitted=retransmitted,
    )


def segment_bytes(connected: socket.socket) -> tuple[int, int]:
    """Return the payload of the connection's largest segments, and its options in each (12 with timestamps)."""
    timestamps = True
    if sys.platform.startswith("linux"):
        timestamps = bool(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)[_INFO_OPTIONS_AT] & 1)
    return connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), 12 if timestamps else 0


def look(connected: socket.socket) -> KernelView | None:
    """Return the kernel's view of the connection; None if it reports nothing useful (not Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    congestion = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
    return parse_tcp_info(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES), congestion)


# ---------------------------------------------------------------- the two ends


async def send(
    stream: Channel,
    max_bytes: int,
    seconds: float,
    rtt_ns: int,
    mono_ns: Callable[[], int],
    pdv_ns: int | None = None,
) -> Transfer:
    """Run the transfer. Raises PeerError if nothing can be said about the rate."""
    if stream.kernel is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        stream.kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    judge = Judge(rtt_ns, pdv_ns)
    began_ns = mono_ns()
    sent_bytes = 0
    ended = "budget"
    payload = memoryview(os.urandom(CHUNK_BYTES))  # nothing on the way may compress it
    reading = asyncio.ensure_future(_read_reports(stream, judge))
    try:
        async with asyncio.timeout(min(seconds, TRANSFER_S)):
            while sent_bytes < max_bytes and judge.agreed is None and not reading.done():
                await stream.write(payload[: max_bytes - sent_bytes])
                sent_bytes += min(CHUNK_BYTES, max_bytes - sent_bytes)
                if stream.kernel is not None and (view := look(stream.kernel)) is not None:
                    judge.views.append(view)
                await asyncio.sleep(0)  # a fast path never makes us wait, and the reports must be read
            ended = "agreed" if judge.agreed is not None else "budget"
            stream.finish_writing()
            await reading
    except TimeoutError:
        ended = "deadline"
    except PeerError:
        if not judge.reports:
            raise
        ended = "broken"
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    elapsed_s = (mono_ns() - began_ns) / NS_PER_S
    if judge.agreed is None and (trains := judge.train_mbps()) is not None:
        judge.agreed, ended = trains, "trains"
    rate = judge.agreed if judge.agreed is not None else judge.bound_mbps()
    if rate is None:
        raise Unreachable(f"the peer reported no rate for {sent_bytes} bytes within {elapsed_s:.1f} s")
    return Transfer(sent_bytes, rate, judge.agreed is None, elapsed_s, ended)


async def _read_reports(stream: Channel, judge: Judge) -> None:
    buffer = memoryview(bytearray(_REPORT.size))
    while True:
        got = await stream.read_into(buffer)
        if got == 0:
            return
        rest = await read_exactly(stream, _REPORT.size - got)
        judge.add(Report(*_REPORT.unpack(bytes(buffer[:got]) + rest)))


async def receive(stream: Channel, max_bytes: int, mono_ns: Callable[[], int]) -> None:
    """Receive the transfer. Raises PeerError or TimeoutError if the sender breaks off."""
    arrivals = Arrivals()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    due_bytes = FIRST_REPORT_BYTES
    stream.stamp_arrivals()
    async with asyncio.timeout(TRANSFER_S):
        while True:
            got, waited_ns = await stream.read_stamped(buffer)
            if got == 0:
                break
            total = arrivals.add(mono_ns() - waited_ns, got)
            if total > max_bytes:
                raise Unreachable(f"the peer sent {total} bytes where {max_bytes} were announced")
            if total >= due_bytes:
                due_bytes *= 2
                await stream.write(_REPORT.pack(*msgspec.structs.astuple(arrivals.report())))
        await stream.write(_REPORT.pack(*msgspec.structs.astuple(arrivals.report())))
        stream.finish_writing()
