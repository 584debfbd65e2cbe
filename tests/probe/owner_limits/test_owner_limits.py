"""The promises to volunteers in probe/README.md hold, whatever a collector or a stranger requests."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest

from swarm_probe.measure import hop_rounds, slot_scheduler
from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_probe.owner_limits.idle_policy import IdlePolicy
from swarm_probe.owner_limits.traffic_budget import (
    FREE_SHARE,
    TrafficBudget,
)
from swarm_probe.sockets import target
from swarm_protocol.messages.probe_messages import Peer, Plan, UplinkLease
from swarm_protocol.messages.samples import LinkSample, Sample
from swarm_protocol.rate_limit import TokenBucket

KEY = bytes(range(32))
ME, OTHER = "a" * 16, "b" * 16


class Node:
    def __init__(self, traffic_budget: TrafficBudget | None = None, idle_policy: IdlePolicy | None = None) -> None:
        self.samples: list[Sample] = []
        self.more = asyncio.Event()
        self.paths = Paths(PathsConfig("127.0.0.1"), self._emit, traffic_budget=traffic_budget, idle_policy=idle_policy)

    def _emit(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.more.set()

    async def counts(self, name: str, least: int = 1) -> int:
        async with asyncio.timeout(10):
            while (count := self.paths.counters().get(name, 0)) < least:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        return count

    def peer(self, node_id: str, out: int, into: int) -> Peer:
        return Peer(
            node_id=node_id, name=node_id[:4], hosts=("127.0.0.1",), udp_port=self.paths.udp_port,
            tcp_port=self.paths.tcp_port, stamp_key=KEY, ssid_out=out, ssid_in=into,
        )  # fmt: skip


def plan(*peers: Peer, interval_ms: float = 30.0, hop_every_ms: float = 1000.0) -> Plan:
    return Plan(
        revision=1, peers=peers, stamp_interval_ms=interval_ms, window_ms=300.0, hop_bytes=4096, hop_cadence_ms=1.0,
        hop_every_ms=hop_every_ms, host_every_ms=1000.0,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_rounds, "FIRST_HOP_S", 0.02)
    monkeypatch.setattr("swarm_probe.measure.hop.IDLE_NS", 1_000_000)


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    made: list[Node] = []
    yield made
    for node in made:
        await node.paths.close()


async def introduced(nodes: list[Node], me: Node, **planned: float) -> Node:
    other = Node()
    nodes += [me, other]
    for node in (me, other):
        await node.paths.start()
    me.paths.update(plan(other.peer(OTHER, 1, 2), **planned))
    other.paths.update(plan(me.peer(ME, 2, 1), **planned))
    return other


def lease(peer: str = OTHER, expires_ms: float = 500.0) -> UplinkLease:
    return UplinkLease(lease_id=1, peer=peer, max_bytes=4 << 20, expires_ms=expires_ms)


async def test_with_the_days_bytes_used_nothing_is_begun_and_nothing_answered(nodes: list[Node]) -> None:
    import time

    traffic_budget = TrafficBudget(1_000_000)
    traffic_budget.spend("hop", "", 990_000, 0, time.time_ns())
    me = Node(traffic_budget)
    other = await introduced(nodes, me)
    assert await me.counts("stamp_held_back") > 0
    assert await me.counts("ignored_budget") > 0
    assert await me.counts("hops_postponed") > 0
    ok, why, _ = await me.paths.run_uplink(lease())
    assert (ok, why) == (False, "bbbb: the tests' share of 1 MB a day is used; raise --daily-bytes or wait")
    ok, why, _ = await other.paths.run_uplink(lease(ME, 3000.0))
    assert not ok
    assert "the peer is paused" in why
    counted = me.paths.counters()
    assert counted.get("stamp_sent", 0) == counted.get("stamp_answered", 0) == counted.get("hops_measured", 0) == 0
    assert counted.get("udp_packets_sent", 0) == 0


async def test_above_the_free_share_round_trips_are_thrifty_and_tests_rest(nodes: list[Node]) -> None:
    import time

    traffic_budget = TrafficBudget(10_000_000)
    traffic_budget.spend("hop", "", int(FREE_SHARE * 10_000_000), 0, time.time_ns())
    me = Node(traffic_budget)
    await introduced(nodes, me)
    assert await me.counts("stamp_held_back", 10) >= 10
    counted = me.paths.counters()
    assert 1 <= counted["stamp_sent"] <= 4
    assert counted["stamp_answered"] > counted["stamp_sent"]  # others are still answered
    assert counted.get("hops_measured", 0) == 0


async def test_on_battery_nothing_is_begun_but_others_are_answered(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_me = iter([64.0])  # who starts first asks first; the next look is half a minute away
    monkeypatch.setattr(slot_scheduler, "system_battery", lambda: next(only_me, None))
    me = Node()
    await introduced(nodes, me)
    assert await me.counts("stamp_answered", 3) >= 3
    assert await me.counts("hops_postponed") > 0
    assert me.paths.counters().get("stamp_sent", 0) == 0
    ok, why, _ = await me.paths.run_uplink(lease())
    assert (ok, why) == (False, "bbbb: the machine runs on battery (64 %)")


async def test_while_the_owner_uses_the_line_tests_wait_and_windows_are_marked(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    total = 0

    def busy() -> dict[str, tuple[int, int]]:
        nonlocal total
        total += 2_000_000
        return {"eth0": (total, 0)}

    monkeypatch.setattr(slot_scheduler, "system_counters", busy)
    monkeypatch.setattr(slot_scheduler, "ATTEND_S", 0.51)
    me = Node()
    await introduced(nodes, me, hop_every_ms=60_000.0)
    async with asyncio.timeout(10):
        while not any(isinstance(sample, LinkSample) and sample.loaded for sample in me.samples):
            me.more.clear()
            await me.more.wait()
    ok, why, _ = await me.paths.run_uplink(lease())
    assert not ok
    assert why.startswith("bbbb: other programs use the line (")


async def test_no_plan_makes_a_probe_send_more_than_100_packets_a_second(nodes: list[Node]) -> None:
    """40 peers to be asked every 10 ms, who all ask back."""
    me, other = Node(), Node()
    nodes += [me, other]
    for node in (me, other):
        await node.paths.start()
    many = [msgspec.structs.replace(other.peer(f"{k:016x}", k, 1000 + k), often=16) for k in range(1, 41)]
    me.paths.update(plan(*many, interval_ms=10.0, hop_every_ms=3_600_000.0))
    back = [msgspec.structs.replace(me.peer(f"{k:016x}", 1000 + k, k), often=16) for k in range(1, 41)]
    other.paths.update(plan(*back, interval_ms=10.0, hop_every_ms=3_600_000.0))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await me.counts("stamp_sent", 60)
    took = loop.time() - began
    counted = me.paths.counters()
    assert counted["stamp_sent"] + counted.get("stamp_answered", 0) <= 100 + 100 * took  # a second's worth at once


def test_the_packet_bucket_holds_a_second_at_most() -> None:
    bucket = TokenBucket(100.0, 100.0)
    sent = sum(bucket.take(at * 1_000_000) for at in range(10_000) for _ in range(5))
    assert sent <= 100 + 10 * 100


@pytest.mark.parametrize("host", ["example.org", "224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "localhost"])
def test_a_probe_sends_to_plain_unicast_addresses_only(host: str) -> None:
    assert target(host, 9) is None


async def test_the_only_open_ports_are_the_two_announced_and_both_answer_members_only(nodes: list[Node]) -> None:
    me = Node()
    nodes.append(me)
    before = {c.laddr for c in psutil.Process(os.getpid()).net_connections()}
    await me.paths.start()
    opened = [c for c in psutil.Process(os.getpid()).net_connections() if c.laddr not in before]
    assert {(c.type, c.laddr.port) for c in opened} == {
        (socket.SOCK_DGRAM, me.paths.udp_port),
        (socket.SOCK_STREAM, me.paths.tcp_port),
    }
