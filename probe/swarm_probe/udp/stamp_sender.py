"""The sender's half of a STAMP session (RFC 8762): what to send to one peer and when, and what its replies mean.

Packets are `swarm_protocol.packets.stamp_packet`, the answering half is `stamp_reflector`, the socket is
`udp_socket`. No clock and no randomness of its own: every entry takes `now_ns`, a monotonic clock, so that a step of
the wall clock never becomes a round trip.

RTT = (T4 − T1) − (T3 − T2); figures are never clamped. A window holds the packets *sent* in it and closes when each was
answered, or when REPLY_WAIT_NS has passed since the last one. What comes later is counted as late, and as lost before.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from swarm_probe.quantiles import quantile
from swarm_protocol.packets import stamp_packet
from swarm_protocol.units import NS_PER_S

REPLY_WAIT_NS: Final = 4 * NS_PER_S  # two satellite hops and a second of bloated buffer on each side come to less
MAX_IN_FLIGHT: Final = 1024  # bounds memory, whatever interval is asked for
PHASE_SPREAD: Final = 0.5  # share of the interval over which a send time varies: no locking onto periodic traffic
GONE: Final = -1  # the number of an address that is no longer the peer's
SEARCH_AFTER: Final = 5  # lost in a row before the peer's other addresses are tried again
KERNEL_ERROR_NS: Final = 1_000_000  # a peer whose error estimate is below this stamps arrivals in its kernel

IgnoredReason = Literal[stamp_packet.Reason, "unknown", "echo", "duplicate", "late", "clock"]


@dataclass(frozen=True, slots=True)
class SessionConfig:
    key: bytes | None  # None: unauthenticated
    ssid: int
    interval_ns: int  # mean time between packets
    window_ns: int
    hosts: int = 1  # addresses of the peer, referred to by index
    search: bool = False  # none of them is known to be reachable: what is sent before an answer says nothing of a path
    error: int = 1  # our error estimate, as on the wire


@dataclass(frozen=True, slots=True)
class Outgoing:
    seq: int
    host: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RoundTrip:
    seq: int
    host: int
    rtt_ns: int
    kernel: bool  # both ends took the arrival's time in the kernel


@dataclass(frozen=True, slots=True)
class Ignored:
    reason: IgnoredReason


@dataclass(frozen=True, slots=True)
class PathReport:
    """One window. Times are None where nothing (usable) came back; directions where the replies do not tell."""

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


@dataclass(slots=True)
class _Sent:
    seq: int
    ntp: int
    at_ns: int
    host: int
    search: bool  # sent while no address was known to answer
    answered: bool = False
    rtt_ns: int | None = None
    reflector_seq: int = -1
    kernel: bool = False
    ttl_out: int = 0
    ttl_back: int = 0


@dataclass(slots=True)
class _Window:
    end_ns: int
    loaded: bool
    packets: list[_Sent] = field(default_factory=list)
    arrived: list[_Sent] = field(default_factory=list)  # in order of arrival
    duplicates: int = 0
    reordered: int = 0

    def ready(self, now_ns: int) -> bool:
        return len(self.arrived) == len(self.packets) or now_ns >= self.deadline_ns

    @property
    def deadline_ns(self) -> int:
        return self.packets[-1].at_ns + REPLY_WAIT_NS


def rtt_ns(t1: int, t2: int, t3: int, t4: int) -> int | None:
    """The round trip without the reflector's own time. None if a clock was set meanwhile and it makes no sense."""
    inside = t3 - t2
    trip = (t4 - t1) - inside
    return trip if inside >= 0 and trip >= 0 else None


def _ipdv(packets: list[_Sent]) -> float | None:
    """Over neighbours in the order of sending, as RFC 3393 selects them; a loss in between makes no pair."""
    pairs = [
        abs(after.rtt_ns - before.rtt_ns)
        for before, after in pairwise(packets)
        if before.rtt_ns is not None and after.rtt_ns is not None
    ]
    return sum(pairs) / len(pairs) if pairs else None


class StampSession:
    def __init__(self, config: SessionConfig, rng: random.Random, now_ns: int) -> None:
        self._config = config
        self._rng = rng
        self._planned_ns = config.interval_ns
        self._window_ns = config.window_ns
        self._interval_ns = config.interval_ns
        self._slot_ns = now_ns + int(rng.random() * config.interval_ns)  # sessions of one plan do not start together
        self._send_ns = self._slot_ns
        self._seq = 0
        self._packets: dict[int, _Sent] = {}  # by seq, oldest first; forgotten after REPLY_WAIT_NS
        self._window = _Window(now_ns + config.window_ns, False)
        self._closing: deque[_Window] = deque()
        self._loaded = False
        self._highest_answered = -1
        self._anchor: tuple[int, int] | None = (
            None  # (seq, reflector's seq) of the last answer before the oldest window
        )
        self._jitter_ns: float | None = None
        self._last_rtt_ns: int | None = None
        self._hosts = config.hosts
        self._search = config.search
        self._host: int | None = None if config.hosts > 1 or config.search else 0
        self._answers = 0
        self._search_next = 0
        self._lost_in_row = 0

    # ------------------------------------------------------------ sending

    def next_due_ns(self) -> int:
        """When `poll` or `reports` next have something to do."""
        due = min(self._send_ns, self._window.end_ns)
        return min(due, self._closing[0].deadline_ns) if self._closing else due

    def poll(self, now_ns: int, wall_ns: int) -> Outgoing | None:
        """The packet due now, if any. Slots that were slept through are left out, never made up for."""
        self._forget(now_ns)
        if now_ns < self._send_ns:
            return None
        self._roll(now_ns)
        self._next_slot(now_ns)
        if len(self._packets) >= MAX_IN_FLIGHT:
            return None
        packet = _Sent(self._seq, stamp_packet.ntp_from_ns(wall_ns), now_ns, self._choose_host(), self._host is None)
        self._seq = (self._seq + 1) % stamp_packet.SEQ_LIMIT
        self._packets[packet.seq] = packet
        self._window.packets.append(packet)
        wire = stamp_packet.SenderPacket(packet.seq, packet.ntp, self._config.error, self._config.ssid)
        return Outgoing(packet.seq, packet.host, stamp_packet.encode_sender(wire, self._config.key))

    def sent(self, seq: int, at_ns: int) -> None:
        """The packet left at `at_ns`, which is later and truer than the `now_ns` it was made with."""
        if (packet := self._packets.get(seq)) is not None:
            packet.at_ns = at_ns

    def unsent(self, seq: int, *, unreachable: bool) -> None:
        """The latest packet never left this machine: neither sent nor lost. `unreachable`: its address is in doubt."""
        packet = self._packets.pop(seq)
        self._window.packets.remove(packet)
        self._seq = seq
        if unreachable:
            self._lost_in_row += 1

    def retime(self, interval_ns: int, window_ns: int, now_ns: int) -> None:
        """The plan's times changed: packets at once, windows from the next one."""
        paced = self._interval_ns != self._planned_ns
        self._planned_ns, self._window_ns = interval_ns, window_ns
        if not paced:
            self.pace(None, now_ns)

    def pace(self, interval_ns: int | None, now_ns: int) -> None:
        """Send every `interval_ns` from now on, for a while; None: as planned."""
        self._interval_ns = interval_ns or self._planned_ns
        self._slot_ns = now_ns
        self._send_ns = now_ns + self._phase()

    @property
    def host(self) -> int | None:
        """The address that answers; None: it is being looked for."""
        return self._host if self._answers else None

    def readdress(self, hosts: int, kept: Mapping[int, int], *, search: bool) -> None:
        """The peer's addresses are others now; `kept`: old number → new number of those that stay."""
        self._hosts, self._search, self._search_next, self._lost_in_row = hosts, search, 0, 0
        found = self.host
        self._host = None if hosts > 1 or search else 0
        if found is not None and found in kept:
            self._host = kept[found]
        open_packets = (p for window in (self._window, *self._closing) for p in window.packets)
        for packet in {id(p): p for p in (*open_packets, *self._packets.values())}.values():
            packet.host = kept.get(packet.host, GONE)

    def try_next(self, host: int) -> None:
        """While an address is looked for: this one first, something has just come from there."""
        if self._host is None:
            self._search_next = host

    def set_loaded(self, loaded: bool) -> None:
        """A transfer runs at this node, or no longer: every window it touches is marked."""
        self._loaded = loaded
        if loaded:
            for window in (self._window, *self._closing):
                window.loaded = True

    # ------------------------------------------------------------ receiving

    def receive(self, data: bytes, at_ns: int, *, kernel: bool, ttl: int = 0) -> RoundTrip | Ignored:
        """What a reply that arrived at `at_ns` means; `ttl` 0: not told. Anybody's bytes may come in here."""
        try:
            reply = stamp_packet.decode_reflected(data, self._config.key)
            peer_error_ns = stamp_packet.error_ns(reply.error)
        except stamp_packet.StampError as error:
            return Ignored(error.reason)
        packet = self._packets.get(reply.sender_seq)
        if packet is None:
            return Ignored("late" if reply.sender_seq < self._seq else "unknown")
        if reply.sender_ntp != packet.ntp or reply.ssid != self._config.ssid:
            return Ignored("echo")
        if at_ns - packet.at_ns > REPLY_WAIT_NS:
            return Ignored("late")
        if packet.answered:
            self._window.duplicates += 1
            return Ignored("duplicate")
        packet.answered = True
        packet.reflector_seq = reply.seq
        packet.ttl_out, packet.ttl_back = reply.sender_ttl, ttl
        packet.kernel = kernel and peer_error_ns <= KERNEL_ERROR_NS
        t2, t3 = (
            stamp_packet.time_ns(reply.received_ntp, reply.error),
            stamp_packet.time_ns(reply.sent_ntp, reply.error),
        )
        packet.rtt_ns = rtt_ns(packet.at_ns, t2, t3, at_ns)
        self._book(packet)
        if packet.rtt_ns is None:
            return Ignored("clock")
        return RoundTrip(packet.seq, packet.host, packet.rtt_ns, packet.kernel)

    def _book(self, packet: _Sent) -> None:
        self._answers += 1
        if self._host is None and packet.host >= 0:
            self._host = packet.host
        if packet.host == self._host:
            self._lost_in_row = 0
        for window in (self._window, *self._closing):
            if window.packets and window.packets[0].seq <= packet.seq <= window.packets[-1].seq:
                window.arrived.append(packet)
                if packet.seq < self._highest_answered:
                    window.reordered += 1
        self._highest_answered = max(self._highest_answered, packet.seq)

    # ------------------------------------------------------------ reporting

    def reports(self, now_ns: int) -> list[PathReport]:
        """The windows that are complete by now, oldest first; one in which nothing was sent is left out."""
        self._roll(now_ns)
        done: list[PathReport] = []
        while self._closing and self._closing[0].ready(now_ns):
            done.append(self._report(self._closing.popleft()))
        return done

    def _report(self, window: _Window) -> PathReport:
        hosts = {p.host for p in window.arrived}
        # what was sent to find out which address answers, or before a NAT let it in, is no loss of the path found
        first = min((p.seq for p in window.arrived), default=0)
        counted = [p for p in window.packets if not p.search or not hosts or (p.host in hosts and p.seq >= first)]
        lost = sum(not p.answered for p in counted)
        out, back = self._directions(window, lost) if len(counted) == len(window.packets) else (None, None)
        last = max(window.arrived, key=lambda p: p.seq) if window.arrived else None
        if last is not None:
            self._anchor = (last.seq, last.reflector_seq)
        in_order = [p.rtt_ns for p in window.arrived if p.rtt_ns is not None]
        jitter_ns = self._jitter(in_order)
        rtts = sorted(in_order)
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
            settled=last is not None or self.host is not None,
            host=last.host if last is not None else self.host,
        )

    def _jitter(self, in_order: list[int]) -> float | None:
        """RFC 3550's running estimate goes on from window to window; None before the second round trip."""
        for rtt in in_order:
            if self._last_rtt_ns is not None:
                difference = abs(rtt - self._last_rtt_ns)
                before = self._jitter_ns or 0.0
                self._jitter_ns = before + (difference - before) / 16
            self._last_rtt_ns = rtt
        return self._jitter_ns

    def _directions(self, window: _Window, lost: int) -> tuple[int | None, int | None]:
        """(lost on the way out, on the way back), from how far the reflector's own sequence went meanwhile.

        It needs an answer on either side of the losses. Where losses of a neighbouring window lie in between and both
        directions lost, they cannot be told apart: (None, None).
        """
        if lost == 0:
            return 0, 0
        first, final = window.packets[0], window.packets[-1]
        begin = (first.seq, first.reflector_seq) if first.answered else self._anchor
        if begin is None:
            return None, None
        end = final if final.answered else self._first_answer_after(final.seq)
        if end is None:
            return None, None
        sent_between = end.seq - begin[0]
        arrived = end.reflector_seq - begin[1]
        answered = sum(p.answered for p in self._between(window, begin[0], end.seq))
        lost_out, lost_back = sent_between - arrived, arrived - answered
        if lost_out < 0 or lost_back < 0:  # the reflector began anew, or packets changed places at an edge
            return None, None
        if lost_out + lost_back == lost:
            return lost_out, lost_back
        if lost_back == 0:
            return lost, 0
        return (0, lost) if lost_out == 0 else (None, None)

    def _between(self, window: _Window, after: int, until: int) -> Iterator[_Sent]:
        for part in (window, *self._closing, self._window):
            yield from (p for p in part.packets if after < p.seq <= until)

    def _first_answer_after(self, seq: int) -> _Sent | None:
        return next(
            (p for part in (*self._closing, self._window) for p in part.packets if p.answered and p.seq > seq), None
        )

    # ------------------------------------------------------------ housekeeping

    def _roll(self, now_ns: int) -> None:
        if now_ns < self._window.end_ns:
            return
        if self._window.packets:
            self._closing.append(self._window)
        missed = (now_ns - self._window.end_ns) // self._window_ns
        self._window = _Window(self._window.end_ns + (missed + 1) * self._window_ns, self._loaded)

    def _forget(self, now_ns: int) -> None:
        while self._packets:
            packet = next(iter(self._packets.values()))
            if now_ns - packet.at_ns <= REPLY_WAIT_NS:
                break
            del self._packets[packet.seq]
            if not packet.answered:
                self._lost_in_row += 1
        if self._lost_in_row >= SEARCH_AFTER and (self._hosts > 1 or self._search) and self._host is not None:
            self._search_next = (self._host + 1) % self._hosts
            self._host = None

    def _choose_host(self) -> int:
        if self._host is not None:
            return self._host
        host = self._search_next
        self._search_next = (host + 1) % self._hosts
        return host

    def _next_slot(self, now_ns: int) -> None:
        self._slot_ns += (1 + max(0, now_ns - self._slot_ns) // self._interval_ns) * self._interval_ns
        self._send_ns = self._slot_ns + self._phase()

    def _phase(self) -> int:
        return int(self._rng.random() * PHASE_SPREAD * self._interval_ns)
