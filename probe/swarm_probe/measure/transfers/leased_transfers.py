"""Run a leased transfer to one peer, with round trips before it (idle) and during it (loaded).

Where the peer takes trains of UDP packets (`swarm_probe.trains`) and answers STAMP, they come first: jitter and loss do
not slow them down as they do TCP. What they leave of the lease goes to a transfer on the same connection where they
show no rate: the path is faster than this machine sends trains, or drops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from swarm_probe.clocks import Clocks
from swarm_probe.measure.dialer import Dialer
from swarm_probe.measure.peer import PeerState
from swarm_probe.measure.round_trips import RoundTrips
from swarm_probe.measure.slot_scheduler import ATTEND_S, SlotScheduler
from swarm_probe.measure.transfers import uplink
from swarm_probe.owner_limits.traffic_budget import UDP_HEADERS
from swarm_probe.quantiles import median, quantile
from swarm_probe.sockets import Target
from swarm_probe.streams.channel import Busy, Channel, PeerError, Unreachable
from swarm_probe.streams.tcp_endpoint import Purpose
from swarm_probe.trains import exchange, wire
from swarm_probe.trains.rounds import MIN_PACKET_BYTES, TrainTest
from swarm_probe.udp.rtt_session import IDLE_RTTS_MIN, RttSession
from swarm_protocol.messages.probe_messages import UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import ProbeSample, UplinkSample, UplinkTransport
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S, ms_from_ns

IDLE_WAIT_S: Final = 1.5  # for a few round trips of the idle connection, before a transfer
IP_TCP_HEADERS: Final = {4: 40, 6: 60}  # bytes, without options
ETHERNET_BYTES: Final = 1500  # of IP: larger packets, of loopback, are of no path between homes
LOADED_RTTS_MIN: Final = 3
LOADED_PACE_NS: Final = 20 * NS_PER_MS  # a transfer over a fast connection lasts a fifth of a second
LOADED_PACE_LATER_NS: Final = 100 * NS_PER_MS
LOADED_PACE_FAST_S: Final = 1.0  # after this the slower pace is enough, and cheaper
REST_BYTES: Final = 256 << 10  # with less left after trains a transfer would show nothing
MIN_TRANSFER_BYTES: Final = 1 << 20  # with less left of the day no transfer is begun
GRANT_WAIT_S: Final = 2.0  # the grant comes over another connection than the transfer
MAX_GRANTS: Final = 64
TRANSFER_LEAVES_NS: Final = 8 * NS_PER_S  # what must be left of the lease when a transfer begins
CLOSING_NS: Final = NS_PER_S  # of a lease, reserved for its end: the report, a close, a busy machine
SEND_S: Final = 12.0  # 4 MiB at 3 Mbit/s; more time would not show more
BUSY_AGAIN_S: Final = 1.0  # the last transfer has left all queues by then


class Outcome(NamedTuple):
    """The outcome of a lease. `detail`: one line."""

    ok: bool  # it gave a figure
    detail: str
    begun: bool  # bytes of it were sent


class _NotBegun(PeerError):
    """No connection."""


class Transfers:
    def __init__(
        self,
        dialer: Dialer,
        line: SlotScheduler,
        round_trips: RoundTrips,
        max_bytes: int,
        emit: Callable[[ProbeSample], None],
        counts: Counter[str],
        clocks: Clocks,
    ) -> None:
        self._dialer = dialer
        self._line = line
        self._round_trips = round_trips
        self._max_bytes = max_bytes
        self._emit = emit
        self._counts = counts
        self._clocks = clocks
        self.needs_grant = False  # unannounced transfers are refused
        self._grants: dict[str, tuple[UplinkGrant, int]] = {}  # sender → its latest grant, and until when
        self._granted = asyncio.Event()  # replaced at each

    def grant(self, grant: UplinkGrant) -> None:
        self._grants[grant.peer] = grant, self._clocks.mono_ns() + int(grant.expires_ms * NS_PER_MS)
        while len(self._grants) > MAX_GRANTS:
            del self._grants[next(iter(self._grants))]
        self._granted.set()
        self._granted = asyncio.Event()

    async def _take_grant(self, peer: str, size: int) -> None:
        """Use up the grant for so many bytes. Raises Unreachable if there is none."""
        if not self.needs_grant:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRANT_WAIT_S):
                while peer not in self._grants:
                    await self._granted.wait()
        grant, until_ns = self._grants.pop(peer, (None, 0))
        if grant is None or self._clocks.mono_ns() > until_ns or size > grant.max_bytes:
            self._counts["uplinks_not_granted"] += 1
            raise Unreachable("a transfer that the collector has not announced to this end")

    async def run(self, member: PeerState, lease: UplinkLease) -> Outcome:
        """Run one transfer to the lease's peer; emit its sample."""
        # what has been seen by the end of the lease is a bound, and must be reported before the lease ends
        deadline_ns = self._clocks.mono_ns() + int(lease.expires_ms * NS_PER_MS) - CLOSING_NS
        name = safe(member.peer.name)
        if not member.tcp and self._dialer.punched_target(member) is None:
            return Outcome(False, f"{name} has no TCP port to send to", begun=False)
        if self._line.own_transfer:
            return Outcome(False, "another transfer runs at this node", begun=False)
        self._line.own_transfer = True
        try:
            if (waiting := await self._wait_for_line(deadline_ns)) is not None:
                self._counts["uplinks_postponed"] += 1
                return Outcome(False, f"{name}: {waiting}", begun=False)
            transfer, transport, idle_ns, loaded_ns = await self._transfer(member, lease, deadline_ns)
        except (PeerError, TimeoutError) as error:
            self._counts["uplinks_failed"] += 1
            why = str(error) or f"the lease ran out after {lease.expires_ms:.0f} ms"
            return Outcome(False, f"{name}: {why}", begun=not isinstance(error, _NotBegun | TimeoutError))
        finally:
            self._line.own_transfer = False
        self._counts["uplinks_measured"] += 1
        self._round_trips.uplink(transfer.mbps)
        self._emit(
            UplinkSample(
                at_ns=self._clocks.wall_ns(),
                peer=lease.peer,
                sent_bytes=transfer.sent_bytes,
                mbps=transfer.mbps,
                bound=transfer.bound,
                rtt_idle_ms=None if idle_ns is None else ms_from_ns(idle_ns),
                rtt_loaded_ms=None if loaded_ns is None else ms_from_ns(loaded_ns),
                seconds=transfer.seconds,
                transport=transport,
            )
        )
        sign = "≥ " if transfer.bound else ""
        line = f"{name}: {sign}{transfer.mbps:.1f} Mbit/s, {transfer.sent_bytes} bytes ({transfer.ended})"
        return Outcome(True, line, begun=True)

    async def serve(self, stream: Channel, peer: str, size: int) -> None:
        """Serve the other end of a transfer."""
        await self._serve(stream, peer, size, uplink.receive(stream, size, self._clocks.mono_ns))

    async def serve_trains(self, stream: Channel, peer: str, size: int) -> None:
        """Serve the other end of a test that begins with trains; `size`: bytes of both."""
        await self._serve(stream, peer, size, self._collect(stream, peer, size))

    async def _serve(self, stream: Channel, peer: str, size: int, served: Coroutine[None, None, None]) -> None:
        with contextlib.closing(served):  # where it is never begun
            await self._take_grant(peer, size)
            with self._line.transfer():
                try:
                    await served
                finally:
                    self._line.book("uplink", peer, stream)

    async def _collect(self, stream: Channel, peer: str, size: int) -> None:
        name, port = self._line.names.get(peer, ""), self._round_trips.trains
        left = await exchange.receive(stream, size, name, port, self._clocks.mono_ns)
        if left:
            await uplink.receive(stream, left, self._clocks.mono_ns)

    async def _transfer(
        self, member: PeerState, lease: UplinkLease, deadline_ns: int
    ) -> tuple[uplink.Transfer, UplinkTransport, float | None, float | None]:
        """Return (the transfer, its transport, RTT before it, RTT during it: None where too few packets came back)."""
        rtt = member.rtt
        if rtt is not None:
            await self._settle_idle(rtt)
        idle = sorted(rtt.idle_rtts) if rtt is not None else []
        idle_ns = median(idle) if idle else None
        pdv_ns = quantile(idle, 0.95) - idle[0] if len(idle) >= IDLE_RTTS_MIN else None
        max_bytes = min(lease.max_bytes, self._max_bytes, self._line.room_bytes())
        with self._line.transfer():
            async with asyncio.timeout(self._seconds_until(deadline_ns)):
                async with self._line.hop_turn:  # a running round ends at its next message
                    pass
                to = self._train_target(member)
                purpose = Purpose.UPLINK if to is None else Purpose.TRAINS
                stream, transport = await self._dial(member, purpose, max_bytes, deadline_ns)
            try:
                with self._loaded_pace(rtt) as loaded:
                    began_ns, test = self._clocks.mono_ns(), _train_test(stream, to, max_bytes)
                    if to is not None:
                        loaded = await self._send_trains(stream, member, test, to, loaded, deadline_ns)
                    shown = _shown(test, (self._clocks.mono_ns() - began_ns) / NS_PER_S)
                    left = max_bytes - test.sent_packets * test.packet_bytes
                    if shown is not None and (not shown.bound or left < REST_BYTES):
                        await exchange.finish(stream)
                        return shown, "udp", idle_ns, _loaded_ns(loaded)
                    if to is not None:
                        await stream.write(wire.encode_order(wire.Order.TRANSFER, 0, left))
                    seconds = min(SEND_S, self._seconds_until(deadline_ns))
                    transfer = await uplink.send(stream, left, seconds, int(idle_ns or 0), self._clocks.mono_ns, pdv_ns)
            finally:
                stream.abort()  # nothing of it may be left in the queue when the next lease begins
                self._line.book("uplink", member.peer.node_id, stream)
        transfer = msgspec.structs.replace(transfer, sent_bytes=max_bytes - left + transfer.sent_bytes)
        if transport == "quic":  # our own encryption may have been the bottleneck
            transfer = msgspec.structs.replace(transfer, bound=True)
        if shown is not None and transfer.bound and shown.mbps > transfer.mbps:
            return msgspec.structs.replace(transfer, mbps=shown.mbps), "udp", idle_ns, _loaded_ns(loaded)
        return transfer, transport, idle_ns, _loaded_ns(loaded)

    def _train_target(self, member: PeerState) -> Target | None:
        """Return where trains to this peer may go: an address of it that has just answered signed packets."""
        rtt = member.rtt
        if not member.peer.trains or rtt is None or (host := rtt.session.host) is None:
            return None
        to = rtt.targets[host]
        return to if self._round_trips.allowed.consents(to, self._clocks.mono_ns()) else None

    async def _send_trains(
        self, stream: Channel, member: PeerState, test: TrainTest, to: Target, loaded: list[int], deadline_ns: int
    ) -> list[int]:
        """Send the trains; return the round trips that came back during the last one. Raises PeerError."""
        name, port = safe(member.peer.name), self._round_trips.trains
        during: list[int] = []

        def sent() -> None:
            during[:] = loaded
            loaded.clear()

        payload_bytes = test.packet_bytes - UDP_HEADERS[6 if to.family == socket.AF_INET6 else 4]
        sender = exchange.PacketSender(lambda packets: port.send(packets, to, name), payload_bytes)
        try:
            async with asyncio.timeout(self._seconds_until(deadline_ns)):
                await exchange.send(stream, test, sender, self._clocks.mono_ns, sent)
        except TimeoutError as error:  # bytes were sent: not the same as a lease that ran out before
            raise Unreachable("the lease ran out during the trains") from error
        return during if test.outcome() is not None else loaded

    async def _dial(
        self, member: PeerState, purpose: Purpose, max_bytes: int, deadline_ns: int
    ) -> tuple[Channel, UplinkTransport]:
        """Dial, and retry a busy peer: it may not have seen yet that its last transfer has ended. Raises _NotBegun."""
        while True:
            try:
                return await self._dialer.dial(member, purpose, max_bytes)
            except PeerError as error:
                late = self._clocks.mono_ns() + TRANSFER_LEAVES_NS > deadline_ns
                if late or not isinstance(error, Busy):
                    raise _NotBegun(str(error)) from error
            await asyncio.sleep(BUSY_AGAIN_S)

    async def _settle_idle(self, rtt: RttSession) -> None:
        """Wait for a few round trips of the idle line if there are none yet; continue without them if none come."""
        if len(rtt.idle_rtts) >= IDLE_RTTS_MIN:
            return
        self._round_trips.pace(rtt, LOADED_PACE_NS)
        try:
            async with asyncio.timeout(IDLE_WAIT_S):
                await rtt.enough_idle.wait()
        except TimeoutError:
            self._counts["uplinks_without_idle_rtt"] += 1
        finally:
            self._round_trips.pace(rtt, None)

    @contextmanager
    def _loaded_pace(self, rtt: RttSession | None) -> Iterator[list[int]]:
        """Send denser round trips to this peer meanwhile, and add them to a list."""
        rtts: list[int] = []
        if rtt is None:
            yield rtts
            return
        rtt.loaded_rtts = rtts
        self._round_trips.pace(rtt, LOADED_PACE_NS)
        later = asyncio.get_running_loop().call_later(
            LOADED_PACE_FAST_S, self._round_trips.pace, rtt, LOADED_PACE_LATER_NS
        )
        try:
            yield rtts
        finally:
            later.cancel()
            rtt.loaded_rtts = None
            self._round_trips.pace(rtt, None)

    async def _wait_for_line(self, deadline_ns: int) -> str | None:
        """Wait until a transfer would disturb no one; return why not, if that takes longer than the lease allows."""
        while (waiting := self._why_waiting()) is not None:
            if self._clocks.mono_ns() + TRANSFER_LEAVES_NS > deadline_ns or self._line.is_full(MIN_TRANSFER_BYTES):
                return waiting
            await asyncio.sleep(ATTEND_S)
        return None

    def _why_waiting(self) -> str | None:
        if self._line.transferring:
            return "another transfer runs at this node"
        return self._line.why_waiting(MIN_TRANSFER_BYTES)

    def _seconds_until(self, deadline_ns: int) -> float:
        return max(0, deadline_ns - self._clocks.mono_ns()) / NS_PER_S


def _shown(test: TrainTest, seconds: float) -> uplink.Transfer | None:
    """Return the result of the trains; None: they gave none."""
    outcome = test.outcome()
    if outcome is None:
        return None
    return uplink.Transfer(
        test.sent_packets * test.packet_bytes, outcome.mbps, outcome.bound, seconds, "trains over UDP"
    )


def _train_test(stream: Channel, to: Target | None, max_bytes: int) -> TrainTest:
    """Return a test whose packets are no larger than those of the connection to the same peer."""
    test = TrainTest(max_bytes)
    if stream.kernel is None or to is None:
        return test
    mss, options = uplink.segment_bytes(stream.kernel)
    headers = IP_TCP_HEADERS[6 if to.family == socket.AF_INET6 else 4] + options
    full = min(mss + headers, ETHERNET_BYTES)
    test.packet_bytes = max(MIN_PACKET_BYTES, min(test.packet_bytes, full))
    test.tcp_share = (full - headers) / full
    return test


def _loaded_ns(loaded: list[int]) -> float | None:
    """Return the round trip under load. The later half: the queue fills at the beginning."""
    return median(loaded[len(loaded) // 2 :]) if len(loaded) >= LOADED_RTTS_MIN else None
