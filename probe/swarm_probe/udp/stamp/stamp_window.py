"""Compute the figures of a STAMP session's windows: round trips, loss by direction, variation, reordering.

A window holds the packets *sent* in it and closes when each was answered and the reflector's follow-ups have come
(`follow_ups`), or when REPLY_WAIT_NS has passed since the last one. The follow-up of the last packet comes with the
answer to the next, so the wait for it is longer by the time between packets. A later reply counts as late, and its
packet as lost. RTT = (T4 − T1) − (T3 − T2); figures are never clamped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from swarm_probe.quantiles import quantile
from swarm_protocol.units import NS_PER_S

REPLY_WAIT_NS: Final = 4 * NS_PER_S  # two satellite hops and a second of bloated buffer on each side come to less


class PathReport(msgspec.Struct, frozen=True):
    """One window. Times are None if nothing (usable) came back; directions if the replies do not show them."""

    end_ns: int  # monotonic
    sent: int
    lost: int
    lost_out: int | None
    lost_back: int | None
    n: int  # round trips behind the figures below
    rtt_min_ns: int | None
    rtt_p50_ns: int | None
    rtt_p95_ns: int | None
    rtt_p99_ns: int | None
    pdv_ns: int | None  # p95 − min (RFC 5481)
    jitter_ns: float | None  # RFC 3550 §6.4.1, over round trips in order of arrival
    duplicates: int
    reordered: int  # RFC 4737: arrived after one that was sent later
    ipdv_ns: float | None  # mean |IPDV| of packets sent one after the other (RFC 3393)
    ttl_out: int | None  # as the newest answered request arrived there, and its answer here
    ttl_back: int | None
    kernel: bool
    loaded: bool
    settled: bool  # the peer has answered at the address in use, now or before
    host: int | None  # that address
    out_ns: int | None  # least T2 − T1 and T4 − T3, by the two clocks: their offset is in both
    back_ns: int | None


class SentPacket(msgspec.Struct):
    seq: int
    ntp: int
    at_ns: int
    host: int
    search: bool  # sent while no address was known to answer, or nothing had come back yet
    answered: bool = False
    awaits_follow_up: bool = False  # the reflector will send a more exact T3 with its next answer
    rtt_ns: int | None = None
    out_ns: int = 0  # beside a round trip
    back_ns: int = 0
    inside_ns: int = 0  # T3 − T2
    t3_ns: int = 0  # by the reflector's clock
    reflector_seq: int = -1
    kernel: bool = False
    ttl_out: int = 0
    ttl_back: int = 0

    def correct(self, t3_ns: int) -> None:
        """Take T3 as the reflector's kernel saw it; not where that makes no sense, because a clock was set."""
        self.awaits_follow_up = False
        later_ns = t3_ns - self.t3_ns
        if self.rtt_ns is None or not -self.inside_ns <= later_ns <= self.rtt_ns:
            return
        self.t3_ns, self.inside_ns = t3_ns, self.inside_ns + later_ns
        self.rtt_ns -= later_ns
        self.back_ns -= later_ns


class Window(msgspec.Struct):
    end_ns: int
    loaded: bool
    follow_up_wait_ns: int = 0  # beyond that for an answer, while a follow-up is awaited
    packets: list[SentPacket] = msgspec.field(default_factory=list)
    arrived: list[SentPacket] = msgspec.field(default_factory=list)  # in order of arrival
    duplicates: int = 0
    reordered: int = 0

    def ready(self, now_ns: int) -> bool:
        complete = len(self.arrived) == len(self.packets) and not self._awaits_follow_up
        return complete or now_ns >= self.deadline_ns

    @property
    def deadline_ns(self) -> int:
        return self.packets[-1].at_ns + REPLY_WAIT_NS + (self.follow_up_wait_ns if self._awaits_follow_up else 0)

    @property
    def _awaits_follow_up(self) -> bool:
        return any(p.awaits_follow_up for p in self.arrived)


class WindowReports:
    def __init__(self) -> None:
        self._anchor: tuple[int, int] | None = None  # (seq, reflector's seq) of the last answer before this window
        self._before: list[tuple[int, int]] = []  # the same of all answers of the window before
        self._jitter_ns: float | None = None
        self._last_rtt_ns: int | None = None

    def report(self, window: Window, later: Sequence[Window], host: int | None) -> PathReport:
        """Return the report. `later`: the windows after it, oldest first. `host`: the address that answers, if
        known."""
        hosts = {p.host for p in window.arrived}
        # what was sent to find out which address answers, before a NAT let it in, or before the peer had its plan, was
        # not lost on the path
        first = min((p.seq for p in window.arrived), default=0)
        counted = [p for p in window.packets if not p.search or not hosts or (p.host in hosts and p.seq >= first)]
        lost = sum(not p.answered for p in counted)
        out, back = self._directions(window, later, lost) if len(counted) == len(window.packets) else (None, None)
        last = max(window.arrived, key=lambda p: p.seq) if window.arrived else None
        if last is not None:
            self._anchor = (last.seq, last.reflector_seq)
            self._before = [(p.seq, p.reflector_seq) for p in window.arrived]
        in_order = [p.rtt_ns for p in window.arrived if p.rtt_ns is not None]
        jitter_ns = self._jitter(in_order)
        rtts = sorted(in_order)
        timed = [p for p in window.arrived if p.rtt_ns is not None]
        p95 = quantile(rtts, 0.95) if rtts else None
        return PathReport(
            end_ns=window.end_ns,
            sent=len(counted),
            lost=lost,
            lost_out=out,
            lost_back=back,
            n=len(rtts),
            rtt_min_ns=rtts[0] if rtts else None,
            rtt_p50_ns=quantile(rtts, 0.50) if rtts else None,
            rtt_p95_ns=p95,
            rtt_p99_ns=quantile(rtts, 0.99) if rtts else None,
            pdv_ns=p95 - rtts[0] if p95 is not None else None,
            jitter_ns=jitter_ns if rtts else None,
            duplicates=window.duplicates,
            reordered=window.reordered,
            ipdv_ns=_ipdv(window.packets),
            ttl_out=last.ttl_out or None if last is not None else None,
            ttl_back=last.ttl_back or None if last is not None else None,
            kernel=bool(rtts) and all(p.kernel for p in window.arrived),
            loaded=window.loaded,
            settled=last is not None or host is not None,
            host=last.host if last is not None else host,
            out_ns=min((p.out_ns for p in timed), default=None),
            back_ns=min((p.back_ns for p in timed), default=None),
        )

    def _jitter(self, in_order: list[int]) -> float | None:
        """Return RFC 3550's running estimate, which continues over windows; None before the second round trip."""
        for rtt in in_order:
            if self._last_rtt_ns is not None:
                difference = abs(rtt - self._last_rtt_ns)
                before = self._jitter_ns or 0.0
                self._jitter_ns = before + (difference - before) / 16
            self._last_rtt_ns = rtt
        return self._jitter_ns

    def _directions(self, window: Window, later: Sequence[Window], lost: int) -> tuple[int | None, int | None]:
        """Return (lost on the way out, on the way back), from the reflector's own sequence numbers.

        It needs an answer on either side of the losses. Where losses of a neighbouring window lie in between and both
        directions lost, or where a lost packet may have overtaken one of these answers, they cannot be distinguished:
        (None, None).
        """
        if lost == 0:
            return 0, 0
        first, final = window.packets[0], window.packets[-1]
        begin = (first.seq, first.reflector_seq) if first.answered else self._anchor
        if begin is None:
            return None, None
        end = final if final.answered else _first_answer_after(later, final.seq)
        if end is None:
            return None, None
        around = [p for w in (window, *later) for p in w.packets]
        answers = [*self._before, *((p.seq, p.reflector_seq) for p in around if p.answered)]
        overtaken = _most_overtaken(answers)
        unanswered = (p.seq for p in around if not p.answered)
        if overtaken and any(min(abs(seq - begin[0]), abs(seq - end.seq)) <= overtaken for seq in unanswered):
            return None, None
        sent_between = end.seq - begin[0]
        # of those that overtook an end, or that it overtook, the numbers say the opposite of what was sent in between
        arrived = end.reflector_seq - begin[1]
        arrived += sum(begin[0] < seq <= end.seq for seq, _ in answers)
        arrived -= sum(begin[1] < number <= end.reflector_seq for _, number in answers)
        answered = sum(begin[0] < p.seq <= end.seq for p in around if p.answered)
        lost_out, lost_back = sent_between - arrived, arrived - answered
        if lost_out < 0 or lost_back < 0:  # the reflector restarted
            return None, None
        if lost_out + lost_back == lost:
            return lost_out, lost_back
        if lost_back == 0:
            return lost, 0
        return (0, lost) if lost_out == 0 else (None, None)


def _most_overtaken(answers: Iterable[tuple[int, int]]) -> int:
    """Return how much later the packets were sent that overtook others on the way there, in packets, at most.

    `answers`: (seq, reflector's seq). An unanswered packet has no number of the reflector, and may have overtaken too.
    """
    most, highest = 0, -1
    for seq, _ in sorted(answers, key=lambda answer: answer[1]):
        most, highest = max(most, highest - seq), max(highest, seq)
    return most


def _first_answer_after(windows: Sequence[Window], seq: int) -> SentPacket | None:
    return next((p for window in windows for p in window.packets if p.answered and p.seq > seq), None)


def _ipdv(packets: list[SentPacket]) -> float | None:
    """Average over neighbours in the order of sending, as RFC 3393 selects them; a loss in between makes no pair."""
    pairs = [
        abs(after.rtt_ns - before.rtt_ns)
        for before, after in pairwise(packets)
        if before.rtt_ns is not None and after.rtt_ns is not None
    ]
    return sum(pairs) / len(pairs) if pairs else None
