"""The probe's view of the network: measures every peer of the plan, answers those that measure us.

Round trips are `round_trips` on a UDP port; hops and transfers go over the TCP port. Hops have a task a peer and run
one at a time; a transfer has the line for itself, and every window it touches, at either end, is marked as loaded.
Where UDP is blocked, hops and transfers go on.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from swarm_probe import hop, uplink
from swarm_probe.channel import Channel
from swarm_probe.courtesy import Courtesy, system_battery, system_counters
from swarm_probe.ledger import Ledger
from swarm_probe.nat import Finding
from swarm_probe.quantiles import quantile
from swarm_probe.round_trips import IDLE_RTTS_MIN, Aim, RoundTrips, Trips, behind_nat
from swarm_probe.sockets import Target, target, why
from swarm_probe.tcp_peer import Caller, PeerError, Purpose, Service, Stream, TcpPeer, Unreachable, dial
from swarm_probe.udp import Clocks
from swarm_protocol.messages import Peer, Plan, UplinkLease
from swarm_protocol.samples import HopSample, Phase, ProbeSample, Transport, UplinkSample
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S, ms_from_ns

if TYPE_CHECKING:
    from swarm_probe.quic import QuicPort

IDLE_WAIT_S: Final = 1.5  # for a few round trips of the quiet line, before a transfer
LOADED_RTTS_MIN: Final = 3
LOADED_PACE_NS: Final = 20 * NS_PER_MS  # a transfer on a fast line lasts a fifth of a second
LOADED_PACE_LATER_NS: Final = 100 * NS_PER_MS
LOADED_PACE_FAST_S: Final = 1.0  # after this the slower pace is enough, and cheaper
FIRST_HOP_S: Final = 2.0  # rounds with a new peer begin within this: somebody waits for the first figure
MIN_INTERVAL_NS: Final = 10 * NS_PER_MS
ATTEND_S: Final = 1.0
BATTERY_EVERY: Final = 30  # looks
POSTPONED_NS: Final = 30 * NS_PER_S  # a hop round that would disturb somebody is tried again after this
LEAST_TRANSFER_BYTES: Final = 1 << 20  # with less left of the day no transfer is begun
SERVED_TRANSFER_BYTES: Final = 4 << 20  # as much as one usually takes
TRANSFER_LEAVES_NS: Final = 8 * NS_PER_S  # what a transfer should have left of its lease when it begins
TCP_AGAIN_NS: Final = 3600 * NS_PER_S  # somebody may have forwarded a port
QUIC: Final = importlib.util.find_spec("aioquic") is not None
PREFILL_ROUNDS: Final = 10  # one prefill chunk in so many rounds of decode steps: it is eight times as large
MIN_HOP_EVERY_NS: Final = NS_PER_S

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PathsLimits:
    """What no plan can exceed, beside the bytes of the ledger."""

    packets_per_s: float = 100.0  # of STAMP, requests and answers together
    transfer_bytes: int = uplink.MAX_TRANSFER_BYTES


@dataclass(frozen=True, slots=True)
class PathsConfig:
    bind_host: str = ""  # empty: every address of IPv4 and IPv6
    udp_port: int = 0  # 0: any
    tcp_port: int = 0
    limits: PathsLimits = field(default_factory=PathsLimits)


@dataclass(slots=True)
class _Member:
    peer: Peer
    tcp: tuple[Target, ...]
    tcp_first: int = 0  # index of the address that answered last
    pace: tuple[int, int] = (0, 0)  # interval and window of its round trips, ns
    trips: Trips | None = None  # None: only answers, has no UDP, or we have none
    hop_task: asyncio.Task[None] | None = None
    tcp_again_ns: int = 0  # when TCP is tried again, after it did not pass
    hop_began: tuple[int, int] | None = None  # (monotonic ns, bytes a message) of the latest round
    hop_rounds: int = 0  # that gave a figure
    hop_error: str = ""

    @property
    def caller(self) -> Caller:
        """This probe, as the peer knows it."""
        return Caller(self.peer.node_id, self.peer.ssid_out, self.peer.stamp_key)


class Paths:
    def __init__(
        self,
        config: PathsConfig,
        emit: Callable[[ProbeSample], None],
        wall_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
        ledger: Ledger | None = None,
        courtesy: Courtesy | None = None,
    ) -> None:
        """`ledger` None: no limit but the plan's, and no record. `courtesy` is kept up to date here."""
        self.udp_port = 0
        self.tcp_port = 0
        self.tcp_error: str | None = None
        self._config = config
        self._emit = emit
        self._clocks = Clocks(wall_ns, mono_ns)
        self._rng = random.Random()
        self._counts: Counter[str] = Counter()
        self._members: dict[str, _Member] = {}
        self._plan: Plan | None = None
        self._ledger = ledger if ledger is not None else Ledger(daily_bytes=None)
        self._courtesy = courtesy if courtesy is not None else Courtesy()
        self._attending: asyncio.Task[None] | None = None
        self._own_transfer = False
        self._transfers = 0  # at this node, of either direction
        self._no_transfer = asyncio.Event()
        self._no_transfer.set()
        self._hop_turn = asyncio.Lock()
        self._served_hops = 0
        limits = config.limits
        self._trips = RoundTrips(
            emit,
            self._counts,
            self._clocks,
            self._rng,
            packets_per_s=limits.packets_per_s,
            ledger=self._ledger,
            bind_host=config.bind_host,
        )
        services = {
            Purpose.HOP: Service(
                self._serve_hop, hop.MAX_MESSAGE_BYTES, lambda: self._why_waiting(hop.ROUND_BYTES) is not None
            ),
            Purpose.UPLINK: Service(
                self._serve_uplink,
                limits.transfer_bytes,
                lambda: self._busy() or self._why_waiting(SERVED_TRANSFER_BYTES) is not None,
            ),
        }
        self._tcp = TcpPeer(services, self._counts)
        self._quic: QuicPort | None = None
        if QUIC:
            self._trips.take_quic = lambda arrival: self._quic_port().receive(arrival)

    # ------------------------------------------------------------ the daemon's calls

    async def start(self) -> None:
        """Opens both ports. What cannot be had is said in `udp_error` and `tcp_error`, its port stays 0."""
        host = self._config.bind_host
        try:
            self._trips.open(host, self._config.udp_port)
            self.udp_port = self._trips.port
        except OSError as error:
            self._trips.error = _port_error("UDP", host, self._config.udp_port, error, "round trips are not measured")
            log.warning("%s", self._trips.error)
        try:
            self._tcp.open(host, self._config.tcp_port)
            self.tcp_port = self._tcp.port
        except OSError as error:
            self.tcp_error = _port_error("TCP", host, self._config.tcp_port, error, "others cannot measure hops to us")
            log.warning("%s", self.tcp_error)
        self._attending = asyncio.create_task(self._attend())

    @property
    def udp_error(self) -> str | None:
        """Why no round trips are measured, in one line; also where sending turned out to be blocked later."""
        return self._trips.error

    def joined(self, collector: str, stun_ports: tuple[int, ...], on_reach: Callable[[Finding], None]) -> None:
        """Finds out from a collector at this address how this probe's UDP port can be reached; tells each change."""
        if self.udp_port:
            self._trips.reach.on_change = on_reach
            self._trips.reach.joined(collector, stun_ports)

    @property
    def finding(self) -> Finding:
        """How this probe's UDP port can be reached, as far as is known now."""
        return self._trips.reach.finding()

    def update(self, plan: Plan) -> None:
        """Does this plan from now on. A peer that did not change goes on where it is."""
        before, members_before = self._plan, self._members
        self._plan = plan
        interval_ns, window_ns = _pace(plan, self._config.limits)
        same_hops = before is not None and _hop_config(plan) == _hop_config(before)
        self._members = {}
        for peer in plan.peers:
            member = members_before.pop(peer.node_id, None)
            if member is not None and not _same(member.peer, peer) and _moved_only(member.peer, peer):
                self._readdress(member, peer)
            elif member is None or not _same(member.peer, peer):
                if member is not None:
                    self._drop(member)
                member = _Member(peer, _targets(peer, peer.tcp_port))
            self._members[peer.node_id] = member
            pace = max(MIN_INTERVAL_NS, interval_ns // peer.often), window_ns
            if member.trips is None:
                self._begin_trips(member, *pace)
            elif member.pace != pace:
                self._trips.retime(member.trips, *pace)
            member.peer, member.pace = peer, pace
            if member.hop_task is None or not same_hops:
                self._begin_hops(member, plan)
        for gone in members_before.values():
            self._drop(gone)
        self._trips.announce(plan.peers)
        self._tcp.announce([Caller(p.node_id, p.ssid_in, p.stamp_key) for p in plan.peers])

    async def run_uplink(self, lease: UplinkLease) -> tuple[bool, str]:
        """One transfer to the lease's peer; emits its sample. (whether it measured, one line about it)"""
        deadline_ns = self._clocks.mono_ns() + int(lease.expires_ms * NS_PER_MS)
        member = self._members.get(lease.peer)
        if member is None:
            return False, f"{lease.peer} is not in the plan of this probe"
        name = safe(member.peer.name)
        if not member.tcp and self._hole(member) is None:
            return False, f"{name} has no TCP port to send to"
        if self._busy():
            return False, "another transfer runs at this node"
        self._own_transfer = True
        try:
            if (waiting := await self._wait_for_line(deadline_ns)) is not None:
                self._counts["uplinks_postponed"] += 1
                return False, f"{name}: {waiting}"
            transfer, transport, idle, loaded = await self._transfer(member, lease, deadline_ns)
        except (PeerError, TimeoutError) as error:
            self._counts["uplinks_failed"] += 1
            why = str(error) or f"the lease ran out after {lease.expires_ms:.0f} ms"
            return False, f"{name}: {why}"
        finally:
            self._own_transfer = False
        self._counts["uplinks_measured"] += 1
        self._emit(
            UplinkSample(
                at_ns=self._clocks.wall_ns(),
                peer=lease.peer,
                sent_bytes=transfer.sent_bytes,
                mbps=transfer.mbps,
                bound=transfer.bound,
                rtt_idle_ms=idle,
                rtt_loaded_ms=loaded,
                seconds=transfer.seconds,
                transport=transport,
            )
        )
        sign = "≥ " if transfer.bound else ""
        return True, f"{name}: {sign}{transfer.mbps:.1f} Mbit/s, {transfer.sent_bytes} bytes ({transfer.ended})"

    def counters(self) -> dict[str, int]:
        """Packets and bytes sent, received, and ignored by reason, since the start."""
        return dict(sorted(self._counts.items()))

    async def close(self) -> None:
        members, self._members = self._members, {}
        tasks = [m.hop_task for m in members.values() if m.hop_task is not None]
        if self._attending is not None:
            self._attending.cancel()
            tasks.append(self._attending)
        for member in members.values():
            self._drop(member)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._quic is not None:
            await self._quic.close()
        self._trips.close()
        await self._tcp.close()

    # ------------------------------------------------------------ what the owner was promised

    async def _attend(self) -> None:
        """Notices who else uses the line and where the power comes from."""
        looks, used = 0, False
        while True:
            if looks % BATTERY_EVERY == 0:
                self._courtesy.battery(system_battery())
                self._trips.paused = self._courtesy.battery_percent is not None
            looks += 1
            now_ns = self._clocks.mono_ns()
            sent, received = (
                self._counts[f"udp_bytes_{way}"] + self._counts[f"tcp_bytes_{way}"] for way in ("sent", "received")
            )
            testing = self._transfers > 0 or self._served_hops > 0 or self._hop_turn.locked()
            self._courtesy.look(now_ns, system_counters(), (sent, received), testing=testing)
            if self._courtesy.line_used(now_ns) != used:
                used = not used
                self._trips.set_loaded(used or self._transfers > 0)
            self._trips.book_others()
            await asyncio.sleep(ATTEND_S)

    def _why_waiting(self, size_bytes: int) -> str | None:
        """Why no test of `size_bytes` is begun or served now, in one line."""
        if self._is_full(size_bytes):
            limit = self._ledger.limit_bytes or 0
            return f"the tests' share of {limit / 1e6:.0f} MB a day is used; raise --daily-bytes or wait"
        return self._courtesy.why_waiting(self._clocks.mono_ns())

    def _is_full(self, size_bytes: int) -> bool:
        return self._ledger.room_bytes(self._clocks.wall_ns()) < size_bytes

    def _book(self, kind: Literal["hop", "uplink"], peer: str, stream: Channel) -> None:
        if not isinstance(stream, Stream):
            return  # over QUIC: the UDP port's own counters have it, datagram by datagram
        member = self._members.get(peer)
        self._ledger.spend_tcp(
            kind,
            member.peer.name if member is not None else "",
            sent=stream.sent_bytes,
            received=stream.received_bytes,
            now_ns=self._clocks.wall_ns(),
        )

    # ------------------------------------------------------------ members

    def _begin_trips(self, member: _Member, interval_ns: int, window_ns: int) -> None:
        aims = _aims(member.peer)
        if member.peer.measure and aims and self.udp_port:
            member.trips = self._trips.begin(member.peer, aims, interval_ns, window_ns)

    def _readdress(self, member: _Member, peer: Peer) -> None:
        """It is the same peer, somewhere else or behind something else: figures and rounds go on."""
        member.peer, member.tcp, member.tcp_first = peer, _targets(peer, peer.tcp_port), 0
        if member.trips is not None:
            self._trips.readdress(member.trips, peer, _aims(peer))

    def _begin_hops(self, member: _Member, plan: Plan) -> None:
        if member.hop_task is not None:
            member.hop_task.cancel()
            member.hop_task = None
        if member.peer.measure and (member.tcp or (QUIC and member.peer.quic)):
            member.hop_task = asyncio.get_running_loop().create_task(self._hop_rounds(member, plan))

    def _drop(self, member: _Member) -> None:
        if member.trips is not None:
            self._trips.end(member.trips)
            member.trips = None
        if member.hop_task is not None:
            member.hop_task.cancel()
            member.hop_task = None

    # ------------------------------------------------------------ hops

    async def _hop_rounds(self, member: _Member, plan: Plan) -> None:
        every_ns = max(MIN_HOP_EVERY_NS, int(plan.hop_every_ms * NS_PER_MS))
        soon_ns = int(self._rng.random() * min(FIRST_HOP_S * NS_PER_S, every_ns))
        due_ns = self._clocks.mono_ns() + soon_ns
        if member.hop_began is not None and member.hop_began[1] == plan.hop_bytes:
            # only the rhythm changed, as it does with each member that comes or goes: that is no reason for a round
            due_ns = max(due_ns, member.hop_began[0] + every_ns)
        while True:
            await asyncio.sleep(max(0, due_ns - self._clocks.mono_ns()) / NS_PER_S)
            if self._why_waiting(hop.ROUND_BYTES) is not None:
                self._counts["hops_postponed"] += 1
                due_ns = self._clocks.mono_ns() + min(every_ns, POSTPONED_NS)
                continue
            began_ns = self._clocks.mono_ns()
            member.hop_began = began_ns, plan.hop_bytes
            try:
                await self._hop_round(member, plan)
                error = ""
            except PeerError as failed:
                self._counts["hops_failed"] += 1
                error = str(failed)
            if error != member.hop_error:
                log.info("hops to %s: %s", safe(member.peer.name), error or "measured again")
                member.hop_error = error
            due_ns = began_ns + every_ns

    async def _hop_round(self, member: _Member, plan: Plan) -> None:
        """A prefill chunk now and then, then a decode step's: the newest figure of a link is always a decode step's."""
        cadence_ns = min(hop.MAX_CADENCE_NS, int(plan.hop_cadence_ms * NS_PER_MS))
        await self._no_transfer.wait()
        if plan.prefill_bytes and member.hop_rounds % PREFILL_ROUNDS == 0:
            await self._hop(member, plan.prefill_bytes, cadence_ns, "prefill")
        if await self._hop(member, plan.hop_bytes, cadence_ns, "decode"):
            member.hop_rounds += 1

    async def _hop(self, member: _Member, size_bytes: int, cadence_ns: int, phase: Phase) -> bool:
        decode = phase == "decode"
        stream, transport = await self._dial(member, Purpose.HOP, size_bytes)
        try:
            async with self._hop_turn:
                measured = await hop.measure(
                    stream,
                    size_bytes,
                    cadence_ns,
                    self._clocks.mono_ns,
                    lambda: self._transfers > 0,
                    messages=None if decode else hop.MESSAGES_MIN,
                    after_idle=hop.AFTER_IDLE if decode and transport == "tcp" else 0,
                )
                loaded = self._transfers > 0
        finally:
            stream.close()
            self._book("hop", member.peer.node_id, stream)
        if measured is None:
            return False
        self._counts["hops_measured"] += 1
        if decode and not loaded and member.trips is not None and transport == "tcp":
            member.trips.hop_ms = ms_from_ns(measured.at(0.50))
        self._emit(
            HopSample(
                at_ns=self._clocks.wall_ns(),
                peer=member.peer.node_id,
                size_bytes=size_bytes,
                cadence_ms=ms_from_ns(cadence_ns),
                n=len(measured.ordered_ns),
                first_ms=ms_from_ns(measured.first_ns),
                after_idle_ms=_ms(measured.after_idle_ns),
                min_ms=ms_from_ns(measured.ordered_ns[0]),
                p50_ms=ms_from_ns(measured.at(0.50)),
                p95_ms=ms_from_ns(measured.at(0.95)),
                p99_ms=ms_from_ns(measured.at(0.99)),
                loaded=loaded,
                transport=transport,
                phase=phase,
            )
        )
        return True

    async def _dial(self, member: _Member, purpose: Purpose, size: int) -> tuple[Channel, Transport]:
        """By TCP, or over the hole that STAMP has punched where TCP has not passed lately. Raises PeerError."""
        hole = self._hole(member)
        if hole is None or self._clocks.mono_ns() >= member.tcp_again_ns:
            try:
                return await self._dial_tcp(member, purpose, size), "tcp"
            except Unreachable:
                hole = self._hole(member)  # it may have opened meanwhile
                if hole is None:
                    raise
                member.tcp_again_ns = self._clocks.mono_ns() + TCP_AGAIN_NS
        return await self._quic_port().dial(hole, member.caller, purpose, size), "quic"

    def _hole(self, member: _Member) -> Target | None:
        """Where QUIC may go: an address of the peer that only a hole makes reachable, and that answers."""
        trips = member.trips
        if not QUIC or not member.peer.quic or trips is None:
            return None
        host = trips.session.host
        return trips.targets[host] if host is not None and trips.punched[host] else None

    def _quic_port(self) -> QuicPort:
        if self._quic is None:
            from swarm_probe.quic import QuicPort  # late: 12 MB that few probes ever need

            self._quic = QuicPort(self._trips.send, self._tcp.converse, self._counts)
        return self._quic

    async def _dial_tcp(self, member: _Member, purpose: Purpose, size: int) -> Stream:
        """The address that answered last first, then the others in the plan's order. Raises PeerError."""
        order = sorted(range(len(member.tcp)), key=lambda i: i != member.tcp_first)
        failed: PeerError = Unreachable("no TCP address in the plan")
        for index in order:
            try:
                stream = await dial(member.tcp[index], member.caller, purpose, size, self._counts)
            except PeerError as error:
                failed = error
                continue
            member.tcp_first = index
            return stream
        raise failed

    async def _serve_hop(self, stream: Channel, peer: str, size: int) -> None:
        self._served_hops += 1
        try:
            await hop.serve(stream, size, self._clocks.mono_ns)
        finally:
            self._served_hops -= 1
            self._book("hop", peer, stream)

    # ------------------------------------------------------------ transfers

    def _busy(self) -> bool:
        return self._own_transfer or self._transfers > 0

    async def _transfer(
        self, member: _Member, lease: UplinkLease, deadline_ns: int
    ) -> tuple[uplink.Transfer, Transport, float | None, float | None]:
        """(the transfer, what carried it, RTT before it, and during it: None where too few packets came back)"""
        trips = member.trips
        if trips is not None:
            await self._settle_idle(trips)
        idle = sorted(trips.idle_rtts) if trips is not None else []
        idle_ns = median(idle) if idle else None
        pdv_ns = quantile(idle, 0.95) - idle[0] if len(idle) >= IDLE_RTTS_MIN else None
        room = self._ledger.room_bytes(self._clocks.wall_ns())
        max_bytes = min(lease.max_bytes, self._config.limits.transfer_bytes, room)
        self._transfer_began()
        try:
            async with asyncio.timeout(self._seconds_until(deadline_ns)):
                async with self._hop_turn:  # a round that runs ends at its next message
                    pass
                stream, transport = await self._dial(member, Purpose.UPLINK, max_bytes)
            try:
                with self._loaded_pace(trips) as loaded:
                    seconds = self._seconds_until(deadline_ns)
                    transfer = await uplink.send(
                        stream, max_bytes, seconds, int(idle_ns or 0), self._clocks.mono_ns, pdv_ns
                    )
            finally:
                stream.close()
                self._book("uplink", member.peer.node_id, stream)
        finally:
            self._transfer_ended()
        # the later half: the queue fills while the transfer gets going
        loaded_ns = median(loaded[len(loaded) // 2 :]) if len(loaded) >= LOADED_RTTS_MIN else None
        if transport == "quic":  # it may be our own encryption that was the bottleneck
            transfer = replace(transfer, bound=True)
        return transfer, transport, _ms(idle_ns), _ms(loaded_ns)

    async def _settle_idle(self, trips: Trips) -> None:
        """A few round trips of the quiet line, where there are none yet; goes on without them where none come."""
        if len(trips.idle_rtts) >= IDLE_RTTS_MIN:
            return
        self._trips.pace(trips, LOADED_PACE_NS)
        try:
            async with asyncio.timeout(IDLE_WAIT_S):
                await trips.enough_idle.wait()
        except TimeoutError:
            self._counts["uplinks_without_idle_rtt"] += 1
        finally:
            self._trips.pace(trips, None)

    @contextmanager
    def _loaded_pace(self, trips: Trips | None) -> Iterator[list[int]]:
        """Denser round trips with this peer meanwhile, and a list that they are added to."""
        rtts: list[int] = []
        if trips is None:
            yield rtts
            return
        trips.loaded_rtts = rtts
        self._trips.pace(trips, LOADED_PACE_NS)
        later = asyncio.get_running_loop().call_later(LOADED_PACE_FAST_S, self._trips.pace, trips, LOADED_PACE_LATER_NS)
        try:
            yield rtts
        finally:
            later.cancel()
            trips.loaded_rtts = None
            self._trips.pace(trips, None)

    async def _wait_for_line(self, deadline_ns: int) -> str | None:
        """Until a transfer disturbs nobody; why not, where that takes longer than the lease leaves."""
        while (waiting := self._why_waiting(LEAST_TRANSFER_BYTES)) is not None:
            if self._clocks.mono_ns() + TRANSFER_LEAVES_NS > deadline_ns or self._is_full(LEAST_TRANSFER_BYTES):
                return waiting
            await asyncio.sleep(ATTEND_S)
        return None

    def _transfer_began(self) -> None:
        self._transfers += 1
        self._no_transfer.clear()
        self._trips.set_loaded(True)

    def _transfer_ended(self) -> None:
        self._transfers -= 1
        if not self._transfers:
            self._no_transfer.set()
            self._trips.set_loaded(self._courtesy.line_used(self._clocks.mono_ns()))

    async def _serve_uplink(self, stream: Channel, peer: str, size: int) -> None:
        self._transfer_began()
        try:
            await uplink.receive(stream, size, self._clocks.mono_ns)
        finally:
            self._book("uplink", peer, stream)
            self._transfer_ended()

    def _seconds_until(self, deadline_ns: int) -> float:
        return max(0, deadline_ns - self._clocks.mono_ns()) / NS_PER_S


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ms_from_ns(ns)


def _pace(plan: Plan, limits: PathsLimits) -> tuple[int, int]:
    """(interval, window) in ns; with many peers the interval grows, so that half the packets are left for answers.

    A peer to be measured more often than others takes that many shares.
    """
    measured = sum(peer.often for peer in plan.peers if peer.measure)
    floor_ns = max(MIN_INTERVAL_NS, int(measured * NS_PER_S / (limits.packets_per_s / 2)))
    interval_ns = max(floor_ns, int(plan.stamp_interval_ms * NS_PER_MS))
    return interval_ns, max(interval_ns, int(plan.window_ms * NS_PER_MS))


def _same(one: Peer, other: Peer) -> bool:
    """But for how often it is measured: that is no reason to begin anew."""
    return msgspec.structs.replace(one, often=1) == msgspec.structs.replace(other, often=1)


def _hop_config(plan: Plan) -> tuple[int, float, float]:
    return plan.hop_bytes, plan.hop_cadence_ms, plan.hop_every_ms


def _targets(peer: Peer, port: int) -> tuple[Target, ...]:
    if port == 0:
        return ()
    found = {host: target(host, port) for host in peer.hosts}
    for host, where in found.items():
        if where is None:
            log.warning("%s: %s is no address a probe sends to; left out", safe(peer.name), safe(host))
    return tuple(where for where in found.values() if where is not None)


def _aims(peer: Peer) -> list[Aim]:
    """Where its UDP port may be: as it names its addresses itself, then as STUN saw it."""
    punched = behind_nat(peer)
    seen = [target(mapped.host, mapped.port) for mapped in peer.mapped]
    routers = {to.sockaddr[0] for to in seen if to is not None}
    told = [Aim(to, punched and to.sockaddr[0] in routers) for to in _targets(peer, peer.udp_port)]
    known = {aim.to for aim in told}
    return told + [Aim(to, punched) for to in seen if to is not None and to not in known]


def _moved_only(before: Peer, after: Peer) -> bool:
    """Whether only its whereabouts changed, and it can still be sent to."""
    if not _aims(after):
        return False
    moved = msgspec.structs.replace(
        before,
        name=after.name,
        hosts=after.hosts,
        udp_port=after.udp_port,
        tcp_port=after.tcp_port,
        nat=after.nat,
        mapped=after.mapped,
        quic=after.quic,
        often=after.often,
    )
    return moved == after


def _port_error(kind: str, host: str, port: int, error: OSError, so: str) -> str:
    where = f"{kind} port {port or '(any)'}" + (f" of {host}" if host else "")
    said = error.strerror if error.errno == errno.EINVAL and error.strerror else why(error)
    return f"cannot use {where} ({said}); {so}"
