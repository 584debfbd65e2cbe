"""Measure round trips with all peers over one UDP port, and answer theirs.

Puts the pure halves (`stamp_sender`, `stamp_reflector`) on `udp_socket`. One timer serves every session; nothing here
has a task a packet. Sessions come and go by `paths`, which knows the plan and says when a transfer loads the line. The
same port asks the collector by STUN how it can be reached (`nat_status`), and where a NAT lies in between holes are
punched and kept open (`hole_punching`): an answer to a signed request may come from anywhere, and a peer whose signed
request comes from an address that nobody told us is tried there.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.egress_policy import EgressPolicy
from swarm_probe.owner_limits.traffic_accounting import TrafficAccounting
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.sockets import Target
from swarm_probe.udp.departures import Departures
from swarm_probe.udp.heard_sources import HeardSources
from swarm_probe.udp.hole_punching import KNOCK_NS, HolePunch
from swarm_probe.udp.nat_status import Reachability
from swarm_probe.udp.rtt_session import IDLE_RTTS_MIN, RttSession, RttTarget, behind_nat, link_sample
from swarm_probe.udp.send_refusals import SendRefusals
from swarm_probe.udp.stamp_reflector import Announced, Reflector
from swarm_probe.udp.stamp_replies import KERNEL_STAMP_ERROR_NS, USER_STAMP_ERROR_NS, StampReplies
from swarm_probe.udp.stamp_sender import Ignored, Outgoing, RoundTrip, SessionConfig, StampSession
from swarm_probe.udp.stamp_window import REPLY_WAIT_NS
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.messages.probe_messages import Peer
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.packets import stamp_packet, stun_packet
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_MS, NS_PER_S

THRIFTY_PER_S: Final = 0.3  # 7 MB a day with their answers, once most of the day's bytes are used
THRIFTY_BURST: Final = 3.0
MAX_PER_TICK: Final = 8  # packets sent together; the next ones go a millisecond later
TICK_NS: Final = NS_PER_MS
HOLES_S: Final = 1.0  # how often holes are looked after
MAX_LEARNED: Final = 4  # addresses of one peer that nobody told us


class RoundTrips:
    def __init__(
        self,
        emit: Callable[[LinkSample], None],
        counts: Counter[str],
        clocks: Clocks,
        rng: random.Random,
        *,
        packets_per_s: float,
        traffic_budget: TrafficBudget,
        allowed: EgressPolicy,
        bind_host: str = "",
    ) -> None:
        self._emit = emit
        self._counts = counts
        self._clocks = clocks
        self._rng = rng
        self._bucket = TokenBucket(packets_per_s, packets_per_s)  # requests and answers together
        self._thrifty = TokenBucket(THRIFTY_PER_S, THRIFTY_BURST)
        self._accounting = TrafficAccounting(traffic_budget, counts, clocks)
        self.paused = False  # nothing of our own is sent; others are answered
        self.allowed = allowed
        self._udp = UdpPort(self._arrived, self._departed, counts, clocks)
        self._answers = StampReplies(
            self._udp, Reflector(self._bucket), self._accounting, counts, clocks, self._may_answer
        )
        self._udp.allowed = allowed
        self.reach = Reachability(self._udp, counts, clocks, bind_host)
        self._by_ssid: dict[int, tuple[RttSession, ...]] = {}
        self._by_peer: dict[str, RttSession] = {}
        self.take_quic: Callable[[Arrival], bool] = lambda _: False  # of datagrams from where a member writes
        self._heard = HeardSources()
        self._holes: asyncio.TimerHandle | None = None
        self._loaded = False
        self._due: list[tuple[int, int, RttSession]] = []  # heap; an entry whose time is not its trips' is stale
        self._due_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._refusals = SendRefusals()
        self._departures = Departures[tuple[RttSession, int]]()

    @property
    def error(self) -> str | None:
        """Why there are no round trips, in one line."""
        return self._refusals.error

    def unavailable(self, error: str) -> None:
        """The port could not be opened."""
        self._refusals.report(error)

    @property
    def port(self) -> int:
        return self._udp.port

    def open(self, bind_host: str, port: int) -> None:
        """Raises OSError where no UDP socket can be had."""
        self._udp.open(bind_host, port)

    def close(self) -> None:
        self.reach.close()
        if self._holes is not None:
            self._holes.cancel()
            self._holes = None
        self._by_ssid, self._by_peer = {}, {}
        self._due = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._udp.close()

    # ------------------------------------------------------------ who is measured, who may ask

    def announce(self, peers: Iterable[Peer]) -> None:
        """Requests of these are answered from now on, and no others."""
        peers = tuple(peers)
        self._accounting.names = {peer.node_id: peer.name for peer in peers}
        sessions = (Announced(p.ssid_in, p.stamp_key, p.node_id) for p in peers)
        self._answers.reflector.announce(sessions, self._clocks.mono_ns())

    def begin(self, peer: Peer, targets: Sequence[RttTarget], interval_ns: int, window_ns: int) -> RttSession:
        error_ns = KERNEL_STAMP_ERROR_NS if self._udp.kernel_stamps else USER_STAMP_ERROR_NS
        config = SessionConfig(
            key=peer.stamp_key,
            ssid=peer.ssid_out,
            interval_ns=interval_ns,
            window_ns=window_ns,
            hosts=len(targets),
            search=self._nat_between(peer),
            error=stamp_packet.encode_error(error_ns),
        )
        now_ns = self._clocks.mono_ns()
        session = StampSession(config, self._rng, now_ns)
        trips = RttSession(
            peer, [a.to for a in targets], session, [a.punched for a in targets], len(targets), HolePunch(now_ns)
        )
        trips.session.set_loaded(self._loaded)
        self._by_ssid[peer.ssid_out] = (*self._by_ssid.get(peer.ssid_out, ()), trips)
        self._by_peer[peer.node_id] = trips
        self._push(trips)
        self._arm()
        self._look_after_holes()
        return trips

    def readdress(self, trips: RttSession, peer: Peer, targets: Sequence[RttTarget]) -> None:
        """The plan names other addresses of the same peer: what was measured stays, what answers stays in use."""
        old = trips.targets
        trips.peer, trips.told = peer, len(targets)
        trips.targets = [aim.to for aim in targets]
        trips.punched = [aim.punched for aim in targets]
        kept = {old.index(to): number for number, to in enumerate(trips.targets) if to in old}
        trips.session.readdress(len(targets), kept, search=self._nat_between(peer))
        trips.hole.begin(self._clocks.mono_ns())
        self._push(trips)
        self._arm()
        self._look_after_holes()

    def end(self, trips: RttSession) -> None:
        trips.ended = True
        ssid = trips.peer.ssid_out
        self._by_ssid[ssid] = tuple(other for other in self._by_ssid.get(ssid, ()) if other is not trips)
        if self._by_peer.get(trips.peer.node_id) is trips:
            del self._by_peer[trips.peer.node_id]

    def retime(self, trips: RttSession, interval_ns: int, window_ns: int) -> None:
        """The plan's times changed; what is under way is kept."""
        trips.session.retime(interval_ns, window_ns, self._clocks.mono_ns())
        self._push(trips)
        self._arm()

    def pace(self, trips: RttSession, interval_ns: int | None) -> None:
        """Packets to this peer every `interval_ns` for now; None: as planned."""
        if not trips.ended:
            trips.session.pace(interval_ns, self._clocks.mono_ns())
            self._push(trips)
            self._arm()

    # ------------------------------------------------------------ holes

    def _nat_between(self, peer: Peer) -> bool:
        """Whether a NAT is known to lie on the way: then no address of the peer's is known to be reachable."""
        return behind_nat(peer) or self.reach.finding().nat in ("endpoint-independent", "symmetric")

    def punching(self, trips: RttSession) -> bool:
        """Whether a hole to this peer may open any moment."""
        self._look_after_holes()  # its address may have been lost since the last look
        return trips.knocking

    def _look_after_holes(self) -> None:
        """Bursts while nothing answers, keepalives once something does; again in a second while there is a NAT."""
        if self._holes is not None:
            self._holes.cancel()
            self._holes = None
        now_ns = self._clocks.mono_ns()
        between = [trips for trips in self._by_peer.values() if self._nat_between(trips.peer)]
        for trips in between:
            host = trips.session.host
            shut = trips.peer.nat == "udp-blocked"  # nothing would get there
            knocking = host is None and not shut and trips.hole.knocking(now_ns)
            if knocking != trips.knocking:
                if knocking:
                    self.reach.recheck()
                trips.knocking = knocking
                self.pace(trips, KNOCK_NS if knocking else None)
            if host is not None and trips.hole.due(now_ns):
                trips.hole.sent(now_ns)
                if self._may_send(now_ns) and not self._udp.send(
                    stun_packet.encode_indication(os.urandom(stun_packet.ID_BYTES)), trips.targets[host]
                ):
                    self._counts["keepalives_sent"] += 1
        if between:
            self._holes = asyncio.get_running_loop().call_later(HOLES_S, self._look_after_holes)

    def _learn(self, trips: RttSession, source: Target) -> None:
        """A signed request of this peer came from `source`: an address to try, if none of those told answers."""
        if trips.session.host is not None or not self.allowed.permits(source):
            return
        if source not in trips.targets:
            if len(trips.targets) >= trips.told + MAX_LEARNED:
                del trips.targets[trips.told], trips.punched[trips.told]
            trips.targets.append(source)
            trips.punched.append(behind_nat(trips.peer))
            kept = {number: number for number in range(trips.told)}
            trips.session.readdress(len(trips.targets), kept, search=True)
            trips.hole.begin(self._clocks.mono_ns())
        trips.session.try_next(trips.targets.index(source))

    def set_loaded(self, loaded: bool) -> None:
        self._loaded = loaded
        for group in self._by_ssid.values():
            for trips in group:
                trips.session.set_loaded(loaded)

    # ------------------------------------------------------------ sending

    def _push(self, trips: RttSession) -> None:
        if not trips.ended:
            trips.due_ns = trips.session.next_due_ns()
            self._due_count += 1  # breaks ties
            heapq.heappush(self._due, (trips.due_ns, self._due_count, trips))

    def _arm(self, not_before_ns: int = 0) -> None:
        """Sets the one timer to the earliest due time."""
        if not self._due:
            return
        due_ns = max(self._due[0][0], not_before_ns)
        if self._timer is not None:
            if self._timer_ns <= due_ns and not self._timer.cancelled() and not not_before_ns:
                return
            self._timer.cancel()
        self._timer_ns = due_ns
        delay_s = max(0, due_ns - self._clocks.mono_ns()) / NS_PER_S
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_ns = self._clocks.mono_ns()
        served = 0
        while self._due and self._due[0][0] <= now_ns and served < MAX_PER_TICK:
            due_ns, _, trips = heapq.heappop(self._due)
            if trips.ended or due_ns != trips.due_ns:
                continue
            served += 1
            out = trips.session.poll(now_ns, self._clocks.wall_ns())
            if out is not None:
                self._transmit(trips, out)
            self._report(trips, now_ns)
            self._push(trips)
        self._arm(now_ns + TICK_NS if served == MAX_PER_TICK else 0)

    def _transmit(self, trips: RttSession, out: Outgoing) -> None:
        now_ns = self._clocks.mono_ns()
        if not self.allowed.may_send(trips.targets[out.host], now_ns):
            trips.session.unsent(out.seq, unreachable=False)
            self._counts["stamp_not_asked"] += 1  # it has not answered, and was asked often enough for now
            return
        if not self._may_send(now_ns):
            trips.session.unsent(out.seq, unreachable=False)
            self._counts["stamp_held_back"] += 1
            return
        token = self._departures.expect((trips, out.seq))
        trips.session.sent(out.seq, now_ns)
        error = self._udp.send(out.data, trips.targets[out.host], token=token)
        trips.hole.sent(now_ns)
        if error is None:
            self._counts["stamp_sent"] += 1
            self._accounting.stamp(trips.peer.name, trips.targets[out.host], sent=len(out.data))
            self._refusals.sent()
        else:
            self._departures.take(token)
            trips.session.unsent(out.seq, unreachable=True)
            self._counts["stamp_send_failed"] += 1
            self._refusals.refused(error)

    def _may_send(self, now_ns: int) -> bool:
        level = self._accounting.level()
        if self.paused or level == "spent" or (level == "thrifty" and not self._thrifty.take(now_ns)):
            return False
        return self._bucket.take(now_ns)

    def book_others(self) -> None:
        """What else went through the port since the last time (STUN, other protocols on it)."""
        self._accounting.others()

    def _departed(self, token: int, wall_ns: int) -> None:
        if token < 0:
            self._answers.departed(token, wall_ns)
            return
        trips, seq = self._departures.take(token) or (None, 0)
        at_ns = wall_ns - self._clocks.offset_ns()
        # anything else: the clock was set meanwhile, and the time taken before the call stands
        if trips is not None and 0 <= self._clocks.mono_ns() - at_ns <= REPLY_WAIT_NS:
            trips.session.sent(seq, at_ns)

    # ------------------------------------------------------------ receiving

    def _arrived(self, arrival: Arrival) -> None:
        if stun_packet.is_stun(arrival.data):
            self.reach.receive(arrival)
            return
        # RFC 9443: neither STUN nor a STAMP sequence number below 2³⁰ begins like this
        known = self._heard.has(arrival.source, self._clocks.mono_ns())
        if arrival.data and arrival.data[0] & 0xC0 and known and self.take_quic(arrival):
            return
        try:
            ssid, reflected = stamp_packet.peek(arrival.data)
        except stamp_packet.StampError as error:
            self._counts[f"ignored_{error.reason}"] += 1
            self._accounting.stranger(arrival.source, len(arrival.data))
            return
        if reflected:
            self._take_reply(arrival, ssid)
        else:
            self._answer(arrival)

    def _answer(self, arrival: Arrival) -> None:
        peer = self._answers.answer(arrival)
        if peer is None:
            return
        self._heard.add(arrival.source, self._clocks.mono_ns())
        if (trips := self._by_peer.get(peer)) is not None:
            self._learn(trips, arrival.source)

    def _may_answer(self, source: Target) -> bool:
        return self.allowed.may_send(source, self._clocks.mono_ns())

    def send(self, data: bytes, to: Target) -> OSError | None:
        """For what else goes over this port."""
        return self._udp.send(data, to)

    def _take_reply(self, arrival: Arrival, ssid: int) -> None:
        at_ns = arrival.wall_ns - self._clocks.offset_ns()
        reason = "ssid"
        for trips in self._by_ssid.get(ssid, ()):
            event = trips.session.receive(arrival.data, at_ns, kernel=arrival.kernel, ttl=arrival.ttl)
            if isinstance(event, Ignored):
                reason = event.reason
                if reason == "hmac":
                    continue
                break
            self._counts["stamp_replies"] += 1
            if arrival.source in trips.targets:
                self.allowed.answered(arrival.source, self._clocks.mono_ns())
            self._accounting.stamp(trips.peer.name, arrival.source, received=len(arrival.data))
            self.reach.peer_answered(at_ns)
            if trips.knocking:
                trips.knocking = False
                trips.opened.set()
                self.pace(trips, None)
            self._note(trips, event)
            self._report(trips, self._clocks.mono_ns())
            return
        self._counts[f"ignored_{reason}"] += 1
        self._accounting.stranger(arrival.source, len(arrival.data))

    def _note(self, trips: RttSession, trip: RoundTrip) -> None:
        if trips.loaded_rtts is not None:
            trips.loaded_rtts.append(trip.rtt_ns)
        elif not self._loaded:
            trips.idle_rtts.append(trip.rtt_ns)
            if len(trips.idle_rtts) >= IDLE_RTTS_MIN:
                trips.enough_idle.set()

    # ------------------------------------------------------------ reporting

    def _report(self, trips: RttSession, now_ns: int) -> None:
        for report in trips.session.reports(now_ns):
            self._counts["stamp_duplicates"] += report.duplicates
            self._counts["stamp_reordered"] += report.reordered
            self._emit(link_sample(trips, report, report.end_ns + self._clocks.offset_ns()))
