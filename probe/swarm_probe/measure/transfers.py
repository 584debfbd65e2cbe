"""Run a leased transfer to one peer, with round trips before it (idle) and during it (loaded)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Final, NamedTuple

from swarm_probe.clocks import Clocks
from swarm_probe.measure import uplink
from swarm_probe.measure.dialer import Dialer
from swarm_probe.measure.peer import PeerState
from swarm_probe.measure.round_trips import RoundTrips
from swarm_probe.measure.slot_scheduler import ATTEND_S, SlotScheduler
from swarm_probe.quantiles import quantile
from swarm_probe.streams.channel import Busy, Channel, PeerError, Unreachable
from swarm_probe.streams.tcp_endpoint import Purpose
from swarm_probe.udp.rtt_session import IDLE_RTTS_MIN, RttSession
from swarm_protocol.messages.probe_messages import UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import ProbeSample, Transport, UplinkSample
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S, ms_from_ns

IDLE_WAIT_S: Final = 1.5  # for a few round trips of the quiet line, before a transfer
LOADED_RTTS_MIN: Final = 3
LOADED_PACE_NS: Final = 20 * NS_PER_MS  # a transfer on a fast line lasts a fifth of a second
LOADED_PACE_LATER_NS: Final = 100 * NS_PER_MS
LOADED_PACE_FAST_S: Final = 1.0  # after this the slower pace is enough, and cheaper
LEAST_TRANSFER_BYTES: Final = 1 << 20  # with less left of the day no transfer is begun
GRANT_WAIT_S: Final = 2.0  # the grant comes by another connection than the transfer
MAX_GRANTS: Final = 64
TRANSFER_LEAVES_NS: Final = 8 * NS_PER_S  # what a transfer should have left of its lease when it begins
CLOSING_NS: Final = NS_PER_S  # of a lease, kept for its end: the report, a close, a busy machine
SEND_S: Final = 12.0  # 4 MiB at 3 Mbit/s; what a line has not shown by then it will not show in the rest of the lease
BUSY_AGAIN_S: Final = 1.0  # what the last transfer left in queues is gone by then


class Outcome(NamedTuple):
    """Of a lease. `detail`: one line."""

    ok: bool  # it measured
    detail: str
    begun: bool  # bytes of it were sent


class _NotBegun(PeerError):
    """No connection."""


class Transfers:
    def __init__(
        self,
        dialer: Dialer,
        line: SlotScheduler,
        trips: RoundTrips,
        max_bytes: int,
        emit: Callable[[ProbeSample], None],
        counts: Counter[str],
        clocks: Clocks,
    ) -> None:
        self._dialer = dialer
        self._line = line
        self._trips = trips
        self._max_bytes = max_bytes
        self._emit = emit
        self._counts = counts
        self._clocks = clocks
        self.needs_grant = False  # what nobody announced is not taken
        self._grants: dict[str, tuple[UplinkGrant, int]] = {}  # sender → its latest grant, and until when
        self._granted = asyncio.Event()  # replaced at each

    def grant(self, grant: UplinkGrant) -> None:
        self._grants[grant.peer] = grant, self._clocks.mono_ns() + int(grant.expires_ms * NS_PER_MS)
        while len(self._grants) > MAX_GRANTS:
            del self._grants[next(iter(self._grants))]
        self._granted.set()
        self._granted = asyncio.Event()

    async def _take_grant(self, peer: str, size: int) -> None:
        """Uses up the leave to send so much. Raises Unreachable where there is none."""
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
        """One transfer to the lease's peer; emits its sample."""
        # what has been seen by the end of the lease is a bound, and must be told before it is taken away
        deadline_ns = self._clocks.mono_ns() + int(lease.expires_ms * NS_PER_MS) - CLOSING_NS
        name = safe(member.peer.name)
        if not member.tcp and self._dialer.hole(member) is None:
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
        """The other end of one."""
        await self._take_grant(peer, size)
        with self._line.transfer():
            try:
                await uplink.receive(stream, size, self._clocks.mono_ns)
            finally:
                self._line.book("uplink", peer, stream)

    async def _transfer(
        self, member: PeerState, lease: UplinkLease, deadline_ns: int
    ) -> tuple[uplink.Transfer, Transport, float | None, float | None]:
        """(the transfer, what carried it, RTT before it, and during it: None where too few packets came back)"""
        trips = member.trips
        if trips is not None:
            await self._settle_idle(trips)
        idle = sorted(trips.idle_rtts) if trips is not None else []
        idle_ns = median(idle) if idle else None
        pdv_ns = quantile(idle, 0.95) - idle[0] if len(idle) >= IDLE_RTTS_MIN else None
        max_bytes = min(lease.max_bytes, self._max_bytes, self._line.room_bytes())
        with self._line.transfer():
            async with asyncio.timeout(self._seconds_until(deadline_ns)):
                async with self._line.hop_turn:  # a round that runs ends at its next message
                    pass
                stream, transport = await self._dial(member, max_bytes, deadline_ns)
            try:
                with self._loaded_pace(trips) as loaded:
                    seconds = min(SEND_S, self._seconds_until(deadline_ns))
                    transfer = await uplink.send(
                        stream, max_bytes, seconds, int(idle_ns or 0), self._clocks.mono_ns, pdv_ns
                    )
            finally:
                stream.abort()  # whoever has the next lease of this line finds it empty
                self._line.book("uplink", member.peer.node_id, stream)
        # the later half: the queue fills while the transfer gets going
        loaded_ns = median(loaded[len(loaded) // 2 :]) if len(loaded) >= LOADED_RTTS_MIN else None
        if transport == "quic":  # it may be our own encryption that was the bottleneck
            transfer = replace(transfer, bound=True)
        return transfer, transport, idle_ns, loaded_ns

    async def _dial(self, member: PeerState, max_bytes: int, deadline_ns: int) -> tuple[Channel, Transport]:
        """Tries a busy peer again: it may not have seen yet that its last transfer has ended. Raises _NotBegun."""
        while True:
            try:
                return await self._dialer.dial(member, Purpose.UPLINK, max_bytes)
            except PeerError as error:
                late = self._clocks.mono_ns() + TRANSFER_LEAVES_NS > deadline_ns
                if late or not isinstance(error, Busy):
                    raise _NotBegun(str(error)) from error
            await asyncio.sleep(BUSY_AGAIN_S)

    async def _settle_idle(self, trips: RttSession) -> None:
        """Wait for a few round trips of the idle line if there are none yet; continue without them if none come."""
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
    def _loaded_pace(self, trips: RttSession | None) -> Iterator[list[int]]:
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
        """Wait until a transfer disturbs nobody; why not, if that takes longer than the lease allows."""
        while (waiting := self._why_waiting()) is not None:
            if self._clocks.mono_ns() + TRANSFER_LEAVES_NS > deadline_ns or self._line.is_full(LEAST_TRANSFER_BYTES):
                return waiting
            await asyncio.sleep(ATTEND_S)
        return None

    def _why_waiting(self) -> str | None:
        if self._line.transferring:
            return "another transfer runs at this node"
        return self._line.why_waiting(LEAST_TRANSFER_BYTES)

    def _seconds_until(self, deadline_ns: int) -> float:
        return max(0, deadline_ns - self._clocks.mono_ns()) / NS_PER_S
