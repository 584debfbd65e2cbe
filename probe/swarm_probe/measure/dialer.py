"""Connect to a peer for a hop or a transfer: by TCP, or by QUIC through a NAT hole that STAMP packets have punched; for
hops of a decode step's size through the collector, if neither works.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from swarm_probe.light_imports import aioquic_without_verification
from swarm_probe.measure.peer import PeerState
from swarm_probe.measure.round_trips import RoundTrips
from swarm_probe.sockets import ANY_WAY, Leave, Target
from swarm_probe.streams.channel import Channel, NoAnswer, PeerError
from swarm_probe.streams.relay_stream import RelayPort
from swarm_probe.streams.tcp_endpoint import DIAL_S, Purpose, Stream, dial
from swarm_probe.udp.udp_socket import Arrival
from swarm_protocol.messages.samples import Transport
from swarm_protocol.units import NS_PER_S

if TYPE_CHECKING:
    from swarm_probe.streams.quic_endpoint import QuicPort

TCP_AGAIN_NS: Final = 3600 * NS_PER_S  # a port may have been forwarded meanwhile
STAGGER_S: Final = 0.25  # RFC 8305, section 5: between calls to one address and the next
DIAL_WITH_HOLE_S: Final = 2.0  # with a hole there is another way; a lost SYN is sent again after one second
MAX_RELAY: Final = 32 << 10  # bytes of a hop that the collector relays
QUIC: Final = importlib.util.find_spec("aioquic") is not None


class Dialer:
    def __init__(
        self,
        round_trips: RoundTrips,
        serve: Callable[[Channel], Awaitable[None]],
        counts: Counter[str],
        mono_ns: Callable[[], int],
        leave: Leave = ANY_WAY,
    ) -> None:
        """Create it. `serve` handles what a peer opens over QUIC."""
        self._leave = leave
        self._round_trips = round_trips
        self._serve = serve
        self._counts = counts
        self._mono_ns = mono_ns
        self._quic: QuicPort | None = None
        self.relay: RelayPort | None = None  # None: no relay
        if QUIC:
            round_trips.take_quic = self._take
            round_trips.urgent = lambda: self._quic is not None and self._quic.connected

    async def dial(self, member: PeerState, purpose: Purpose, size: int) -> tuple[Channel, Transport]:
        """Dial by TCP, or by another transport if TCP has failed recently. Raises PeerError."""
        if self._mono_ns() >= member.tcp_again_ns or not self.others(member, purpose, size):
            try:
                return await self._dial_tcp(member, purpose, size), "tcp"
            except NoAnswer:  # a peer that answers and hangs up may not know this probe yet
                if not self.others(member, purpose, size):  # a hole may have opened meanwhile
                    raise
                member.tcp_again_ns = self._mono_ns() + TCP_AGAIN_NS
        if (hole := self.punched_target(member)) is not None:
            return await self._quic_port().dial(hole, member.caller, purpose, size), "quic"
        if member.rtt is not None and self._round_trips.punching(member.rtt):
            raise NoAnswer("a hole to it is being punched")  # a relayed figure would be taken for the path's
        assert self.relay is not None
        return await self.relay.dial(member.caller, purpose, size), "relay"

    def others(self, member: PeerState, purpose: Purpose, size: int) -> bool:
        """Return whether a transport other than TCP is available."""
        by_collector = purpose is Purpose.HOP and size <= MAX_RELAY and member.peer.relay and self.relay is not None
        return by_collector or self.punched_target(member) is not None

    def punched_target(self, member: PeerState) -> Target | None:
        """Return where QUIC may go: an address of the peer that only a punched hole makes reachable, and that
        answers."""
        rtt = member.rtt
        if not QUIC or not member.peer.quic or rtt is None:
            return None
        host = rtt.session.host
        return rtt.targets[host] if host is not None and rtt.punched[host] else None

    def by_quic(self, member: PeerState) -> bool:
        """Return whether the next connection will use the hole, since TCP did not work lately."""
        return self.punched_target(member) is not None and self._mono_ns() < member.tcp_again_ns

    async def close(self) -> None:
        if self._quic is not None:
            await self._quic.close()
        if self.relay is not None:
            await self.relay.close()

    def _take(self, arrival: Arrival) -> bool:
        return self._quic_port().receive(arrival)

    def _quic_port(self) -> QuicPort:
        if self._quic is None:
            aioquic_without_verification()
            from swarm_probe.streams.quic_endpoint import QuicPort  # late: 11 MB that few probes ever need

            self._quic = QuicPort(self._round_trips.send, self._serve, self._counts)
        return self._quic

    async def _dial_tcp(self, member: PeerState, purpose: Purpose, size: int) -> Stream:
        """Dial the address that answered last first, then the others in the plan's order, each STAGGER_S later or when
        the previous one has failed (RFC 8305, section 5). Raises PeerError."""
        within_s = DIAL_S if self.punched_target(member) is None else DIAL_WITH_HOLE_S
        waiting = sorted(range(len(member.tcp)), key=lambda i: i != member.tcp_first)
        failed: PeerError = NoAnswer("no TCP address in the plan")
        calls: dict[asyncio.Task[Stream], int] = {}
        try:
            while waiting or calls:
                if waiting:
                    index = waiting.pop(0)
                    if not self._round_trips.allowed.may_dial(member.tcp[index], self._mono_ns()):
                        self._counts["tcp_not_asked"] += 1
                        if isinstance(failed, NoAnswer):
                            failed = NoAnswer("it has not answered, and was tried often enough for now")
                        continue
                    call = dial(member.tcp[index], member.caller, purpose, size, self._counts, within_s, self._leave)
                    calls[asyncio.create_task(call)] = index
                done, _ = await asyncio.wait(
                    calls, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    if not isinstance(error := task.exception(), PeerError):
                        index = calls.pop(task)
                        stream = task.result()
                        member.tcp_first = index
                        self._round_trips.allowed.answered(member.tcp[index], self._mono_ns())
                        return stream
                    del calls[task]
                    if isinstance(failed, NoAnswer):  # the error of an address that answered takes precedence
                        failed = error
        finally:
            for task in calls:
                task.cancel()
            for late in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(late, Stream):
                    late.close()
        raise failed
