"""Estimate a path's rate from one train of UDP packets, by when they were sent and when they arrived. Pure.

A train that is sent faster than the path carries leaves the bottleneck back to back, so the slope of arrival time over
packets is the time of one packet there (packet-pair dispersion: Dovrolis, Ramanathan, Moore: "Packet-dispersion
techniques and a capacity-estimation methodology", 2004; the rate is RFC 9097's IP-layer capacity). Whatever else
happens on the way makes a packet later, so the line is fitted through the least delayed packet of each of some blocks.
Where packets keep their order the slowest holds back those behind it, and neighbouring blocks are late together: the
interval allows for that (first-order autocorrelation of the residuals). Packets that were lost do not count as carried
where the queue overflowed, and do where they were lost behind the bottleneck. A queue overflows when it is full: as
many as are lost while it is not may be lost behind it at any time, so they count half and widen the interval.

A shaper lets a burst through, and a train's head does not wait yet; so the beginning is left out, and more of it where
the rate before and after the middle of the rest differ. Where the sender was late, a bottleneck of the rate that was
found would have run empty: for how long is added to the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from swarm_protocol.units import BITS_PER_BYTE

MIN_PACKETS: Final = 48  # arrived; fewer show no line
COARSE_PACKETS: Final = 8  # fewer show nothing
HEADS: Final = (0.1, 0.2, 0.35, 0.5)  # shares of the train left out, the least that gives one rate for the rest
BLOCKS: Final = 16
MIN_BLOCKS: Final = 4
OTHER_BLOCKS: Final = (0.6, 0.8)  # times as many, to check the line with
BLOCK_PACKETS: Final = 4  # in the smallest block
NOT_FULL: Final = 0.5  # of the longest queue: packets lost at a shorter one did not overflow it
USUAL_LOSS: Final = 0.01  # of the packets, behind a bottleneck
USUAL_PACKETS: Final = 100  # that this counts as
FLOOR: Final = 0.002  # least relative half-width: stamps, clocks, headers of the link
SATURATED: Final = 0.95  # arrival over sending rate: above this we, or a shaper's burst, may have set the pace
AGREE: Final = 0.01  # halves that differ by no more show one rate, however sure each of them is
MIN_FREEDOM: Final = 2.0  # degrees of, below which Student's quantile is not approximated
PAUSE_NS: Final = 2_000_000  # between two packets, of a sender with more to send: another program had the processor
_NEVER: Final = math.inf


class Train(msgspec.Struct, frozen=True):
    """What both ends know of a train; ns of either end's own clock."""

    packet_bytes: int  # of the IP packet
    sent_ns: Sequence[int]  # by number
    arrivals: Sequence[tuple[int, int]]  # (number, ns), in any order, each number once
    dropped: int = 0  # by the receiver's own socket


class Rate(msgspec.Struct, frozen=True):
    """A rate at the IP layer. `half_width`: relative, of its 95 % interval."""

    mbps: float
    half_width: float
    sent_mbps: float  # of the same packets, as they left the sender
    packets: int  # that it is from
    arrived: int  # packets of the whole train
    least_mbps: float  # lower end: of the interval, or of the slowest part where they differ
    able_mbps: float = 0.0  # as they would have left the sender without its pauses

    @property
    def paused(self) -> bool:
        """Return whether the sender paused for more than half of the time, and the path may have run empty then."""
        return self.able_mbps > 2 * self.sent_mbps and self.mbps > self.sent_mbps / 2

    @property
    def saturated(self) -> bool:
        """Return whether packets arrived more slowly than they were sent, beyond doubt."""
        return self.mbps * (1 + self.half_width) < SATURATED * self.sent_mbps


class _Line(msgspec.Struct, frozen=True):
    slope: float  # ns a packet
    error: float  # standard error of it
    freedom: float  # degrees of; neighbours that are late together count less

    @property
    def doubt(self) -> float:
        """Return the relative half-width of the slope's 95 % interval."""
        return student_95(self.freedom) * self.error / self.slope if self.slope > 0 else _NEVER


def estimate(train: Train) -> Rate | None:
    """Return the rate at which the train arrived; None where too little of it did."""
    points = sorted(train.arrivals)
    if len(points) < MIN_PACKETS:
        return _coarse(train, points)
    at_ns = [ns - points[0][1] for _, ns in points]
    best: Rate | None = None
    for head in HEADS:
        begin = round(head * len(points))
        seqs = [seq for seq, _ in points[begin:]]
        whole = _fit(at_ns[begin:])
        if whole is None or whole.slope <= 0:
            continue
        halves = _halves(at_ns[begin:])
        rate = _rate(train, points, seqs, whole, _parts(at_ns[begin:], halves))
        if best is None or rate.half_width < best.half_width:
            best = rate
        if not _apart(*halves):
            return rate
    return best


def _coarse(train: Train, points: Sequence[tuple[int, int]]) -> Rate | None:
    """Return a rough rate without a reliable interval, where a short queue let few packets through."""
    if len(points) < COARSE_PACKETS:
        return None
    half = points[len(points) // 2 :] if len(points) >= 2 * COARSE_PACKETS else points
    took_ns = max(ns for _, ns in half) - min(ns for _, ns in half)
    bits = train.packet_bytes * BITS_PER_BYTE
    sent_ns = max(1, train.sent_ns[half[-1][0]] - train.sent_ns[half[0][0]])
    sent_mbps = bits * 1e3 * (half[-1][0] - half[0][0]) / sent_ns
    return Rate(
        bits * 1e3 * (len(half) - 1) / max(1, took_ns), _NEVER, sent_mbps, len(half), len(points), 0.0, sent_mbps
    )


def _rate(
    train: Train, points: Sequence[tuple[int, int]], seqs: Sequence[int], line: _Line, parts: Sequence[_Line]
) -> Rate:
    """`parts`: the two halves, and parts of them."""
    sent = seqs[-1] - seqs[0]
    lost = 1 - (len(seqs) - 1) / sent if sent else 0.0
    half_lost = min(lost, _lost_without_overflow(train.sent_ns, points, line.slope)) / 2
    apart = _apart(parts[0], parts[1])
    width = math.hypot(FLOOR, line.doubt) + half_lost + train.dropped / len(train.sent_ns) + apart
    width += _idle_share(train.sent_ns, seqs[0], seqs[-1], line.slope)
    bits = train.packet_bytes * BITS_PER_BYTE
    mbps = bits * 1e3 / line.slope * (1 + half_lost)
    least = mbps * max(0.0, 1 - width)
    for part in parts:
        of_part = bits * 1e3 / part.slope if part.slope > 0 else _NEVER
        if of_part * (1 + part.doubt) < least:  # beyond doubt
            least = of_part
    sent_mbps, able_mbps = _sending(train, seqs)
    return Rate(mbps, width, sent_mbps, len(seqs), len(points), least, able_mbps)


def _sending(train: Train, seqs: Sequence[int]) -> tuple[float, float]:
    """Return the rate at which these packets were sent, and without the sender's pauses.

    Lost packets count where both halves lost some: a queue that is full all the time loses packets all the time. One
    that only a burst before the paced rest overflowed does not show that the rest was faster than the path.
    """
    first, middle, last = seqs[0], seqs[len(seqs) // 2], seqs[-1]
    lost = ((middle - first) - len(seqs) // 2, (last - middle) - (len(seqs) - 1 - len(seqs) // 2))
    bits = train.packet_bytes * BITS_PER_BYTE * (len(seqs) - 1 + 2 * min(lost))
    took_ns = train.sent_ns[last] - train.sent_ns[first]
    paused_ns = sum(b - a for a, b in pairwise(train.sent_ns[first : last + 1]) if b - a >= PAUSE_NS)
    return bits * 1e3 / max(1, took_ns), bits * 1e3 / max(1, took_ns - paused_ns)


def _idle_share(sent_ns: Sequence[int], first: int, last: int, packet_ns: float) -> float:
    """Return for what share of the time between two packets a bottleneck of this rate had nothing to send, because the
    sender was late."""
    free_ns, idle_ns, began_ns = float(sent_ns[0]), 0.0, 0.0
    for number in range(last + 1):
        idle = max(0.0, sent_ns[number] - free_ns)
        if number == first:
            began_ns = free_ns + idle
        elif number > first:
            idle_ns += idle
        free_ns += idle + packet_ns
    return idle_ns / max(1.0, free_ns - began_ns)


def _lost_without_overflow(sent_ns: Sequence[int], points: Sequence[tuple[int, int]], packet_ns: float) -> float:
    """Return the share of packets that are lost while the queue, of a bottleneck of this rate, is not full, and its
    standard error, from them and the usual share (beta distribution), since they may be few."""
    arrived = {number for number, _ in points}
    free_ns, queued_ns = float(sent_ns[0]), []
    for number in range(points[-1][0] + 1):
        free_ns = max(free_ns, float(sent_ns[number]))
        queued_ns.append(free_ns - sent_ns[number])
        if number in arrived:
            free_ns += packet_ns
    short_ns = NOT_FULL * max(queued_ns)
    short = [number for number, ns in enumerate(queued_ns) if ns <= short_ns]
    lost = sum(number not in arrived for number in short)
    counted = len(short) + USUAL_PACKETS
    share = (lost + USUAL_LOSS * USUAL_PACKETS) / counted
    return share + math.sqrt(share * (1 - share) / counted)


def _halves(at_ns: Sequence[int]) -> tuple[_Line, _Line]:
    middle = len(at_ns) // 2
    # without the checks of `_fit`: wide halves would hide that a burst came first
    first, second = _line(at_ns[:middle]), _line(at_ns[middle:])
    none = _Line(0.0, 0.0, 1)
    return first or none, second or none


def _parts(at_ns: Sequence[int], halves: tuple[_Line, _Line]) -> list[_Line]:
    """Return both halves, the halves of the second one, and so on: where a shaper's burst ends late, the last packets
    alone show its rate."""
    parts = list(halves)
    while len(at_ns := at_ns[len(at_ns) // 2 :]) >= 2 * MIN_BLOCKS * BLOCK_PACKETS:
        parts += _halves(at_ns)
    return parts


def _apart(first: _Line, second: _Line) -> float:
    """Return by how much the rates of both halves differ, relative; 0 where chance explains it."""
    least = min(first.slope, second.slope)
    if least <= 0:
        return _NEVER
    apart = abs(first.slope - second.slope)
    chance = math.hypot(first.doubt * first.slope, second.doubt * second.slope)
    return 0.0 if apart <= chance or apart <= AGREE * least else apart / least


def _fit(at_ns: Sequence[int]) -> _Line | None:
    """Fit a line with an error that holds for heavy tails too; None where there are too few packets.

    Jitter with a heavy tail sometimes leaves the packets chosen near a wrong line. Other blocks choose others: the
    error is the largest of theirs, and no less than how far their lines are apart."""
    line = _line(at_ns)
    if line is None:
        return None
    others = [other for share in OTHER_BLOCKS if (other := _line(at_ns, share)) is not None]
    return msgspec.structs.replace(
        line, error=max([line.error, *(max(o.error, abs(o.slope - line.slope)) for o in others)])
    )


def _line(at_ns: Sequence[int], share: float = 1.0) -> _Line | None:
    """Fit a line through the least delayed packet of each block; None where there are too few packets. `share`: times
    the usual number of blocks."""
    count = len(at_ns)
    blocks = round(min(BLOCKS, count // BLOCK_PACKETS) * share)
    if blocks < MIN_BLOCKS:
        return None
    slope = (at_ns[-1] - at_ns[0]) / (count - 1)
    edges = [round(k * count / blocks) for k in range(blocks + 1)]
    chosen: list[int] = []
    for _ in range(2):
        chosen = [min(range(a, b), key=lambda i: at_ns[i] - slope * i) for a, b in pairwise(edges)]
        slope = _least_squares(chosen, [at_ns[i] for i in chosen])
    return _with_error(chosen, [at_ns[i] for i in chosen], slope)


def _least_squares(x: Sequence[float], y: Sequence[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def _with_error(x: Sequence[float], y: Sequence[float], slope: float) -> _Line:
    """Return the line with its standard error, which neighbours that are late together enlarge."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    off = [b - mean_y - slope * (a - mean_x) for a, b in zip(x, y, strict=True)]
    freedom = len(x) - 2
    squares = sum(e * e for e in off)
    spread = sum((a - mean_x) ** 2 for a in x)
    together = sum(a * b for a, b in pairwise(off)) / squares if squares else 0.0
    # residuals of a fit understate autocorrelation, by about the two parameters' share of them
    together = min(0.9, max(0.0, together + 2 / len(x)))
    larger = (1 + together) / (1 - together)
    return _Line(slope, math.sqrt(squares / freedom / spread * larger), max(MIN_FREEDOM, freedom / larger))


def student_95(freedom: float) -> float:
    """Return the two-sided 95 % quantile of Student's t, by Cornish and Fisher's expansion: within 3.5 % from 2 on."""
    z = 1.959964
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
