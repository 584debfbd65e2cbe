"""Measure round trips with all peers over one UDP port, and answer theirs.

Runs the pure halves (`stamp_sender`, `stamp_reflector`) on `udp_socket`. One timer serves every session; no packet has
a task of its own. `paths` starts and ends sessions by the plan, and says when a transfer loads the connection. The same
port learns from the collector by STUN how it can be reached (`nat_status`), and where a NAT lies in between holes are
punched and kept open (`hole_punching`): an answer to a signed request may come from anywhere, and a peer whose signed
request comes from an unannounced address is tried there.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from swarm_probe.clocks import Clocks
from swarm_probe.measure.due_sessions import DueSessions
from swarm_probe.measure.send_timer import SendTimer
from swarm_probe.owner_limits.egress_policy import EgressPolicy
from swarm_probe.owner_limits.traffic_accounting import TrafficAccounting
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.sockets import Target
from swarm_probe.trains.port import TrainPort
from swarm_probe.udp.hole_punching import PUNCH_EVERY_NS, HolePunch
from swarm_probe.udp.nat_status import Reachability
from swarm_probe.udp.recent_sources import RecentSources
from swarm_probe.udp.rtt_session import IDLE_RTTS_MIN, RttSession, RttTarget, behind_nat, link_sample
from swarm_probe.udp.send_refusals import SendRefusals
from swarm_probe.udp.stamp.stamp_reflector import Announced, Reflector
from swarm_probe.udp.stamp.stamp_replies import KERNEL_STAMP_ERROR_NS, USER_STAMP_ERROR_NS, StampReplies
from swarm_probe.udp.stamp.stamp_sender import Ignored, Outgoing, RoundTrip, SessionConfig, StampSession
from swarm_probe.udp.stamp.stamp_window import REPLY_WAIT_NS
from swarm_probe.udp.transmit_timestamps import TransmitTimestamps
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.messages.probe_messages import Peer
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.packets import stamp_packet, stun_packet
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_MS

THRIFTY_PER_S: Final = 0.23  # 7 MB a day with their answers, once most of the day's bytes are used
THRIFTY_BURST: Final = 3.0
MAX_PER_TICK: Final = 8  # packets sent together; the next ones go a millisecond later
TICK_NS: Final = NS_PER_MS
HOLES_S: Final = 1.0  # how often holes are maintained
MAX_LEARNED: Final = 4  # unannounced addresses of one peer


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
        interface: str = "",
        awake: Callable[[], None] = lambda: None,
    ) -> None:
        """Create it. `awake` is called when packets have woken this process up."""
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
        self._interface = allowed.interface = interface
        self.reach = Reachability(self._udp, counts, clocks, bind_host, interface)
        self._by_ssid: dict[int, tuple[RttSession, ...]] = {}
        self._by_peer: dict[str, RttSession] = {}
        self.take_quic: Callable[[Arrival], bool] = lambda _: False  # of datagrams from a member's address
        self.trains = TrainPort(self._udp, self._accounting, counts, clocks)
        self._recent_sources = RecentSources()
        self._holes: asyncio.TimerHandle | None = None
        self._loaded = False
        self._due = DueSessions()
        self.urgent: Callable[[], bool] = lambda: False  # datagrams have to be read at once
        self._timer = SendTimer(self._udp, clocks.mono_ns, rng, self._tick, lambda: self.urgent())
        self._awake = awake
        self._refusals = SendRefusals()
        self._departures = TransmitTimestamps[tuple[RttSession, int]]()

    @property
    def error(self) -> str | None:
        """Return why there are no round trips, in one line."""
        return self._refusals.error

    def unavailable(self, error: str) -> None:
        """Note that the port could not be opened."""
        self._refusals.report(error)

    def uplink(self, mbps: float) -> None:
        """Note a rate, measured or a bound, at which this machine has sent."""
        self._timer.uplink(mbps)
        self._due.grouped = self._timer.groups

    @property
    def port(self) -> int:
        return self._udp.port

    def open(self, bind_host: str, port: int) -> None:
        """Open the port. Raises OSError if no UDP socket can be opened."""
        self._udp.open(bind_host, port, self._interface)

    def close(self) -> None:
        self.reach.close()
        if self._holes is not None:
            self._holes.cancel()
            self._holes = None
        self._by_ssid, self._by_peer = {}, {}
        self._due = DueSessions()
        self._timer.cancel()
        self._udp.close()

    # ------------------------------------------------------------ who is measured, who may ask

    def announce(self, peers: Iterable[Peer]) -> None:
        """Answer the requests of these members from now on, and no others."""
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
            epoch_ns=self._clocks.epoch_ns,
            follow_up=peer.follow_up,
        )
        now_ns = self._clocks.mono_ns()
        session = StampSession(config, self._rng, now_ns)
        rtt = RttSession(
            peer, [a.to for a in targets], session, [a.punched for a in targets], len(targets), HolePunch(now_ns)
        )
        rtt.session.set_loaded(self._loaded)
        self._by_ssid[peer.ssid_out] = (*self._by_ssid.get(peer.ssid_out, ()), rtt)
        self._by_peer[peer.node_id] = rtt
        self._due.push(rtt)
        self._arm()
        self._look_after_holes()
        return rtt

    def readdress(self, rtt: RttSession, peer: Peer, targets: Sequence[RttTarget]) -> None:
        """Take over a peer's new addresses: measurements stay, an address that answers stays in use."""
        old = rtt.targets
        rtt.peer, rtt.announced = peer, len(targets)
        rtt.targets = [aim.to for aim in targets]
        rtt.punched = [aim.punched for aim in targets]
        kept = {old.index(to): number for number, to in enumerate(rtt.targets) if to in old}
        rtt.session.readdress(len(targets), kept, search=self._nat_between(peer))
        rtt.hole_punch.begin(self._clocks.mono_ns())
        self._due.push(rtt)
        self._arm()
        self._look_after_holes()

    def end(self, rtt: RttSession) -> None:
        rtt.ended = True
        ssid = rtt.peer.ssid_out
        self._by_ssid[ssid] = tuple(other for other in self._by_ssid.get(ssid, ()) if other is not rtt)
        if self._by_peer.get(rtt.peer.node_id) is rtt:
            del self._by_peer[rtt.peer.node_id]

    def retime(self, rtt: RttSession, interval_ns: int, window_ns: int) -> None:
        """Take over the plan's new times; what is in flight is kept."""
        rtt.session.retime(interval_ns, window_ns, self._clocks.mono_ns())
        self._due.push(rtt)
        self._arm()

    def pace(self, rtt: RttSession, interval_ns: int | None) -> None:
        """Send packets to this peer every `interval_ns` for now; None: as planned."""
        if not rtt.ended:
            rtt.session.pace(interval_ns, self._clocks.mono_ns())
            self._due.push(rtt)
            self._arm()

    # ------------------------------------------------------------ holes

    def _nat_between(self, peer: Peer) -> bool:
        """Return whether a NAT is known to lie in between: then no address of the peer's is known to be reachable."""
        return behind_nat(peer) or self.reach.finding().nat in ("endpoint-independent", "symmetric")

    def punching(self, rtt: RttSession) -> bool:
        """Return whether a hole to this peer may open any moment."""
        self._look_after_holes()  # its address may have been lost since the last check
        return rtt.punching_now

    def _look_after_holes(self) -> None:
        """Send bursts while nothing answers, keepalives once something does; again in a second while there is a NAT."""
        if self._holes is not None:
            self._holes.cancel()
            self._holes = None
        now_ns = self._clocks.mono_ns()
        between = [rtt for rtt in self._by_peer.values() if self._nat_between(rtt.peer)]
        for rtt in between:
            host = rtt.session.host
            shut = rtt.peer.nat == "udp-blocked"  # nothing would get there
            punching_now = host is None and not shut and rtt.hole_punch.punching_now(now_ns)
            if punching_now != rtt.punching_now:
                if punching_now:
                    self.reach.recheck()
                rtt.punching_now = punching_now
                self.pace(rtt, PUNCH_EVERY_NS if punching_now else None)
            if host is not None and rtt.hole_punch.due(now_ns):
                rtt.hole_punch.sent(now_ns)
                if self._may_send(now_ns) and not self._udp.send(
                    stun_packet.encode_indication(os.urandom(stun_packet.ID_BYTES)), rtt.targets[host]
                ):
                    self._counts["keepalives_sent"] += 1
        if between:
            self._holes = asyncio.get_running_loop().call_later(HOLES_S, self._look_after_holes)

    def _learn(self, rtt: RttSession, source: Target) -> None:
        """Try `source`, from which a signed request of this peer came, if no announced address answers."""
        if rtt.session.host is not None or not self.allowed.permits(source):
            return
        if source not in rtt.targets:
            if len(rtt.targets) >= rtt.announced + MAX_LEARNED:
                del rtt.targets[rtt.announced], rtt.punched[rtt.announced]
            rtt.targets.append(source)
            rtt.punched.append(behind_nat(rtt.peer))
            kept = {number: number for number in range(rtt.announced)}
            rtt.session.readdress(len(rtt.targets), kept, search=True)
            rtt.hole_punch.begin(self._clocks.mono_ns())
        rtt.session.try_next(rtt.targets.index(source))

    def set_loaded(self, loaded: bool) -> None:
        self._loaded = loaded
        for group in self._by_ssid.values():
            for rtt in group:
                rtt.session.set_loaded(loaded)

    # ------------------------------------------------------------ sending

    def _arm(self, not_before_ns: int = 0, *, answers: bool = False) -> None:
        """Set the one timer to the earliest due time. `answers`: some are on their way."""
        self._timer.arm(self._due.first_ns(), not_before_ns, answers=answers)

    def _tick(self) -> None:
        now_ns = self._clocks.mono_ns()
        served, sent = 0, self._counts["stamp_sent"]
        while served < MAX_PER_TICK and (rtt := self._due.pop(now_ns)) is not None:
            served += 1
            out = rtt.session.poll(now_ns, self._clocks.wall_ns())
            if out is not None:
                self._transmit(rtt, out)
            self._report(rtt, now_ns)
            self._due.push(rtt)
        answers = self._counts["stamp_sent"] != sent
        self._arm(now_ns + TICK_NS if served == MAX_PER_TICK else 0, answers=answers)
        self._awake()

    def _transmit(self, rtt: RttSession, out: Outgoing) -> None:
        now_ns = self._clocks.mono_ns()
        if not self.allowed.may_send(rtt.targets[out.host], now_ns):
            rtt.session.unsent(out.seq, unreachable=False)
            self._counts["stamp_not_asked"] += 1  # the address has not answered, and was tried often enough for now
            return
        if not self._may_send(now_ns):
            rtt.session.unsent(out.seq, unreachable=False)
            self._counts["stamp_held_back"] += 1
            return
        token = self._departures.expect((rtt, out.seq))
        rtt.session.sent(out.seq, now_ns)
        error = self._udp.send(out.data, rtt.targets[out.host], token=token)
        rtt.hole_punch.sent(now_ns)
        if error is None:
            self._counts["stamp_sent"] += 1
            self._accounting.stamp(rtt.peer.name, rtt.targets[out.host], sent=len(out.data))
            self._refusals.sent()
        else:
            self._departures.take(token)
            rtt.session.unsent(out.seq, unreachable=True)
            self._counts["stamp_send_failed"] += 1
            self._refusals.refused(error)

    def _may_send(self, now_ns: int) -> bool:
        level = self._accounting.level()
        if self.paused or level == "spent" or (level == "thrifty" and not self._thrifty.take(now_ns)):
            return False
        return self._bucket.take(now_ns)

    def book_others(self) -> None:
        """Account for other traffic of the port since the last time (STUN, other protocols)."""
        self._accounting.others()

    def _departed(self, token: int, wall_ns: int) -> None:
        if token < 0:
            self._answers.departed(token, wall_ns)
            return
        rtt, seq = self._departures.take(token) or (None, 0)
        at_ns = wall_ns - self._clocks.offset_ns()
        # otherwise the clock was set meanwhile, and the time taken before the call stands
        if rtt is not None and 0 <= self._clocks.mono_ns() - at_ns <= REPLY_WAIT_NS:
            rtt.session.sent(seq, at_ns)

    # ------------------------------------------------------------ receiving

    def _arrived(self, arrival: Arrival) -> None:
        if self.trains.receive(arrival):
            return
        if stun_packet.is_stun(arrival.data):
            self.reach.receive(arrival)
            return
        # RFC 9443: neither STUN nor a STAMP sequence number below 2³⁰ begins like this
        other = bool(arrival.data) and arrival.data[0] & 0xC0
        if other and self._recent_sources.has(arrival.source, self._clocks.mono_ns()) and self.take_quic(arrival):
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
        self._recent_sources.add(arrival.source, self._clocks.mono_ns())
        if (rtt := self._by_peer.get(peer)) is not None:
            self._learn(rtt, arrival.source)

    def _may_answer(self, source: Target) -> bool:
        return self.allowed.may_send(source, self._clocks.mono_ns())

    def send(self, data: bytes, to: Target) -> OSError | None:
        """Send other traffic over this port, whose answers are read at once."""
        self._udp.listen(True)
        return self._udp.send(data, to)

    def _take_reply(self, arrival: Arrival, ssid: int) -> None:
        at_ns = arrival.wall_ns - self._clocks.offset_ns()
        reason = "ssid"
        for rtt in self._by_ssid.get(ssid, ()):
            event = rtt.session.receive(arrival.data, at_ns, kernel=arrival.kernel, ttl=arrival.ttl)
            if isinstance(event, Ignored):
                reason = event.reason
                if reason == "hmac":
                    continue
                break
            self._counts["stamp_replies"] += 1
            rtt.interface = arrival.interface
            if arrival.source in rtt.targets:
                self.allowed.answered(arrival.source, self._clocks.mono_ns())
            self._accounting.stamp(rtt.peer.name, arrival.source, received=len(arrival.data))
            self.reach.peer_answered(at_ns)
            if rtt.punching_now:
                rtt.punching_now = False
                rtt.opened.set()
                self.pace(rtt, None)
            self._note(rtt, event)
            self._report(rtt, self._clocks.mono_ns())
            return
        self._counts[f"ignored_{reason}"] += 1
        self._accounting.stranger(arrival.source, len(arrival.data))

    def _note(self, rtt: RttSession, trip: RoundTrip) -> None:
        if rtt.loaded_rtts is not None:
            rtt.loaded_rtts.append(trip.rtt_ns)
        elif not self._loaded:
            rtt.idle_rtts.append(trip.rtt_ns)
            if len(rtt.idle_rtts) >= IDLE_RTTS_MIN:
                rtt.enough_idle.set()

    # ------------------------------------------------------------ reporting

    def _report(self, rtt: RttSession, now_ns: int) -> None:
        for report in rtt.session.reports(now_ns):
            self._counts["stamp_duplicates"] += report.duplicates
            self._counts["stamp_reordered"] += report.reordered
            self._emit(link_sample(rtt, report, report.end_ns + self._clocks.offset_ns()))
