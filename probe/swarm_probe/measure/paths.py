"""Measure every peer of the plan, and answer those that measure this machine.

Carries out a plan through its parts: round trips and how the UDP port can be reached (`round_trips`, `nat_status`),
hops (`hop_rounds`), transfers (`leased_transfers`), over the connection that `dialer` makes, when `slot_scheduler`
allows. Where UDP is blocked, hops and transfers continue.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from swarm_probe.clocks import Clocks
from swarm_probe.measure import hop
from swarm_probe.measure.dialer import QUIC, Dialer
from swarm_probe.measure.hop_rounds import HopRounds, hop_config
from swarm_probe.measure.peer import PeerState
from swarm_probe.measure.round_trips import RoundTrips
from swarm_probe.measure.slot_scheduler import SlotScheduler
from swarm_probe.measure.transfers import uplink
from swarm_probe.measure.transfers.leased_transfers import Outcome, Transfers
from swarm_probe.owner_limits.egress_policy import EgressPolicy, Scope, links_allowed, scope_of
from swarm_probe.owner_limits.idle_policy import IdlePolicy
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.quantiles import median
from swarm_probe.sockets import Leave, why
from swarm_probe.streams.relay_stream import RelayPort
from swarm_probe.streams.tcp_endpoint import Caller, Purpose, Service, TcpPeer
from swarm_probe.udp.nat_discovery import Finding
from swarm_probe.udp.peer_addresses import moved_only, only_by_link, rtt_targets, same, tcp_targets
from swarm_probe.wake_ups import WakeUps
from swarm_protocol.hop_round import ROUND_BYTES
from swarm_protocol.messages.probe_messages import Peer, Plan, Relay, UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import LinkSample, ProbeSample
from swarm_protocol.supervisor import Supervisor
from swarm_protocol.units import NS_PER_MS, NS_PER_S

MIN_INTERVAL_NS: Final = 10 * NS_PER_MS
HOPS_AGAIN_S: Final = 1.0  # after rounds with one peer have ended by an internal error
SERVED_TRANSFER_BYTES: Final = 4 << 20  # as much as one usually takes

log = logging.getLogger(__name__)


class PathsLimits(msgspec.Struct, frozen=True):
    """What no plan can exceed, in addition to the traffic budget."""

    packets_per_s: float = 100.0  # of STAMP, requests and answers together
    transfer_bytes: int = uplink.MAX_TRANSFER_BYTES


class PathsConfig(msgspec.Struct, frozen=True):
    bind_host: str = ""  # empty: every address of IPv4 and IPv6
    interface: str = ""  # nothing goes by another one; empty: as the system routes
    udp_port: int = 0  # 0: any
    tcp_port: int = 0
    scope: Scope = Scope.HOST  # which kinds of address are sent to before a collector was joined
    lan: bool = False  # private addresses too, wherever the collector is
    links: bool = False  # link-local ones too, wherever it is
    grants: bool = False  # accept a transfer only where the collector has announced it to this end too
    limits: PathsLimits = msgspec.field(default_factory=PathsLimits)


class Paths:
    def __init__(
        self,
        config: PathsConfig,
        emit: Callable[[ProbeSample], None],
        wall_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
        traffic_budget: TrafficBudget | None = None,
        idle_policy: IdlePolicy | None = None,
    ) -> None:
        """Create it. `traffic_budget` None: no limit but the plan's, and no record. `idle_policy` is kept up to date
        here."""
        self.udp_port = 0
        self.tcp_port = 0
        self.tcp_error: str | None = None
        self._config = config
        self._counts: Counter[str] = Counter()
        self._members: dict[str, PeerState] = {}
        self._plan: Plan | None = None
        self._supervisor = Supervisor(log)
        self._emit = emit
        limits, counts, clocks, rng = config.limits, self._counts, Clocks(wall_ns, mono_ns), random.Random()
        self._clocks = clocks
        self.wake_ups = WakeUps()
        traffic_budget = traffic_budget if traffic_budget is not None else TrafficBudget(daily_bytes=None)
        self._trips = trips = RoundTrips(
            emit,
            counts,
            clocks,
            rng,
            packets_per_s=limits.packets_per_s,
            traffic_budget=traffic_budget,
            allowed=EgressPolicy(config.scope, links=config.links),
            bind_host=config.bind_host,
            interface=config.interface,
            awake=self.wake_ups.awake,
        )
        self._line = line = SlotScheduler(
            trips,
            traffic_budget,
            idle_policy if idle_policy is not None else IdlePolicy(),
            counts,
            clocks,
            self.wake_ups,
        )
        services: dict[Purpose, Service] = {}
        self._tcp = TcpPeer(services, counts)
        self._tcp.supervisor = self._supervisor
        leave = Leave(config.bind_host, config.interface)
        self._dialer = Dialer(trips, self._tcp.converse, counts, mono_ns, leave)
        self._hops = HopRounds(self._dialer, line, emit, counts, clocks, rng)
        self._transfers = Transfers(self._dialer, line, trips, limits.transfer_bytes, emit, counts, clocks)
        self._transfers.needs_grant = config.grants
        services[Purpose.HOP] = Service(
            self._hops.serve, hop.MAX_MESSAGE_BYTES, lambda: line.why_waiting(ROUND_BYTES) is not None
        )
        for purpose, serve in (
            (Purpose.UPLINK, self._transfers.serve),
            (Purpose.TRAINS, self._transfers.serve_trains),
        ):
            services[purpose] = Service(
                serve,
                limits.transfer_bytes,
                lambda: line.busy or line.why_waiting(SERVED_TRANSFER_BYTES) is not None,
            )

    # ------------------------------------------------------------ the daemon's calls

    def supervise(self, supervisor: Supervisor) -> None:
        """Set, before `start`, the supervisor that restarts parts that end."""
        self._supervisor = supervisor
        self._tcp.supervisor = supervisor

    async def start(self) -> None:
        """Open both ports. `udp_error` and `tcp_error` report what could not be opened; its port stays 0."""
        host = self._config.bind_host
        try:
            self._trips.open(host, self._config.udp_port)
            self.udp_port = self._trips.port
        except OSError as error:
            self._trips.unavailable(
                _port_error("UDP", host, self._config.udp_port, error, "round trips are not measured")
            )
        try:
            self._tcp.open(host, self._config.tcp_port, self._config.interface)
            self.tcp_port = self._tcp.port
        except OSError as error:
            self.tcp_error = _port_error("TCP", host, self._config.tcp_port, error, "others cannot measure hops to us")
            log.warning("%s", self.tcp_error)
        self._supervisor.task("watching the line", self._line.attend)

    @property
    def udp_error(self) -> str | None:
        """Return why no round trips are measured, in one line; also where sending turned out to be blocked later."""
        return self._trips.error

    def joined(self, collector: str, stun_ports: tuple[int, ...], on_reach: Callable[[Finding], None]) -> None:
        """Find out from a collector at this address how this probe's UDP port can be reached; report each change."""
        allowed = self._trips.allowed
        before = allowed.scope, allowed.links, allowed.collector
        allowed.scope = scope_of(collector, lan=self._config.lan)
        allowed.links = links_allowed(collector, chosen=self._config.links)
        allowed.collector = collector
        if self._plan is not None and before != (allowed.scope, allowed.links, allowed.collector):
            self._drop_all()  # their addresses were chosen under the former policy
            self.update(self._plan)
        if self.udp_port and stun_ports:
            self._trips.reach.on_change = on_reach
            self._trips.reach.joined(collector, stun_ports)

    def linked(self, send: Callable[[Relay], Awaitable[bool]], carried: Callable[[], tuple[int, int]]) -> None:
        """Set how bytes for members are relayed through the collector, and a counter of that connection (bytes out,
        in)."""
        self._line.link_carried = carried
        self._dialer.relay = RelayPort(send, self._tcp.converse, self._counts)

    def relayed(self, message: Relay) -> None:
        """Handle bytes that the collector relayed."""
        if self._dialer.relay is not None:
            self._dialer.relay.receive(message)

    @property
    def finding(self) -> Finding:
        """Return how this probe's UDP port can be reached, as far as is known now."""
        return self._trips.reach.finding()

    def grant(self, grant: UplinkGrant) -> None:
        """Allow a transfer from this peer."""
        self._transfers.grant(grant)

    def update(self, plan: Plan) -> None:
        """Carry out this plan from now on. Peers that did not change are left as they are."""
        before, members_before, allowed = self._plan, self._members, self._trips.allowed
        self._plan = plan
        interval_ns, window_ns = _pace(plan, self._config.limits)
        same_hops = before is not None and hop_config(plan) == hop_config(before)
        self._members = {}
        for peer in plan.peers:
            member = members_before.pop(peer.node_id, None)
            if member is not None and not same(member.peer, peer) and moved_only(member.peer, peer, allowed):
                self._readdress(member, peer)
            elif member is None or not same(member.peer, peer):
                if member is not None:
                    self._drop(member)
                member = PeerState(peer, tcp_targets(peer, allowed))
            self._members[peer.node_id] = member
            pace = max(MIN_INTERVAL_NS, interval_ns // peer.often), window_ns
            if member.rtt is None:
                self._begin_trips(member, *pace)
            elif member.pace != pace:
                self._trips.retime(member.rtt, *pace)
            member.peer, member.pace = peer, pace
            if member.hop_task is None or not same_hops:
                self._begin_hops(member, plan)
        for gone in members_before.values():
            self._drop(gone)
        self._line.names = {peer.node_id: peer.name for peer in plan.peers}
        self._trips.announce(plan.peers)
        self._tcp.announce([Caller(p.node_id, p.ssid_in, p.stamp_key) for p in plan.peers])

    async def run_uplink(self, lease: UplinkLease) -> Outcome:
        """Run one transfer to the lease's peer; emit its sample."""
        member = self._members.get(lease.peer)
        if member is None:
            return Outcome(False, f"{lease.peer} is not in the plan of this probe", begun=False)
        return await self._transfers.run(member, lease)

    def usual_away_s(self) -> float | None:
        """Return how long a token is away from this machine: what the plan says; before there is one the median peer's
        lowest round trip, which is the least; None if no peer has answered yet."""
        if self._plan is not None and self._plan.away_ms is not None:
            return self._plan.away_ms / 1e3
        lowest = [min(m.rtt.idle_rtts) for m in self._members.values() if m.rtt is not None and m.rtt.idle_rtts]
        return median(lowest) / NS_PER_S if lowest else None

    def counters(self) -> dict[str, int]:
        """Return packets and bytes sent, received, and ignored by reason, since the start."""
        return dict(sorted(self._counts.items()))

    async def close(self) -> None:
        tasks = [m.hop_task for m in self._members.values() if m.hop_task is not None]
        self._drop_all()
        await self._supervisor.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dialer.close()
        self._trips.close()
        await self._tcp.close()

    # ------------------------------------------------------------ members

    def _begin_trips(self, member: PeerState, interval_ns: int, window_ns: int) -> None:
        where = rtt_targets(member.peer, self._trips.allowed)
        if member.peer.measure and where and self.udp_port:
            member.rtt = self._trips.begin(member.peer, where, interval_ns, window_ns)
        elif member.peer.measure and only_by_link(member.peer, self._trips.allowed):
            at_ns, node_id = self._clocks.wall_ns(), member.peer.node_id
            self._emit(LinkSample(at_ns=at_ns, peer=node_id, path="none", sent=0, lost=0, why="link-local"))

    def _readdress(self, member: PeerState, peer: Peer) -> None:
        """Note a peer's new addresses: figures and rounds continue."""
        member.peer, member.tcp, member.tcp_first = peer, tcp_targets(peer, self._trips.allowed), 0
        if member.rtt is not None:
            self._trips.readdress(member.rtt, peer, rtt_targets(peer, self._trips.allowed))

    def _begin_hops(self, member: PeerState, plan: Plan) -> None:
        if member.hop_task is not None:
            member.hop_task.cancel()
            member.hop_task = None
        if member.peer.measure and (member.tcp or (QUIC and member.peer.quic) or member.peer.relay):
            member.hop_task = asyncio.get_running_loop().create_task(self._hops.with_peer(member, plan))
            member.hop_task.add_done_callback(lambda task: self._hops_ended(member, task))

    def _hops_ended(self, member: PeerState, task: asyncio.Task[None]) -> None:
        """Restart rounds that ended while the peer is in the plan."""
        if task.cancelled() or member.hop_task is not task or self._members.get(member.peer.node_id) is not member:
            return
        self._supervisor.lost("measuring hops", task.exception())
        asyncio.get_running_loop().call_later(HOPS_AGAIN_S, self._hops_again, member, task)

    def _hops_again(self, member: PeerState, ended: asyncio.Task[None]) -> None:
        if member.hop_task is ended and self._plan is not None:
            self._begin_hops(member, self._plan)

    def _drop_all(self) -> None:
        members, self._members = self._members, {}
        for member in members.values():
            self._drop(member)

    def _drop(self, member: PeerState) -> None:
        if member.rtt is not None:
            self._trips.end(member.rtt)
            member.rtt = None
        if member.hop_task is not None:
            member.hop_task.cancel()
            member.hop_task = None


def _pace(plan: Plan, limits: PathsLimits) -> tuple[int, int]:
    """Return (interval, window) in ns; with many peers the interval grows, so that half the packets are left for
    answers.

    A peer to be measured more often than others takes that many shares.
    """
    measured = sum(peer.often for peer in plan.peers if peer.measure)
    floor_ns = max(MIN_INTERVAL_NS, int(measured * NS_PER_S / (limits.packets_per_s / 2)))
    interval_ns = max(floor_ns, int(plan.stamp_interval_ms * NS_PER_MS))
    return interval_ns, max(interval_ns, int(plan.window_ms * NS_PER_MS))


def _port_error(kind: str, host: str, port: int, error: OSError, so: str) -> str:
    where = f"{kind} port {port or '(any)'}" + (f" of {host}" if host else "")
    said = error.strerror if error.errno == errno.EINVAL and error.strerror else why(error)
    return f"cannot use {where} ({said}); {so}"
