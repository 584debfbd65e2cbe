"""Run the sender of a STAMP session (RFC 8762): schedule packets to one peer and evaluate the replies.

Packets are `swarm_protocol.packets.stamp_packet`, the answering half is `stamp_reflector`, the socket is
`udp_socket`. No clock and no randomness of its own: every call takes `now_ns`, a monotonic clock, so that a step of the
wall clock never becomes a round trip. `epoch_ns` makes a wall clock of it that is never set (`clocks.steady_ns`).

The figures of a window are in `stamp_window`; `follow_ups` corrects each T3 by the follow-up in the reflector's next
answer.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from swarm_probe.udp.stamp.follow_ups import FollowUps
from swarm_probe.udp.stamp.stamp_window import REPLY_WAIT_NS, PathReport, SentPacket, Window, WindowReports
from swarm_protocol.packets import stamp_packet

MAX_IN_FLIGHT: Final = 1024  # bounds memory, whatever interval is requested
# share of the interval over which a send time varies, so as not to lock onto periodic traffic
PHASE_SPREAD: Final = 0.5
GONE: Final = -1  # the number of an address that is no longer the peer's
SEARCH_AFTER: Final = 5  # lost in a row before the peer's other addresses are tried again
FOLLOW_UP_INTERVALS: Final = 2  # a follow-up comes with the answer to the next packet, 1.5 intervals later at most
KERNEL_ERROR_NS: Final = 1_000_000  # a peer whose error estimate is below this stamps arrivals in its kernel

IgnoredReason = Literal[stamp_packet.Reason, "unknown", "echo", "duplicate", "late", "clock"]


class SessionConfig(msgspec.Struct, frozen=True):
    key: bytes | None  # None: unauthenticated
    ssid: int
    interval_ns: int  # mean time between packets
    window_ns: int
    hosts: int = 1  # addresses of the peer, referred to by index
    search: bool = False  # none of them is known to be reachable: packets before an answer say nothing of a path
    error: int = 1  # our error estimate, as on the wire
    epoch_ns: int = 0  # UTC at 0 of the monotonic clock, as it was when the probe started
    follow_up: bool = False  # the peer understands requests for follow-ups


class Outgoing(msgspec.Struct, frozen=True):
    seq: int
    host: int
    data: bytes


class RoundTrip(msgspec.Struct, frozen=True):
    seq: int
    host: int
    rtt_ns: int  # by the answer's own T3: a follow-up may correct it in the window's figures
    kernel: bool  # both ends took the arrival's time in the kernel


class Ignored(msgspec.Struct, frozen=True):
    reason: IgnoredReason


def rtt_ns(t1: int, t2: int, t3: int, t4: int) -> int | None:
    """Return the round trip without the reflector's own time; None if a clock was set meanwhile and it makes no
    sense."""
    inside = t3 - t2
    trip = (t4 - t1) - inside
    return trip if inside >= 0 and trip >= 0 else None


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
        self._packets: dict[int, SentPacket] = {}  # by seq, oldest first; forgotten after REPLY_WAIT_NS
        self._window = Window(now_ns + config.window_ns, False, self._follow_up_wait_ns())
        self._follow_ups = FollowUps()
        self._closing: deque[Window] = deque()
        self._loaded = False
        self._highest_answered = -1
        self._reports = WindowReports()
        self._hosts = config.hosts
        self._search = config.search
        self._host: int | None = None if config.hosts > 1 or config.search else 0
        self._answers = 0
        self._search_next = 0
        self._lost_in_row = 0

    # ------------------------------------------------------------ sending

    @property
    def interval_ns(self) -> int:
        """Return the mean time between packets, as it is now."""
        return self._interval_ns

    def next_due_ns(self) -> int:
        """Return when `poll` or `reports` next have something to do."""
        due = min(self._send_ns, self._window.end_ns)
        return min(due, self._closing[0].deadline_ns) if self._closing else due

    def poll(self, now_ns: int, wall_ns: int) -> Outgoing | None:
        """Return the packet due now, if any. Missed slots are left out, never made up for."""
        self._forget(now_ns)
        if now_ns < self._send_ns:
            return None
        self._roll(now_ns)
        self._next_slot(now_ns)
        if len(self._packets) >= MAX_IN_FLIGHT:
            return None
        # until something comes back the peer may not have its plan yet, and then knows no session of ours
        search = self._host is None or not self._answers
        packet = SentPacket(self._seq, stamp_packet.ntp_from_ns(wall_ns), now_ns, self._choose_host(), search)
        self._seq = (self._seq + 1) % stamp_packet.SEQ_LIMIT
        self._packets[packet.seq] = packet
        self._window.packets.append(packet)
        wire = stamp_packet.SenderPacket(
            packet.seq, packet.ntp, self._config.error, self._config.ssid, self._config.follow_up
        )
        return Outgoing(packet.seq, packet.host, stamp_packet.encode_sender(wire, self._config.key))

    def sent(self, seq: int, at_ns: int) -> None:
        """Note that the packet left at `at_ns`, which is later and more exact than its `now_ns`."""
        if (packet := self._packets.get(seq)) is not None:
            packet.at_ns = at_ns

    def unsent(self, seq: int, *, unreachable: bool) -> None:
        """Note that the latest packet never left: neither sent nor lost. `unreachable`: its address is in doubt."""
        packet = self._packets.pop(seq)
        self._window.packets.remove(packet)
        self._seq = seq
        if unreachable:
            self._lost_in_row += 1

    def retime(self, interval_ns: int, window_ns: int, now_ns: int) -> None:
        """Take over the plan's new times: packets at once, windows from the next one."""
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
        """Return the address that answers; None: none is known."""
        return self._host if self._answers else None

    def readdress(self, hosts: int, kept: Mapping[int, int], *, search: bool) -> None:
        """Take over the peer's new addresses; `kept`: old number → new number of those that stay."""
        self._hosts, self._search, self._search_next, self._lost_in_row = hosts, search, 0, 0
        found = self.host
        self._host = None if hosts > 1 or search else 0
        if found is not None and found in kept:
            self._host = kept[found]
        open_packets = (p for window in (self._window, *self._closing) for p in window.packets)
        for packet in {id(p): p for p in (*open_packets, *self._packets.values())}.values():
            packet.host = kept.get(packet.host, GONE)

    def try_next(self, host: int) -> None:
        """Try this address first while none answers: something has just come from there."""
        if self._host is None:
            self._search_next = host

    def set_loaded(self, loaded: bool) -> None:
        """Mark every window during a transfer at this node."""
        self._loaded = loaded
        if loaded:
            for window in (self._window, *self._closing):
                window.loaded = True

    # ------------------------------------------------------------ receiving

    def receive(self, data: bytes, at_ns: int, *, kernel: bool, ttl: int = 0) -> RoundTrip | Ignored:
        """Interpret a reply of any sender that arrived at `at_ns`; `ttl` 0: unknown."""
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
        packet.t3_ns, packet.inside_ns = t3, t3 - t2
        packet.out_ns = t2 - packet.at_ns - self._config.epoch_ns
        packet.back_ns = at_ns + self._config.epoch_ns - t3
        self._follow_ups.take(reply, packet)
        self._book(packet)
        if packet.rtt_ns is None:
            return Ignored("clock")
        return RoundTrip(packet.seq, packet.host, packet.rtt_ns, packet.kernel)

    def _book(self, packet: SentPacket) -> None:
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
        """Return the windows that are complete by now, oldest first; one in which nothing was sent is left out."""
        self._roll(now_ns)
        done: list[PathReport] = []
        while self._closing and self._closing[0].ready(now_ns):
            window = self._closing.popleft()
            done.append(self._reports.report(window, (*self._closing, self._window), self.host))
        return done

    # ------------------------------------------------------------ housekeeping

    def _roll(self, now_ns: int) -> None:
        if now_ns < self._window.end_ns:
            return
        if self._window.packets:
            self._closing.append(self._window)
        missed = (now_ns - self._window.end_ns) // self._window_ns
        end_ns = self._window.end_ns + (missed + 1) * self._window_ns
        self._window = Window(end_ns, self._loaded, self._follow_up_wait_ns())

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

    def _follow_up_wait_ns(self) -> int:
        return FOLLOW_UP_INTERVALS * self._interval_ns

    def _next_slot(self, now_ns: int) -> None:
        self._slot_ns += (1 + max(0, now_ns - self._slot_ns) // self._interval_ns) * self._interval_ns
        self._send_ns = self._slot_ns + self._phase()

    def _phase(self) -> int:
        return int(self._rng.random() * PHASE_SPREAD * self._interval_ns)
