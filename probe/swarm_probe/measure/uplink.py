"""Measure how fast a path carries bytes: one bounded TCP transfer, watched from both ends.

The receiver reports each time its total has doubled: bytes, and how long the last half of them took (the first half is
slow start, and whatever burst the path allows). The sender holds that against the kernel's own delivery rate
(TCP_INFO, Linux). Where the two agree, 2.5 bandwidth-delay products have been delivered and a queue stood before the
bottleneck, the path was full: a measurement, and the transfer ends early. Otherwise the rate is a lower bound, and
says so. Without the queue a window that stopped growing early passes for a slow line: cubic leaves slow start at the
first sign of delay, and 4 MiB over 93 ms at 100 Mbit/s then read 81, steadily.

A path of many bits (100 Mbit/s over 160 ms is 2 MB) is never full within so few bytes. But slow start sends its rounds
twice as fast as the path carries them, so that each arrives as a train at the path's own rate, with silence after it:
where the two largest trains agree, and jitter is too small to squeeze them, their rate is a measurement as well.

    report   receiver → sender, 64 bytes: total, ns since the first byte, bytes of the last half, ns of the last half,
             then bytes and ns of the largest and the second largest train
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from statistics import median
from typing import Final

from swarm_probe.streams.channel import Channel, PeerError, Unreachable, read_exactly
from swarm_protocol.units import BITS_PER_BYTE, NS_PER_S

FIRST_REPORT_BYTES: Final = 256 << 10
MAX_TRANSFER_BYTES: Final = 16 << 20
TRANSFER_S: Final = 60.0  # for all of it, at either end; the collector's lease is usually shorter
AGREE: Final = 0.05  # relative difference of the two rates; what is let through here is the error of the result
HALF_NS: Final = 60_000_000  # the last half lasts at least this: a shorter one shows how the process was scheduled
FULL_BDPS: Final = 2.5  # delivered, in bandwidth-delay products: less may be one burst in flight
QUEUED: Final = 1.10  # smoothed over idle round trip: below this nothing waited but the bursts of slow start
QUEUED_NS: Final = 1_000_000  # and at least this: on a LAN a tenth of the round trip is our own wake-up
QUEUED_PDVS: Final = 3  # and this many times the idle jitter: the slowest of a burst holds up all behind it
PACED: Final = (b"bbr", b"bbr2", b"bbr3")  # fill a path without a queue, and stop growing where the rate does
HALF_WAY_LOOKS: Final = 15
LIMITED_SHARE: Final = 0.10  # of the time waiting for a window or for our own buffer: then the path was not full
CHUNK_BYTES: Final = 32 << 10
UNSENT_BYTES: Final = 256 << 10  # kept ready in the kernel; more would be sent after we decided to stop

TRAIN_GAP_NS: Final = 4_000_000  # silence that ends a train: far above what scheduling adds to kernel stamps
TRAIN_BYTES: Final = 160 << 10  # smaller ones show what the sender's and the receiver's machine do between packets
TRAIN_NS: Final = 6_000_000
TRAIN_HEAD: Final = 0.2  # share left out: the first packets wait for nobody
TRAIN_PDV_NS: Final = 1_000_000  # idle jitter above which trains are squeezed and stretched too much
STARVED_SHARE: Final = 0.10  # of our looks at a kernel with nothing left to send: the train was as slow as we were

_REPORT: Final = struct.Struct("!QQQQQQQQ")
_BUFFER_BYTES: Final = 64 << 10
# struct tcp_info, <linux/tcp.h>: the byte of flags, and offsets of what is read
_INFO_BYTES: Final = 192
_INFO_FLAGS_AT: Final = 7
_INFO_UNACKED_AT: Final = 24
_INFO_RTT_AT: Final = 68
_INFO_U32: Final = struct.Struct("@I")
_INFO_NOTSENT_AT: Final = 144
_INFO_MIN_RTT_AT: Final = 148
_INFO_RATES: Final = struct.Struct("@QQQQ")  # delivery rate (bytes/s), busy, rwnd limited, sndbuf limited (µs)
_INFO_RATES_AT: Final = 160


@dataclass(frozen=True, slots=True)
class Report:
    """The receiver's view so far."""

    total_bytes: int
    elapsed_ns: int
    half_bytes: int
    half_ns: int
    train_bytes: int = 0  # largest
    train_ns: int = 0
    second_bytes: int = 0
    second_ns: int = 0

    @property
    def train_mbps(self) -> float | None:
        """Of the two largest trains, where they agree."""
        if min(self.train_ns, self.second_ns) < TRAIN_NS * (1 - TRAIN_HEAD) or not self.second_bytes:
            return None
        first, second = self.train_bytes / self.train_ns, self.second_bytes / self.second_ns
        if abs(first - second) > AGREE * min(first, second):
            return None
        return (self.train_bytes + self.second_bytes) * BITS_PER_BYTE * 1e3 / (self.train_ns + self.second_ns)

    @property
    def mbps(self) -> float | None:
        return self.half_bytes * BITS_PER_BYTE * 1e3 / self.half_ns if self.half_ns and self.half_bytes else None


@dataclass(frozen=True, slots=True)
class KernelView:
    """The sender's kernel's view at one moment."""

    delivery_mbps: float
    app_limited: bool
    min_rtt_ns: int
    rtt_ns: int  # smoothed, of now
    limited_share: float  # of the busy time, waiting for the receiver's window or for room in our buffer
    paced: bool = False  # its algorithm knows a path's rate without a queue before the bottleneck
    in_flight: int = 0  # packets on their way
    starved: bool = False  # nothing left to send: we, not the path, set the pace

    def full(self, idle_ns: int, pdv_ns: int = 0) -> bool:
        """Packets wait before the bottleneck, against what the path takes with little on it (`idle_ns`, with jitter).

        Retransmissions are no sign of it: random loss holds TCP below what the line carries.
        """
        usual_ns = max(idle_ns, self.min_rtt_ns)
        queue_ns = max(QUEUED_NS, QUEUED_PDVS * pdv_ns, (QUEUED - 1) * usual_ns)
        return self.paced or self.rtt_ns - usual_ns >= queue_ns


@dataclass(frozen=True, slots=True)
class Transfer:
    sent_bytes: int
    mbps: float
    bound: bool
    seconds: float
    ended: str  # agreed | trains | budget | deadline | broken


# ---------------------------------------------------------------- pure


@dataclass(slots=True)
class Arrivals:
    """What the receiver saw, one entry a read."""

    at_ns: list[int] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)

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
        (first, first_ns), (second, second_ns) = self._trains()
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

    def _trains(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(bytes, ns) of the two largest trains without their heads; zeros where there are none."""
        starts = [0, *(i for i in range(1, len(self.at_ns)) if self.at_ns[i] - self.at_ns[i - 1] >= TRAIN_GAP_NS)]
        found = [(0, 0), (0, 0)]
        for begin, end in zip(starts, [*starts[1:], len(self.at_ns)], strict=True):
            carried = self.totals[end - 1] - (self.totals[begin - 1] if begin else 0)
            if carried >= TRAIN_BYTES:
                head = bisect_left(self.totals, self.totals[end - 1] - (1 - TRAIN_HEAD) * carried)
                found.append((self.totals[end - 1] - self.totals[head], self.at_ns[end - 1] - self.at_ns[head]))
        first, second = sorted(found, reverse=True)[:2]
        return first, second


@dataclass(slots=True)
class Judge:
    """Says when a transfer has shown the path's rate. `rtt_ns`: of the idle path; 0 where it is not known.

    `pdv_ns`: the idle path's jitter; None where it is not known, and trains are then not looked at.
    """

    rtt_ns: int
    pdv_ns: int | None = None
    views: list[KernelView] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    agreed: float | None = None

    def add(self, report: Report) -> None:
        """Takes a report; where the two ends agree on the latest one, `agreed` is its rate."""
        before = self.reports[-1].mbps if self.reports else None
        self.reports.append(report)
        rate = report.mbps
        if rate is None or report.half_ns < HALF_NS:
            return
        other = before
        rtt_ns = self.rtt_ns
        if self.views:
            view = self.views[-1]
            if view.limited_share > LIMITED_SHARE or not view.full(
                max(self.rtt_ns, self.rtt_half_way_ns()), self.pdv_ns or 0
            ):
                return
            rtt_ns = view.min_rtt_ns or rtt_ns
            other = self.delivery_mbps()
        bdp_bytes = rate * 1e6 / BITS_PER_BYTE * rtt_ns / NS_PER_S
        if other is None or report.total_bytes < FULL_BDPS * bdp_bytes:
            return
        if abs(rate - other) <= AGREE * other:
            self.agreed = rate

    def rtt_half_way_ns(self) -> int:
        """The round trip while half as much was in flight as now; 0 where it was not seen.

        Where packets keep their order the slowest of a burst holds up the others, so that a jittery path answers later
        the more it carries, long before it is full. A queue of its own shows in the difference to this.
        """
        most = self.views[-1].in_flight / 2
        seen = [view.rtt_ns for view in self.views if 0 < view.in_flight <= most]
        return int(median(seen[-HALF_WAY_LOOKS:])) if len(seen) >= 3 else 0

    def train_mbps(self) -> float | None:
        """The rate of slow start's trains, for a path that was not filled; None where they do not show one."""
        if self.pdv_ns is None or self.pdv_ns > TRAIN_PDV_NS or not self.reports or not self.views:
            return None
        if sum(view.starved for view in self.views) > STARVED_SHARE * len(self.views):
            return None
        rate, bound = self.reports[-1].train_mbps, self.bound_mbps() or 0.0
        return rate if rate is not None and rate >= (1 - AGREE) * bound else None

    def delivery_mbps(self) -> float | None:
        """The kernel's rate lately: the median over the last quarter of the looks at it that were not app-limited."""
        looks = [view.delivery_mbps for view in self.views if not view.app_limited and view.delivery_mbps > 0]
        return median(looks[-max(3, len(looks) // 4) :]) if len(looks) >= 3 else None

    def bound_mbps(self) -> float | None:
        """At least this: the lower of what the two ends saw last. The receiver alone is a stranger's word."""
        rates = [r.mbps for r in self.reports if r.mbps is not None]
        if not rates:
            return None
        own = [view.delivery_mbps for view in self.views if view.delivery_mbps > 0]
        # what a lost packet held back comes at once when it is there: the half that it falls into reads too fast
        seen = min(rates[-1], max(rates[:-1], default=rates[-1]))
        return min(seen, max(own)) if own else seen


def parse_tcp_info(info: bytes, congestion: bytes = b"") -> KernelView | None:
    """None where the kernel is too old to tell a delivery rate (before 4.9). `congestion`: the sender's algorithm."""
    if len(info) < _INFO_RATES_AT + _INFO_RATES.size:
        return None
    rate, busy_us, window_us, buffer_us = _INFO_RATES.unpack_from(info, _INFO_RATES_AT)
    (min_rtt_us,) = _INFO_U32.unpack_from(info, _INFO_MIN_RTT_AT)
    (not_sent,) = _INFO_U32.unpack_from(info, _INFO_NOTSENT_AT)
    (in_flight,) = _INFO_U32.unpack_from(info, _INFO_UNACKED_AT)
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
    )


def look(connected: socket.socket) -> KernelView | None:
    """What this machine's kernel says of the connection; None where it says nothing of use (not Linux)."""
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
    """Runs the transfer. Raises PeerError where nothing can be said about the rate."""
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
    """The other end. Raises PeerError or TimeoutError where the sender breaks off."""
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
                await stream.write(_REPORT.pack(*astuple(arrivals.report())))
        await stream.write(_REPORT.pack(*astuple(arrivals.report())))
        stream.finish_writing()
