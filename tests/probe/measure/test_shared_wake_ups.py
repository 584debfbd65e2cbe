"""Two members on fast uplinks measure each other without listening: what has come is read when something is due."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter

import pytest

from swarm_probe.clocks import Clocks
from swarm_probe.measure.round_trips import RoundTrips
from swarm_probe.measure.send_timer import FROM_MBPS
from swarm_probe.owner_limits.egress_policy import EgressPolicy, Scope
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.sockets import target
from swarm_probe.udp.rtt_session import RttTarget
from swarm_protocol.messages.probe_messages import Peer
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.units import NS_PER_MS

INTERVAL_NS, WINDOW_NS = 500 * NS_PER_MS, 1_000 * NS_PER_MS
PATIENCE_S = 30.0


class Member:
    def __init__(self, seed: int) -> None:
        self.samples: asyncio.Queue[LinkSample] = asyncio.Queue()
        self.counts: Counter[str] = Counter()
        self.awake = 0
        self.trips = RoundTrips(
            self.samples.put_nowait,
            self.counts,
            Clocks(),
            random.Random(seed),
            packets_per_s=100.0,
            traffic_budget=TrafficBudget(daily_bytes=None),
            allowed=EgressPolicy(Scope.HOST),
            awake=self._awake,
        )
        self.trips.open("127.0.0.1", 0)
        self.trips.uplink(FROM_MBPS)

    def _awake(self) -> None:
        self.awake += 1

    def measures(self, other: Member, *, out: int, back: int) -> None:
        where = target("127.0.0.1", other.trips.port)
        assert where is not None
        peer = Peer(
            node_id=f"{out:016x}", name=f"node{out}", hosts=("127.0.0.1",), udp_port=other.trips.port, tcp_port=0,
            stamp_key=bytes(32), ssid_out=out, ssid_in=back, follow_up=True,
        )  # fmt: skip
        self.trips.announce([peer])
        self.trips.begin(peer, [RttTarget(where)], INTERVAL_NS, WINDOW_NS)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="without the kernel's stamps nothing waits")
async def test_members_that_do_not_listen_measure_each_other_and_lose_nothing() -> None:
    one, two = Member(1), Member(2)
    try:
        one.measures(two, out=1, back=2)
        two.measures(one, out=2, back=1)
        async with asyncio.timeout(PATIENCE_S):
            for member in (one, two):
                sample = await member.samples.get()
                assert sample.lost == 0
                assert sample.timestamps == "kernel"
                assert not member.trips._udp._listening
                # what waited in the sockets, up to a quarter of a second at either end, is no part of the path
                assert sample.rtt_p50_ms is not None
                assert sample.rtt_p50_ms < 100
                assert member.awake > 0
    finally:
        one.trips.close()
        two.trips.close()
