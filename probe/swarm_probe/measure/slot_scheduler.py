"""Schedule tests on the owner's internet connection: one at a time, and none that the owner's limits forbid.

Hops run one at a time, a transfer has the connection for itself, and every window of round trips that it touches is
marked as loaded. The traffic budget and `idle_policy` are checked here, for our own tests and those of others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from swarm_probe.clocks import Clocks
from swarm_probe.measure.round_trips import RoundTrips
from swarm_probe.owner_limits.idle_policy import IdlePolicy, system_battery, system_counters
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.streams.channel import Channel
from swarm_probe.streams.tcp_endpoint import Stream
from swarm_probe.wake_ups import WakeUps
from swarm_protocol.units import NS_PER_S

ATTEND_S: Final = 1.0  # at most, between checks
TAIL_NS: Final = 5 * NS_PER_S  # a second of queue at both ends, and a late check
DRAIN_S: Final = 2.0  # after a transfer: a second of queue at both ends is part of it
BATTERY_EVERY: Final = 30  # checks


class SlotScheduler:
    def __init__(
        self,
        trips: RoundTrips,
        traffic_budget: TrafficBudget,
        idle_policy: IdlePolicy,
        counts: Counter[str],
        clocks: Clocks,
        wake_ups: WakeUps,
    ) -> None:
        self.hop_turn = asyncio.Lock()
        self.no_transfer = asyncio.Event()
        self.no_transfer.set()
        self.own_transfer = False  # one of ours is being prepared, or runs
        self.names: dict[str, str] = {}  # of the plan's peers, for the record
        self.link_carried: Callable[[], tuple[int, int]] = lambda: (0, 0)  # bytes to and from the collector
        self._transfers = 0  # at this node, in either direction
        self._tested_ns: int | None = None  # when a test was last seen running, or ended
        self._served_hops = 0
        self._trips = trips
        self._traffic_budget = traffic_budget
        self._idle_policy = idle_policy
        self._counts = counts
        self._clocks = clocks
        self._wake_ups = wake_ups

    # ------------------------------------------------------------ one at a time

    @property
    def transferring(self) -> bool:
        return self._transfers > 0

    @property
    def busy(self) -> bool:
        return self.own_transfer or self.transferring

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """Run one transfer, of either direction; it ends when its bytes have left all queues."""
        self._transfers += 1
        self.no_transfer.clear()
        self._trips.set_loaded(True)
        try:
            yield
        finally:
            self._tested_ns = self._clocks.mono_ns()
            asyncio.get_running_loop().call_later(DRAIN_S, self._drained)

    def _drained(self) -> None:
        self._transfers -= 1
        if not self._transfers:
            self.no_transfer.set()
            self._trips.set_loaded(self._idle_policy.line_used(self._clocks.mono_ns()))

    @contextmanager
    def serving_hops(self) -> Iterator[None]:
        self._served_hops += 1
        try:
            yield
        finally:
            self._served_hops -= 1
            self._tested_ns = self._clocks.mono_ns()

    # ------------------------------------------------------------ the owner's limits

    async def attend(self) -> None:
        """Check for other traffic and for battery power, until cancelled."""
        looks, used, readings = 0, False, self._idle_policy.readings
        while True:
            if looks % BATTERY_EVERY == 0:
                self._idle_policy.battery(readings.ask("battery", system_battery))
                self._trips.paused = self._idle_policy.battery_percent is not None
            looks += 1
            now_ns = self._clocks.mono_ns()
            # including the collector's connection: an answer to its challenge is a hundred kilobytes at once
            sent, received = (
                self._counts[f"udp_bytes_{way}"] + self._counts[f"tcp_bytes_{way}"] + by_link
                for way, by_link in zip(("sent", "received"), self.link_carried(), strict=True)
            )
            if self.transferring or self._served_hops > 0 or self.hop_turn.locked():
                self._tested_ns = now_ns
            # bytes left in queues when a transfer was ended early still arrive, and are not other traffic
            testing = self._tested_ns is not None and now_ns - self._tested_ns < TAIL_NS
            counters = readings.ask("other programs' traffic", system_counters) or {}
            self._idle_policy.look(now_ns, counters, (sent, received), testing=testing)
            if self._idle_policy.line_used(now_ns) != used:
                used = not used
                self._trips.set_loaded(used or self.transferring)
            self._trips.book_others()
            await self._wake_ups.pause(ATTEND_S)

    def why_waiting(self, size_bytes: int) -> str | None:
        """Return why no test of `size_bytes` is begun or served now, in one line."""
        if self.is_full(size_bytes):
            limit = self._traffic_budget.limit_bytes or 0
            return f"the tests' share of {limit / 1e6:.0f} MB a day is used; raise --daily-bytes or wait"
        return self._idle_policy.why_waiting(self._clocks.mono_ns())

    def is_full(self, size_bytes: int) -> bool:
        return self.room_bytes() < size_bytes

    def room_bytes(self) -> int:
        """Return what one test may take of the day."""
        return self._traffic_budget.room_bytes(self._clocks.wall_ns())

    def book(self, kind: Literal["hop", "uplink"], peer: str, stream: Channel) -> None:
        """Record what a connection carried."""
        if not isinstance(stream, Stream):
            return  # over QUIC the UDP port's own counters have it, by the collector the connection's
        self._traffic_budget.spend_tcp(
            kind,
            self.names.get(peer, ""),
            sent=stream.sent_bytes,
            received=stream.received_bytes,
            now_ns=self._clocks.wall_ns(),
        )
